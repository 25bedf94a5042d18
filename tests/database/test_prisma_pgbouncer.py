"""The stand-in for Prisma through pgbouncer in transaction mode: each transaction may get another session."""

import asyncio
import contextlib
import datetime as dt
from collections.abc import AsyncIterator, Iterator

import pytest

from prisma import Prisma
from prisma.engine.errors import EngineConnectionError
from tests.fix_litellm_database import url
from tests.fix_pgbouncer import SERVER_CONNECTIONS, SUITES, running_pgbouncer
from tests.fix_postgres import Cluster

TASKS = 100
PATIENCE = dt.timedelta(seconds=60)
WARNING = "write pgbouncer=true"


@pytest.fixture(scope="module", params=SUITES)
def pgbouncer(request: pytest.FixtureRequest, cluster: Cluster) -> Iterator[Cluster]:
    with running_pgbouncer(cluster, request.param) as pooled:
        yield pooled


# The second is of somebody who forgot it.
@pytest.fixture(params=[{"pgbouncer": "true"}, {}], ids=["told", "not told"])
async def pooled(
    request: pytest.FixtureRequest, cluster: Cluster, pgbouncer: Cluster, litellm_database: str, driver: str
) -> AsyncIterator[Prisma]:
    """A client with more connections than pgbouncer has to the server; there, a session begins in another time zone."""
    del driver
    cluster.execute(f"ALTER DATABASE {litellm_database} SET timezone TO 'America/Lima'")
    client = Prisma(datasource={"url": url(pgbouncer, litellm_database, connection_limit=TASKS, **request.param)})
    await client.connect()
    yield client
    await client.disconnect()


async def sessions(client: Prisma, of: str) -> dict[int, object]:
    """Ask each session of pgbouncer's."""
    query = f"SELECT pg_backend_pid() AS pid, ({of}) AS answer"  # of the tests alone
    async with contextlib.AsyncExitStack() as stack:  # open at the same time, each has a session of its own
        each = [
            await stack.enter_async_context(client.tx(max_wait=PATIENCE, timeout=PATIENCE))
            for _ in range(SERVER_CONNECTIONS)
        ]
        answers = [await transaction.query_first(query) for transaction in each]
    return {row["pid"]: row["answer"] for row in answers}


async def test_a_hundred_tasks_over_four_sessions(pooled: Prisma) -> None:
    async def task(number: int) -> None:
        where, data = {"budget_id": str(number)}, {"created_by": "t", "updated_by": "t", "budget_id": str(number)}
        for count in range(8):  # as often as it takes for either driver to prepare a statement
            assert await pooled.query_raw("SELECT $1::int AS number", number) == [{"number": number}]
            assert await pooled.query_raw(f"SELECT $1 AS it, {number}", str(count)) == [
                {"it": str(count), "?column?": number}
            ]
        await pooled.litellm_budgettable.create(data=data)
        async with pooled.tx(max_wait=PATIENCE, timeout=PATIENCE) as transaction:
            await transaction.execute_raw("SELECT set_config('tests.number', $1, true)", str(number))
            await transaction.litellm_budgettable.update(where=where, data={"max_budget": {"increment": number}})
            mine = await transaction.query_raw("SELECT current_setting('tests.number') AS number")
            assert mine == [{"number": str(number)}]
            assert (await transaction.litellm_budgettable.find_unique(where=where)).max_budget is None
        async with pooled.batch_() as batch:
            batch.litellm_budgettable.update(where=where, data={"max_budget": number})
        assert (await pooled.litellm_budgettable.find_unique(where=where)).max_budget == number

    await asyncio.gather(*map(task, range(TASKS)))
    statements = await sessions(pooled, "SELECT count(*) FROM pg_prepared_statements")
    assert list(statements.values()) == [0] * SERVER_CONNECTIONS
    zones = await sessions(pooled, "SELECT current_setting('TimeZone')")
    assert set(zones.values()) == {"UTC"}


async def test_a_transaction_is_rolled_back(pooled: Prisma) -> None:
    async def write() -> None:
        async with pooled.tx(max_wait=PATIENCE, timeout=PATIENCE) as transaction:
            await transaction.litellm_budgettable.create(
                data={"budget_id": "b", "created_by": "tests", "updated_by": "tests"}
            )
            assert await transaction.litellm_budgettable.count() == 1
            assert await pooled.litellm_budgettable.count() == 0
            raise LookupError

    with pytest.raises(LookupError):
        await write()
    assert await pooled.litellm_budgettable.count() == 0


async def test_a_session_that_ends_is_an_unreachable_database_and_replaced(pooled: Prisma) -> None:
    with pytest.raises(EngineConnectionError, match="Can't reach database server"):
        await pooled.query_raw("SELECT pg_terminate_backend(pg_backend_pid())")
    assert len(await sessions(pooled, "1")) == SERVER_CONNECTIONS


@pytest.mark.usefixtures("driver")
@pytest.mark.parametrize(
    ("options", "is_pooled", "is_warned"),
    [({}, True, True), ({"pgbouncer": "true"}, True, False), ({"pgbouncer": "false"}, True, False), ({}, False, False)],
    ids=str,
)
async def test_one_is_told_of_a_pooler(
    cluster: Cluster,
    pgbouncer: Cluster,
    caplog: pytest.LogCaptureFixture,
    options: dict[str, str],
    is_pooled: bool,
    is_warned: bool,
) -> None:
    client = Prisma(datasource={"url": url(pgbouncer if is_pooled else cluster, "postgres", **options)})
    await client.connect()
    assert (WARNING in caplog.text) == is_warned
    assert await client.query_raw("SELECT 1 AS one") == [{"one": 1}]
    await client.disconnect()


@pytest.mark.usefixtures("driver")
async def test_one_that_keeps_prepared_statements_works_by_them(cluster: Cluster, litellm_database: str) -> None:
    with running_pgbouncer(cluster, "trixie") as since_1_21:
        options = {"connection_limit": 20, "pgbouncer": "false"}
        client = Prisma(datasource={"url": url(since_1_21, litellm_database, **options)})
        await client.connect()
        for _ in range(8):
            answers = await asyncio.gather(*(client.query_raw("SELECT $1::int AS n", n) for n in range(TASKS)))
            assert [rows[0]["n"] for rows in answers] == list(range(TASKS))
        assert any((await sessions(client, "SELECT count(*) FROM pg_prepared_statements")).values())
        await client.disconnect()


async def test_pgbouncer_goes_and_comes(cluster: Cluster, litellm_database: str, driver: str) -> None:
    del driver
    with running_pgbouncer(cluster) as going:
        client = Prisma(datasource={"url": url(going, litellm_database, pgbouncer="true", connection_limit=2)})
        await client.connect()
    with pytest.raises(EngineConnectionError, match="Can't reach database server"):
        await client.query_raw("SELECT 1")
    with running_pgbouncer(cluster, port=going.port):
        assert await client.query_raw("SELECT 1 AS one") == [{"one": 1}]
        await client.disconnect()
