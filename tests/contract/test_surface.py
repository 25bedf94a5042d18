"""What LiteLLM's releases use of `prisma` is what the contract lists, and what the stand-in has."""

import importlib
import inspect
import re
from typing import Any

import pytest

from litellm_sqlalchemy.prisma_client.client import Actions, BatchActions
from tests.contract.scanner.contract import outside, read, stale
from tests.contract.scanner.source import Release, installed
from tests.contract.scanner.surface import Use, scan
from tests.gateway.fix_litellm import WITH_NEWEST, site_packages

CURE = (
    "Cure: let the stand-in provide it, prove it by a case in tests/contract, then list it in surface.toml; "
    "what the scanner takes for prisma's and is not, teach the scanner"
)
# Without prisma.config, LiteLLM goes on: there is no toolchain to be configured.
IMPORTED = {module: names for module, names in read()["import"].items() if not module.startswith("prisma.config")}


@pytest.fixture(scope="module")
def releases() -> dict[str, Release]:
    return {number: installed(site_packages(number)) for number in WITH_NEWEST}


@pytest.fixture(scope="module")
def used(releases: dict[str, Release]) -> dict[str, list[Use]]:
    return {number: scan(release) for number, release in releases.items()}


@pytest.mark.parametrize("number", WITH_NEWEST)
def test_a_release_uses_what_is_in_the_contract(used: dict[str, list[Use]], number: str) -> None:
    assert len(used[number]) > 500  # the scanner finds what there is
    missing = outside(read(), used[number])
    assert not missing, "\n".join([f"LiteLLM {number}:", *missing, CURE])


def test_what_is_in_the_contract_is_used(used: dict[str, list[Use]]) -> None:
    found = stale(read(), [use for uses in used.values() for use in uses])
    assert not found, "\n".join([*found, "Cure: take it out of tests/contract/surface.toml"])


@pytest.mark.parametrize("number", WITH_NEWEST)
def test_a_release_names_models_of_its_schema(
    releases: dict[str, Release], used: dict[str, list[Use]], number: str
) -> None:
    models = {name.lower() for name in re.findall(r"^model (\w+)", releases[number].schema, re.MULTILINE)}
    named = {use.name: use.where for use in used[number] if use.kind == "model"}
    assert len(named) > 20
    assert set(named) <= models, {name: where for name, where in named.items() if name not in models}


@pytest.mark.parametrize(("module", "name"), [(module, name) for module, names in IMPORTED.items() for name in names])
def test_the_stand_in_has_the_name(module: str, name: str) -> None:
    there: Any = importlib.import_module(module)
    for part in name.replace("*", "LiteLLM_VerificationToken").removesuffix("()").split(".") if name else ():
        there = getattr(there, part)
    assert not name.endswith("()") or callable(there)
    if module == "prisma.types" and name.endswith("()"):
        assert there(url="a") == {"url": "a"}


@pytest.mark.parametrize(("method", "arguments"), read()["method"].items())
def test_the_stand_in_takes_the_arguments(method: str, arguments: list[str]) -> None:
    signature = inspect.signature(getattr(Actions, method))
    given = {argument for argument in arguments if argument not in {"", "_"}}
    # prisma-client-py's find_* have no `select` either: LiteLLM's older releases fail in those few places with both.
    assert given - set(signature.parameters) <= {"select"}
    in_batch = getattr(BatchActions, method, None)
    if in_batch is not None:
        assert set(inspect.signature(in_batch).parameters) == set(signature.parameters)
