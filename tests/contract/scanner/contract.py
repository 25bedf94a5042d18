"""What the stand-in provides, as surface.toml lists it, against what a release uses."""

import re
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path

from tests.contract.scanner.surface import Use

FILE = Path(__file__).parents[1] / "surface.toml"
Contract = Mapping[str, Mapping[str, list[str]]]
# The stand-in makes every model of the installed schema: no list of them can grow old. No process asks for mere types.
NOT_LISTED = {"import for types", "model"}


def read() -> Contract:
    """Read the contract: chapter, then what has parts (a method its arguments), then the parts."""
    return tomllib.loads(FILE.read_text(encoding="utf-8"))


def parts(use: Use) -> list[tuple[str, str, str]]:
    """Split a use into what the contract lists: chapter, name, part."""
    if use.kind == "method":
        method, arguments = use.name.removesuffix(")").split("(")
        given = [argument.strip().removesuffix("=") for argument in arguments.split(",") if argument]
        return [("method", method, argument) for argument in given or [""]]
    if use.kind == "operator":
        argument, operator = use.name.split(": ")
        return [("operator", argument, operator)]
    if use.kind == "import":
        names = re.match(r"(prisma(?:\.[a-z]\w*)*)(?:\.(.+))?", use.name)
        assert names is not None
        return [("import", names[1], names[2] or "")]
    return [(use.kind, "", use.name)]


def matches(part: str, known: str) -> bool:
    """Say whether a part is a listed one; a last * stands for any ending."""
    return part == known or (known.endswith("*") and part.startswith(known[:-1]))


def outside(contract: Contract, uses: Iterable[Use]) -> list[str]:
    """Say what is used and not in the contract, and where.

    Args:
        contract: What is provided.
        uses: What a release uses.
    """
    return [
        f"{use.where} uses {use.kind} {use.name}, which surface.toml has not"
        for use in uses
        if use.kind not in NOT_LISTED
        for kind, name, part in parts(use)
        if not any(matches(part, known) for known in contract.get(kind, {}).get(name, ()))
    ]


def stale(contract: Contract, uses: Iterable[Use]) -> list[str]:
    """Say what the contract has and nothing uses.

    Args:
        contract: What is provided.
        uses: What all listed releases use.
    """
    used = {part for use in uses for part in parts(use)}
    return [
        f"surface.toml has {kind} {name} {known}, which no listed release uses"
        for kind, names in contract.items()
        for name, all_known in names.items()
        for known in all_known
        if not any(matches(part, known) for a, b, part in used if (a, b) == (kind, name))
    ]
