"""A role's variables are declared once, and the declarations agree."""

from pathlib import Path
from typing import Any

import pytest
import yaml

ROLES = sorted(path.parent.parent for path in Path("roles").glob("*/meta/argument_specs.yml"))


def read(path: Path) -> dict[str, Any]:
    return (yaml.safe_load(path.read_text()) or {}) if path.exists() else {}


def specs(role: Path) -> dict[str, dict[str, Any]]:
    """The options of all entry points."""
    points = read(role / "meta/argument_specs.yml")["argument_specs"].values()
    return {name: option for point in points for name, option in point.get("options", {}).items()}


def test_every_role_has_specs() -> None:
    assert {path.name for path in ROLES} == {path.name for path in Path("roles").iterdir() if path.is_dir()}


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_what_has_a_default_is_declared_and_what_has_none_is_required(role: Path) -> None:
    optional = {name for name, option in specs(role).items() if not option.get("required")}
    assert optional == set(read(role / "defaults/main.yml"))


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_the_declared_default_is_the_real_one(role: Path) -> None:
    declared = specs(role)
    for name, default in read(role / "defaults/main.yml").items():
        if "{{" in str(default):
            assert isinstance(declared[name]["default"], str), f"{name}: say in words what is computed"
        else:
            assert declared[name]["default"] == default, name


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_every_option_has_a_type_and_a_description(role: Path) -> None:
    for name, option in specs(role).items():
        assert {"type", "description"} <= option.keys(), name
        assert option["type"] != "list" or "elements" in option, name


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_names_carry_the_role_s_name(role: Path) -> None:
    for name in specs(role):
        assert name.startswith(f"{role.name}_")
    for name in read(role / "vars/main.yml"):
        assert name.startswith(f"__{role.name}_")


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_secrets_are_declared_as_such_and_have_no_default(role: Path) -> None:
    for name, option in specs(role).items():
        if name.endswith(("_password", "_master_key", "_credentials")):
            assert option.get("no_log"), name
            assert not option.get("default"), name
