"""`make bench QUICK=1`: every part runs, and the report has every figure and the plot. No figure is judged."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench import report
from tests.bench.paired import Spread, difference, ratios, slope

HERE = Path(__file__).parents[2]
PARTS = ("gateway", "drain", "memory", "queries", "client")


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("bench")
    command = [sys.executable, "-m", "tests.bench", "--quick", "--output", str(directory)]
    done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (directory / "table").write_text(done.stdout)
    return directory


@pytest.mark.long
def test_every_part_has_its_rounds_and_conditions(output: Path) -> None:
    for part in PARTS:
        found = json.loads((output / f"{part}.json").read_text())
        about = found.pop("conditions")
        assert about["quick"]
        assert all(about[name] for name in ("commit", "cores", "cpu", "kernel", "postgresql", "litellm", "load_before"))
        assert all(found.values())


@pytest.mark.long
def test_the_report_has_every_figure(output: Path) -> None:
    results = {part: json.loads((output / f"{part}.json").read_text()) for part in PARTS}
    figures = report.figures(results)
    wanted = [
        *("concurrency 1, p50: with", "concurrency 1, p99: with", "concurrency 16, 1 worker: with"),
        *("concurrency 64, 1 worker: with", "concurrency 16, 2 workers: with", "concurrency 64, 2 workers: with"),
        *("concurrency 1, p50: usual", "concurrency 64, 2 workers: usual", "with the ledger ÷ stock"),
        *("rows stored ÷ answered: with", "rows stored ÷ answered: usual", "kill -9", "into partitioned tables"),
        *(
            "÷ bare COPY",
            "÷ COPY into the same",
            "the disk alone",
            "added to a worker",
            "with the drain",
            "while the database is away",
        ),
        *("newest 50", "one exchange", "a day's sum", "partitions read"),
        *("`import prisma`", "find_unique ÷", "find_many of 10,000 rows ÷", "create_many of 10,000 rows ÷"),
        *("blocked at most", "by a key not seen before"),
    ]
    for part in wanted:
        assert any(part in figure.what for figure in figures), part
    table = (output / "table").read_text()
    assert all(figure.what in table and figure.value in table for figure in figures)


@pytest.mark.long
def test_nothing_answered_is_missing(output: Path) -> None:
    found = json.loads((output / "gateway.json").read_text())
    of_ledger = [one for one in found["stored"] + found["killed"] if one["kind"] == "ledger"]
    assert len(of_ledger) == 3
    assert all(one["answered"] == one["stored"] > 0 for one in of_ledger)


@pytest.mark.long
def test_the_plot_is_drawn(output: Path) -> None:
    plot = (output / "benchmark.png").read_bytes()
    assert plot.startswith(b"\x89PNG")
    assert len(plot) > 20_000


@pytest.mark.long
def test_the_section_in_findings(output: Path, tmp_path: Path) -> None:
    results = {part: json.loads((output / f"{part}.json").read_text()) for part in PARTS}
    figures = report.figures(results)
    file = tmp_path / "FINDINGS.md"
    file.write_text(f"before\n{report.BEGIN}old\n{report.END}\nafter\n")
    report.write_findings(results, figures, file)
    text = file.read_text()
    assert text.startswith(f"before\n{report.BEGIN}")
    assert text.endswith(f"{report.END}\nafter\n")
    assert "old\n" not in text
    assert all(figure.what in text for figure in figures)
    with pytest.raises(ValueError, match="must have the lines"):
        report.write_findings(results, figures, output / "table")


def test_ratios_and_their_spread() -> None:
    found = ratios([2.0, 3.0, 4.0], [1.0, 1.0, 1.0])
    assert found == Spread(2.5, 3.0, 3.5)
    assert found.covers(3)
    assert not found.covers(1)


def test_a_difference_of_quantiles() -> None:
    against = [float(n) for n in range(1_000)]
    found = difference([value + 5 for value in against], against, 0.99)
    assert found.low == found.median == found.high == 5


def test_a_slope_that_an_outlier_does_not_bend() -> None:
    assert slope([0, 1, 2, 3, 4], [0, 2, 100, 6, 8]).median == 2
