"""The benchmark of the ledger and of the Prisma client.

usage: make bench, or python -m tests.bench [PART…] [--quick] [--output DIRECTORY]

Parts: gateway, drain, memory, queries, client. Each writes the raw rounds of its run to a file of its own; the report
(table, plot, the section in FINDINGS.md) is made of these files. A quick run shows only that everything works.
"""

import argparse
import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bench import part_client, part_drain, part_gateway, part_memory, part_queries, report
from tests.bench.run import HERE, Run, begun, conditions

PARTS: dict[str, Callable[[Run], dict[str, Any]]] = {
    "gateway": part_gateway.measure,
    "drain": part_drain.measure,
    "memory": part_memory.measure,
    "queries": part_queries.measure,
    "client": part_client.measure,
}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="tests.bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="only show that everything works")
    parser.add_argument("--output", type=Path, help="instead of findings/ (with --quick: .cache/bench/)")
    options = parser.parse_args(arguments)
    if unknown := set(options.parts) - set(PARTS):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    output = options.output or (HERE / ".cache/bench" if options.quick else HERE / "findings")
    output.mkdir(parents=True, exist_ok=True)
    # What is started is ended by `finally`, also when somebody ends the run.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
    for part, measure in PARTS.items():
        if options.parts and part not in options.parts:
            continue
        with begun(quick=options.quick) as run:
            about = conditions(run, part)
            found = measure(run)
            (output / f"{part}.json").write_text(report.as_json({"conditions": about, **found}))
    results = {part: json.loads(file.read_text()) for part in PARTS if (file := output / f"{part}.json").exists()}
    figures = report.figures(results)
    sys.stdout.write(report.table([one for one in figures if one.part in (options.parts or PARTS)]))
    report.draw(results, output / "benchmark.png")
    if output == HERE / "findings":
        report.write_findings(results, figures, HERE / "FINDINGS.md")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
