"""The table of supported releases says what was counted, and a stale one is found."""

import sys
from pathlib import Path

import pytest

from scripts import release_table

ROW = {"release": "1.2.3", "driver": "asyncpg", "postgresql": 17, "passed": 44, "failed": 0, "date": "2026-11-28"}
ROWS = [{**ROW, "way": "direct"}, {**ROW, "way": "pgbouncer", "passed": 42, "failed": 2, "date": "2026-11-29"}]


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    page, results = tmp_path / "page.md", tmp_path / "releases.json"
    page.write_text(f"# Before\n{release_table.BEGIN}\nold\n{release_table.END}\nafter\n")
    results.write_text("[]")
    monkeypatch.setattr(release_table, "CHECKOUT", tmp_path)
    monkeypatch.setattr(release_table, "RESULTS", results)
    monkeypatch.setattr(release_table, "PAGE", page)
    return page


def test_a_stale_table_is_found_and_written(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stale = page.read_text()
    monkeypatch.setattr(sys, "argv", ["release_table.py", "--check"])
    assert release_table.main() == 1
    assert page.read_text() == stale
    monkeypatch.setattr(sys, "argv", ["release_table.py"])
    assert release_table.main() == 0
    assert page.read_text() == stale.replace("old", release_table.table([]))
    monkeypatch.setattr(sys, "argv", ["release_table.py", "--check"])
    assert release_table.main() == 0


def test_what_failed_and_what_was_not_run_shows() -> None:
    line = release_table.table(ROWS).splitlines()[2]
    assert line == "| 1.2.3 | asyncpg | 17 | 44 passed | 42 passed, **2 failed** | - | 2026-11-29 |"


def test_a_page_without_the_marker_lines_is_refused() -> None:
    with pytest.raises(ValueError, match="once each"):
        release_table.with_table("# Nothing\n", ROWS)
