"""The stand-in for Prisma when the primary is lost and a standby is promoted."""

import asyncio
import datetime as dt
import itertools
import threading
from collections.abc import Iterator

import pytest
from litellm.proxy.db.exception_handler import PrismaDBExceptionHandler

from prisma import Prisma
from prisma.errors import PrismaError, TransactionError
from tests.fix_failover import Pair, running_pair
from tests.fix_litellm_database import MIGRATIONS
from tests.fix_postgres import SUPERUSER_PASSWORD
from tests.fix_server import wait_for

DATABASE = "failed_over"
CONNECTIONS = 4
WRITERS = 8
AFTERWARDS = 20  # writes of each of them by the promoted standby
PATIENCE = dt.timedelta(minutes=1)  # for a transaction: by Prisma's default, 5 s, a busy machine expires one by itself
AUTHOR = {"created_by": "tests", "updated_by": "tests"}


@pytest.fixture
def pair() -> Iterator[Pair]:
    with running_pair() as running:
        running.primary.execute(f"CREATE DATABASE {DATABASE}")
        for migration in sorted(MIGRATIONS.glob("*/migration.sql")):
            running.primary.execute(migration.read_text(), DATABASE)
        yield running


@pytest.mark.usefixtures("driver")
async def test_writes_go_on_by_the_promoted_standby(pair: Pair) -> None:
    address = pair.address(DATABASE, connection_limit=CONNECTIONS, connect_timeout=2)
    client = Prisma(datasource={"url": f"postgresql://postgres:{SUPERUSER_PASSWORD}@{address}"})
    numbers, acknowledged, errors = itertools.count(), set[str](), list[PrismaError]()
    many, is_promoted = asyncio.Event(), threading.Event()

    async def write(identity: str) -> None:
        where, more = {"budget_id": identity}, {"max_budget": {"increment": 1}}
        if len(acknowledged) % 2:
            await client.litellm_budgettable.create(data={**AUTHOR, **where, "max_budget": 2})
            return
        async with client.tx(timeout=PATIENCE) as transaction:
            await transaction.litellm_budgettable.create(data={**AUTHOR, **where, "max_budget": 1})
            await transaction.litellm_budgettable.update(where=where, data=more)

    async def writer() -> None:
        done_afterwards = 0
        while done_afterwards < AFTERWARDS:
            identity, afterwards = str(next(numbers)), is_promoted.is_set()
            try:
                await write(identity)
            except PrismaError as error:
                errors.append(error)
                await asyncio.sleep(0.01)  # or the others get no turn
            else:
                acknowledged.add(identity)
                done_afterwards += afterwards
                if len(acknowledged) > 100:
                    many.set()

    def fail_over() -> None:
        pair.lose_primary()
        pair.promote()
        is_promoted.set()

    async with client:
        async with asyncio.timeout(120), asyncio.TaskGroup() as writers:
            for _ in range(WRITERS):
                writers.create_task(writer())
            await many.wait()
            await asyncio.to_thread(fail_over)
        # What began too late for its caller is rolled back in the background.
        await asyncio.to_thread(wait_for, lambda: set(pair.sessions(DATABASE)) == {"idle"}, "all sessions are idle")
        sessions = pair.sessions(DATABASE)
    assert errors
    for error in errors:
        # Where no connection came in time, Prisma's own error says only that.
        is_late = isinstance(error, TransactionError) and "in the given time" in str(error)
        assert is_late or PrismaDBExceptionHandler.is_database_connection_error(error), error
        assert SUPERUSER_PASSWORD not in str(error)
    kept = pair.standby.execute('SELECT budget_id, max_budget FROM "LiteLLM_BudgetTable"', DATABASE)
    assert acknowledged <= {identity for identity, _ in kept}
    assert {budget for _, budget in kept} == {2.0}  # no half of a transaction
    assert len(sessions) <= CONNECTIONS
