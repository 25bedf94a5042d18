"""Runs the management tests on every combination, and keeps the counts in findings/releases.json.

usage: python -m tests.gateway.matrix [RELEASE…]   further ones than those that the tests have
"""

import itertools
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from tests.fix_litellm_database import DRIVERS
from tests.fix_postgres import VERSIONS
from tests.gateway.fix_litellm import CHECKOUT, WITH_NEWEST, interpreter
from tests.gateway.test_management import WAYS

RESULTS = CHECKOUT / "findings/releases.json"
COMBINATION = ("release", "driver", "postgresql", "way")
Row = dict[str, Any]


def main(more_releases: list[str]) -> int:
    """Run them all, each in a process of its own; return the exit code."""
    rows = {_key(row): row for row in json.loads(RESULTS.read_text())} if RESULTS.exists() else {}
    # The newest first: what is cut short has what matters most.
    releases = sorted({*WITH_NEWEST, *more_releases}, key=_version, reverse=True)
    combinations = [
        combination
        for release in releases
        for combination in itertools.product([release], DRIVERS, sorted(VERSIONS, reverse=True), _ways(release))
    ]
    failed = []
    for combination in combinations:
        row = dict(zip(COMBINATION, combination, strict=True)) | _counts("-".join(map(str, combination)))
        print(*row.values(), flush=True)  # noqa: T201
        rows[_key(row)] = row
        if row["failed"]:
            failed.append(row)
        write(list(rows.values()))
    print(f"{len(failed)} of {len(combinations)} combinations failed")  # noqa: T201
    return 1 if failed else 0


def write(rows: list[Row]) -> None:
    """Write a line for each combination."""
    lines = [json.dumps(row) for row in sorted(rows, key=lambda row: (_version(row["release"]), _key(row)))]
    RESULTS.write_text("[\n" + ",\n".join(lines) + "\n]\n")


def _key(row: Row) -> tuple[str, ...]:
    return tuple(str(row[name]) for name in COMBINATION)


def _version(release: str) -> tuple[int, ...]:
    return tuple(map(int, release.split(".")))


def _ways(release: str) -> list[str]:
    """Those that a release of LiteLLM has: before this module it knew no replica."""
    routes = "lib/*/site-packages/litellm/proxy/db/routing_prisma_wrapper.py"
    knows_replica = any(Path(interpreter(release)).parents[1].glob(routes))
    return [way for way in WAYS if way != "replica" or knows_replica]


def _counts(combination: str) -> Row:
    tests = CHECKOUT / "tests/gateway/test_management.py"
    with tempfile.NamedTemporaryFile(suffix=".xml") as report:
        subprocess.run(
            [
                *(sys.executable, "-m", "pytest", "--quiet", f"--combination={combination}"),
                *(f"--junit-xml={report.name}", tests),
            ],
            cwd=CHECKOUT,
            check=False,  # the report says it
        )
        text = Path(report.name).read_text()
    if not text:
        raise SystemExit(f"pytest could not run the tests on {combination}: see above")
    # Cases, not the counts of the suite: one that fails, and again in its teardown, is one.
    cases = ET.fromstring(text).findall(".//testcase")  # noqa: S314  # pytest's own
    failed = sum(case.find("failure") is not None or case.find("error") is not None for case in cases)
    date = ["git", "show", "--no-patch", "--format=%cs", "HEAD"]
    of_commit = subprocess.run(date, cwd=CHECKOUT, check=True, capture_output=True, text=True).stdout.strip()
    return {"passed": len(cases) - failed, "failed": failed, "date": of_commit}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
