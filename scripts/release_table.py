#!/usr/bin/env python3
"""Writes the table of supported releases into docs/leaving-prisma.md; with --check only says whether it is stale.

What it says is in findings/releases.json, which `make contract-full` writes.
"""

import argparse
import itertools
import json
import sys
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parents[1]
RESULTS = CHECKOUT / "findings/releases.json"
PAGE = CHECKOUT / "docs/leaving-prisma.md"
BEGIN = "<!-- Supported releases: written by `make docs` from findings/releases.json. -->"
END = "<!-- End of the supported releases. -->"
COLUMNS = {"direct": "direct", "pgbouncer": "through pgbouncer", "replica": "with a read replica"}


def table(rows: list[dict[str, Any]]) -> str:
    """Return a line for each release, driver and version of PostgreSQL, in the order of the rows.

    Args:
        rows: A count of tests for each way to the database, of which there may be none.
    """
    lines = [
        f"| LiteLLM | driver | PostgreSQL | {' | '.join(COLUMNS.values())} | tested |",
        "|---|---|---:|" + "---|" * len(COLUMNS) + "---|",
    ]
    for (release, driver, version), group in itertools.groupby(
        rows, lambda row: (row["release"], row["driver"], row["postgresql"])
    ):
        ways = {row["way"]: row for row in group}
        cells = [_cell(ways.get(way)) for way in COLUMNS]
        tested = max(row["date"] for row in ways.values())
        lines.append(f"| {release} | {driver} | {version} | {' | '.join(cells)} | {tested} |")
    return "\n".join(lines)


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return "-"
    return f"{row['passed']} passed" + (f", **{row['failed']} failed**" if row["failed"] else "")


def with_table(page: str, rows: list[dict[str, Any]]) -> str:
    """Return the page with the table between its two marker lines.

    Args:
        page: Its text.
        rows: As `table` takes them.

    Raises:
        ValueError: It has not each marker line once.
    """
    before, begin, rest = page.partition(f"{BEGIN}\n")
    _, end, after = rest.partition(f"{END}\n")
    if not begin or not end or BEGIN in rest or END in after:
        raise ValueError(f"{PAGE.name} must have these two lines, once each and in this order:\n  {BEGIN}\n  {END}")
    return f"{before}{begin}{table(rows)}\n{end}{after}"


def main() -> int:
    """Write the table if it is stale, or tell it; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail if the table is stale")
    check = parser.parse_args().check
    page = PAGE.read_text()
    wanted = with_table(page, json.loads(RESULTS.read_text()))
    if page == wanted:
        return 0
    if not check:
        PAGE.write_text(wanted)
    sys.stdout.write(f"{PAGE.relative_to(CHECKOUT)}: {'stale; run `make docs`' if check else 'written'}\n")
    return int(check)


if __name__ == "__main__":
    sys.exit(main())
