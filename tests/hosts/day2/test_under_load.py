"""Under load, what was answered is in the tables, whatever is killed: the short form of `make drill-ledger`.

The second day begins with the first test that asks for it and ends with the last: what wants the hosts as they were
has a name that sorts before.
"""

import json
from pathlib import Path

import pytest

from tests.hosts.day2.second_day import MASTER_KEY, PORT
from tests.hosts.drill import count, drill, faults
from tests.hosts.lab import Lab

FAULTS: dict[str, faults.Fault] = {
    **{name: faults.FAULTS[name] for name in ("kill-worker", "kill-drain", "kill-backend", "disk-full-database")},
    "stop-database": faults.stop_database_shortly,
    "disk-full-spool": faults.FAULTS["disk-full-spool"],
}


@pytest.mark.long
@pytest.mark.usefixtures("second_day")
def test_nothing_that_was_answered_is_missing_or_twice_or_altered(lab: Lab, tmp_path: Path) -> None:
    journals = [tmp_path / name for name in FAULTS]

    for journal, (name, fault) in zip(journals, FAULTS.items(), strict=True):
        drill.under_load(lab, name, fault, journal, key=MASTER_KEY, port=PORT)

    counted = drill.compare(lab, journals)
    assert counted["passed"], f"{count.table(counted)}\n{json.dumps(counted['problems'], indent=2)}"
    assert counted["faults"]["disk-full-spool"]["refused"] > 0
