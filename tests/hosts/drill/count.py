"""Compares what a client was answered with what is in the ledger's tables: each call, each body, byte for byte.

usage: count.py JOURNAL… -- PSQL…      PSQL: a command that runs psql (with -qAtX) as a role that reads the tables

Prints the table, and ends with 1 if an answered call is missing, a call is there twice, a body or a status is another
one, or a request has got no outcome. Standard library and SQL only: it knows nothing of the gateway's code.
"""

import csv
import io
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

SQL = Path(__file__).with_name("count.sql")
COLUMNS = ("label", "call_id", "verdict", "status", "sent_size", "sent_sha256", "received_size", "received_sha256")
MUST_BE_NONE = ("missing", "twice", "altered", "no outcome")


def count(journals: Iterable[Path], psql: Sequence[str]) -> dict[str, Any]:
    """Count.

    Returns:
        {"faults": a row of the table for each label of the journals, in their order, "sum": their sum, "problems":
        the first calls that something is wrong with, "passed"}.

    Raises:
        subprocess.CalledProcessError: psql failed; it has said why.
    """
    calls = [json.loads(line) for journal in journals for line in journal.read_text().splitlines()]
    lines = io.StringIO()
    csv.writer(lines, lineterminator="\n").writerows([call[name] for name in COLUMNS] for call in calls)
    before, after = SQL.read_text().split("-- The client's journal is put here.\n")
    text = subprocess.run(
        list(psql), input=before + lines.getvalue() + after, stdout=subprocess.PIPE, text=True, check=True
    )
    found = json.loads(text.stdout)
    rows = {label: _row([]) for label in dict.fromkeys(call["label"] for call in calls)}
    for label in rows:
        rows[label] = _row([group for group in found["groups"] or [] if group["label"] == label])
    total = _row(found["groups"] or [])
    passed = total["answered"] > 0 and not any(total[name] for name in MUST_BE_NONE)
    return {"faults": rows, "sum": total, "problems": found["problems"], "passed": passed}


def _row(groups: Sequence[dict[str, Any]]) -> dict[str, Any]:
    calls, stored = Counter[str](), Counter[str]()
    unanswered = Counter[str]()
    for group in groups:
        calls[group["verdict"]] += group["calls"]
        stored[group["verdict"]] += group["stored"]
        if group["verdict"] == "unanswered":
            unanswered[group["outcome"]] += group["calls"]
    return {
        "sent": calls.total(),
        "answered": calls["answered"],
        "in tables": stored["answered"],
        **{name: sum(group[name] for group in groups) for name in ("missing", "twice", "altered")},
        "refused": calls["refused"],
        "unanswered": calls["unanswered"],
        "no outcome": sum(group["calls"] for group in groups if group["outcome"] == "no response"),
        "outcomes": dict(sorted(unanswered.items())),
    }


def table(counted: dict[str, Any]) -> str:
    """Write what was counted as a table of Markdown, aligned."""
    numbers = [name for name in counted["sum"] if name != "outcomes"]
    lines = [["fault", *numbers, "of the unanswered"]]
    for label, row in [*counted["faults"].items(), ("sum", counted["sum"])]:
        outcomes = ", ".join(f"{calls} {outcome}" for outcome, calls in row["outcomes"].items())
        lines.append([label, *(f"{row[name]:,}" for name in numbers), outcomes])
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    lines.insert(
        1,
        [
            "-" * width if column in {0, len(widths) - 1} else "-" * (width - 1) + ":"
            for column, width in enumerate(widths)
        ],
    )
    last = len(widths) - 1
    return "\n".join(
        "| "
        + " | ".join(
            text.ljust(width) if column in {0, last} else text.rjust(width)
            for column, (text, width) in enumerate(zip(line, widths, strict=True))
        )
        + " |"
        for line in lines
    )


def main() -> None:
    separator = sys.argv.index("--")
    counted = count(map(Path, sys.argv[1:separator]), sys.argv[separator + 1 :])
    print(table(counted))  # noqa: T201
    for problem in counted["problems"]:
        print(problem)  # noqa: T201
    sys.exit(not counted["passed"])


if __name__ == "__main__":
    main()
