"""PostgreSQL takes every raw statement of LiteLLM's source with the parameter types that we give it."""

import contextlib
import itertools
import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import psycopg2
import psycopg2.extensions
import pytest

from litellm_sqlalchemy.prisma_client.raw_sql import LEXEME, typed
from tests.contract.scanner.source import installed
from tests.contract.scanner.statements import END, HOLE, HOLES, Statement, statements
from tests.database import senders
from tests.fix_litellm_database import DRIVERS, url
from tests.fix_postgres import Cluster, dropped_afterwards
from tests.gateway.fix_litellm import CHECKOUT, WITH_NEWEST, interpreter, site_packages
from tests.gateway.fix_managed import migrate

REVIEWED: dict[str, Any] = tomllib.loads(Path(__file__).with_name("raw_statements.toml").read_text(encoding="utf-8"))
JUDGED = WITH_NEWEST[-2:]  # the pinned one and the newest
SENT = set().union(*senders.SENDERS.values())  # really sent: nobody needs to know their kinds
NUMBERS = itertools.count(1)
SAMPLES: dict[str | None, object] = {"str": "x", "int": 1, "float": 1.5, "bool": True, "dict": {}, "null": None}
SAMPLES |= {f"list[{kind}]": [value] for kind, value in SAMPLES.items()}
# PREPARE takes these alone; others have no parameters and are run, and undone.
VIEW = re.compile(r"\s*CREATE\s+(?:OR\s+REPLACE\s+)?VIEW", re.IGNORECASE)
PREPARABLE = re.compile(r"\s*(?:--[^\n]*\s*)*\(*\s*(?:SELECT|INSERT|UPDATE|DELETE|WITH|VALUES|MERGE)\b", re.IGNORECASE)


@cache
def of_release(number: str) -> list[Statement]:
    return statements(installed(site_packages(number)))


@pytest.fixture(scope="module", params=JUDGED)
def release(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def found(release: str) -> list[Statement]:
    return of_release(release)


@pytest.fixture(scope="module")
def tables(cluster: Cluster, release: str) -> str:
    """The name of a database with a release's tables, to copy."""
    name = f"tables_{release.replace('.', '_')}"
    migrate(cluster, name, release)
    return name


@pytest.fixture
def database(cluster: Cluster, tables: str) -> Iterator[str]:
    """The name of a copy."""
    name = f"raw_{next(NUMBERS)}"
    cluster.execute(f"CREATE DATABASE {name} TEMPLATE {tables}")
    with dropped_afterwards(cluster, name):
        yield name


@pytest.fixture
def connection(cluster: Cluster, database: str, found: list[Statement]) -> Iterator[psycopg2.extensions.connection]:
    """A session where LiteLLM's tables and views are."""
    with contextlib.closing(psycopg2.connect(url(cluster, database).partition("?")[0])) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            for view in sorted({filled(statement) for statement in found if VIEW.match(statement.text or "")}):
                cursor.execute(VIEW.sub("CREATE OR REPLACE VIEW", view))
        yield connection


def reviewed(place: str) -> dict[str, Any]:
    entry: dict[str, Any] = REVIEWED["place"].get(place, {})
    return entry


def filled(statement: Statement) -> str:
    """Put values into the holes of a text: a parameter's number is the next that is free."""
    assert statement.text is not None
    values = REVIEWED["holes"] | reviewed(statement.place).get("holes", {})
    number = max((int(found) for found in re.findall(r"\$(\d+)", statement.text)), default=0)

    def numbered(_: re.Match[str]) -> str:
        nonlocal number
        number += 1
        return f"${number}"

    text = re.sub(rf"\${HOLE}[^{END}]*{END}", numbered, statement.text)
    return HOLES.sub(lambda hole: str(values.get(hole[1], hole[0])), text)


def parameters(statement: Statement, sql: str) -> list[object]:
    """Give values of the kinds that the code sends; where it does not say, reviewed ones, else texts."""
    numbers = {int(match["number"]) for match in LEXEME.finditer(sql) if match["number"]}
    kinds = reviewed(statement.place).get("kinds") or [kind or "str" for kind in statement.parameters]
    kinds += [reviewed(statement.place).get("rest", "str")] * max(numbers, default=0)
    return [SAMPLES[kind] for kind in kinds[: max(numbers, default=0)]]


def refusal(connection: psycopg2.extensions.connection, statement: Statement) -> str | None:
    """Let PostgreSQL judge a statement."""
    sql = filled(statement)
    if left := HOLES.findall(sql):
        return f"no value for {', '.join(sorted(set(left)))}"
    with connection.cursor() as cursor:
        try:
            if PREPARABLE.match(sql):
                cursor.execute(f"PREPARE judged AS {typed(sql, parameters(statement, sql))}")
                cursor.execute("DEALLOCATE judged")
            else:
                cursor.execute("BEGIN")
                cursor.execute(sql)
        except psycopg2.Error as error:
            return f"{error.pgcode} {str(error).strip()}"
        finally:
            cursor.execute("ROLLBACK")
    return None


def asked(found: list[Statement]) -> list[Statement]:
    own = {place for place, entry in REVIEWED["place"].items() if "not_judged" in entry} | SENT
    return [one for one in found if one.text is not None and one.place not in own]


def test_postgresql_takes_every_statement(found: list[Statement], connection: psycopg2.extensions.connection) -> None:
    refused = [
        f"{one.where} in {one.place}: {reason}\n  {one.parameters}\n  {filled(one)}"
        for one in asked(found)
        if (reason := refusal(connection, one))
    ]
    cure = "Cure: if LiteLLM's code sends other kinds of parameters than are shown, write them into raw_statements.toml"
    assert not refused, "\n\n".join([*refused, cure])


@pytest.mark.parametrize("driver", DRIVERS)
def test_postgresql_takes_what_litellm_sends(
    cluster: Cluster, database: str, release: str, found: list[Statement], driver: str
) -> None:
    sent = subprocess.run(
        [interpreter(release), "-m", senders.__name__],
        env={
            "PATH": os.environ["PATH"],
            "DATABASE_URL": url(cluster, database, connection_limit=4),
            "PRISMA_CLIENT_DRIVER": driver,
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else its import asks the internet
        },
        cwd=CHECKOUT,
        input="\n".join(sorted(SENT & {one.place for one in found})),
        capture_output=True,
        text=True,
        check=False,
    )
    assert sent.returncode == 0, sent.stderr


def test_every_statement_is_read_or_reviewed(found: list[Statement]) -> None:
    unread = {
        f"{one.where} in {one.place}: {one.reason}"
        for one in found
        if one.text is None and "not_judged" not in reviewed(one.place) and one.place not in SENT
    }
    assert not unread, "\n".join(unread)
    assert len({one.where for one in found}) > 150  # the scanner finds what there is


def test_no_review_is_stale() -> None:
    assert set(REVIEWED["place"]) | SENT <= {one.place for number in JUDGED for one in of_release(number)}
    assert not set(REVIEWED["place"]) & SENT  # they say what they send themselves
