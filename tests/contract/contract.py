"""The cases and their goldens: what the genuine client answered."""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterable
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.contract.cases.build import Case

HERE = Path(__file__).parent
MISSING = "(nothing)"
GOLDENS = HERE / "goldens"
RUNNER = HERE / "runner.py"
ORACLE = "prisma-client-py 0.15.0, Prisma 5.17.0 query core (WebAssembly), @prisma/adapter-pg 5.17.0, pg 8.12.0"
Outcome = dict[str, Any]


def cases() -> dict[str, list[Case]]:
    """Load the cases by file.

    Raises:
        ValueError: Two have one name.
    """
    files = sorted(file.stem for file in (HERE / "cases").glob("*.py") if file.stem != "build")
    found: dict[str, list[Case]] = {name: import_module(f"tests.contract.cases.{name}").CASES for name in files}
    for name, made in found.items():
        names = [one["name"] for one in made]
        if twice := {one for one in names if names.count(one) > 1}:
            raise ValueError(f"cases of {name} share a name: {sorted(twice)}")
    return found


def run(python: Path, environment: dict[str, str], made: Iterable[Case], url: str) -> list[Outcome]:
    """Run cases by the `prisma` of an interpreter.

    Raises:
        RuntimeError: It broke off.
    """
    # No pipe: Node makes of one that it inherits something that Python cannot write a long line to.
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl") as file, tempfile.TemporaryFile("w+") as answers:
        file.writelines(json.dumps(one, ensure_ascii=False) + "\n" for one in made)
        file.flush()
        done = subprocess.run(
            [str(python), str(RUNNER), file.name, url],
            env={**os.environ, **environment},
            stdout=answers,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        answers.seek(0)
        outcomes = [json.loads(line) for line in answers if line.endswith("\n")]
    if done.returncode:
        raise RuntimeError(f"The runner broke off after {len(outcomes)} cases:\n{done.stderr[-3000:]}")
    return outcomes


def record(name: str, made: list[Case], outcomes: list[Outcome]) -> None:
    """Write a golden file: a header, then a line a case, with its steps."""
    header = {"oracle": ORACLE, "schema": f"litellm-proxy-extras {version('litellm-proxy-extras')}", "cases": len(made)}
    lines = [header] + [{**one, "outcome": outcome} for one, outcome in zip(made, map(_unnamed, outcomes), strict=True)]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    (GOLDENS / f"{name}.jsonl").write_text(text)


def _unnamed(outcome: Outcome) -> Outcome:
    return {key: value for key, value in outcome.items() if key != "name"}


def goldens(name: str, made: list[Case]) -> list[Outcome]:
    """Read what the genuine client answered to these cases.

    Raises:
        ValueError: It was asked others.
    """
    _, *lines = [json.loads(line) for line in (GOLDENS / f"{name}.jsonl").read_text().rstrip("\n").split("\n")]
    if [{key: value for key, value in line.items() if key != "outcome"} for line in lines] != json.loads(
        json.dumps(made)
    ):
        raise ValueError(f"goldens/{name}.jsonl is not of these cases: run scripts/record-contract {name}")
    return [line["outcome"] for line in lines]


def differences(expected: Any, found: Any, where: str = "") -> list[str]:
    """Say where an outcome is not what the genuine client gives; the words of errors are nobody's contract."""
    if isinstance(expected, dict) and isinstance(found, dict) and "$float" not in {*expected, *found}:
        names = [*expected, *(name for name in found if name not in expected)]
        pairs = [(name, expected.get(name, MISSING), found.get(name, MISSING)) for name in names if name != "words"]
        return [line for name, a, b in pairs for line in differences(a, b, f"{where}.{name}" if where else name)]
    if isinstance(expected, list) and isinstance(found, list) and len(expected) == len(found):
        return [
            line
            for n, (a, b) in enumerate(zip(expected, found, strict=True))
            for line in differences(a, b, f"{where}[{n}]")
        ]
    if expected == found and type(expected) is type(found):
        return []
    if (one := _number(expected)) is not None and one == _number(found):
        return []
    prisma, ours = (json.dumps(value, ensure_ascii=False) for value in (expected, found))
    return [f"{where}: Prisma {prisma}\n{'':{len(where)}}  ours   {ours}"]


def _number(value: Any) -> float | None:
    """Read a number as far as Prisma keeps it: 16 digits of a float, of which ours keeps all; and Node has no 1.0."""
    if isinstance(value, dict) and value.keys() == {"$float"}:
        value = float(value["$float"])
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(f"{value:.15e}") if isinstance(value, float) or abs(value) > 1 << 53 else value
