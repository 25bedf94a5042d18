"""The stand-in for Prisma when something goes wrong: what LiteLLM sees, and that all is well afterwards."""

import asyncio
import datetime as dt
import gc
import random
import types
from typing import Any

import psycopg2
import pytest
from litellm.proxy.db.exception_handler import PrismaDBExceptionHandler

from litellm_sqlalchemy.prisma_client import connection, engine, pool
from prisma import Prisma
from prisma.engine.errors import EngineConnectionError
from prisma.errors import (
    DataError,
    PrismaError,
    RawQueryError,
    TransactionError,
    TransactionExpiredError,
    UniqueViolationError,
)
from tests.fix_litellm_database import url
from tests.fix_postgres import SUPERUSER_PASSWORD, Cluster, running_cluster
from tests.fix_server import wait_for

CANCELLED = 1_000
PATIENCE = dt.timedelta(minutes=1)  # where no limit is tested: Prisma's own are less than a busy machine may take
BUDGET = {"budget_id": "b", "created_by": "tests", "updated_by": "tests", "max_budget": 1.0}


def sessions(cluster: Cluster, database: str) -> list[tuple[object, ...]]:
    return cluster.execute(
        "SELECT pid, state FROM pg_stat_activity WHERE datname = %(name)s AND pid <> pg_backend_pid()",
        arguments={"name": database},
    )


async def works(client: Prisma) -> None:
    """All four connections give an answer, each."""
    answers = await asyncio.gather(*(client.query_raw("SELECT pg_sleep(0.05), $1 AS number", n) for n in range(8)))
    assert [rows[0]["number"] for rows in answers] == list(range(8))


async def test_a_thousand_cancelled_calls_leave_nothing_behind(
    client: Prisma, cluster: Cluster, litellm_database: str, caplog: pytest.LogCaptureFixture
) -> None:
    gc.collect()  # what other tests have left has its say before
    caplog.clear()
    chance = random.Random(5)
    said: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))

    async def call(number: int) -> None:
        where, data = {"budget_id": str(number)}, {**BUDGET, "budget_id": str(number)}
        if number % 3 == 0:
            async with client.tx(max_wait=PATIENCE, timeout=PATIENCE) as transaction:
                await transaction.litellm_budgettable.upsert(where=where, data={"create": data, "update": {}})
                await asyncio.sleep(chance.random() * 0.01)
                await transaction.litellm_budgettable.find_unique(where=where)
        elif number % 3 == 1:
            await client.query_raw("SELECT pg_sleep(0.002)")
        else:
            async with client.batch_() as batch:
                batch.litellm_budgettable.create(data=data)

    for start in range(0, CANCELLED, 40):
        tasks = [asyncio.create_task(call(number)) for number in range(start, start + 40)]
        for task in tasks:
            await asyncio.sleep(chance.random() * 0.001)
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    await works(client)
    await asyncio.to_thread(
        wait_for,
        lambda: {state for _, state in sessions(cluster, litellm_database)} == {"idle"},
        "all sessions are idle",
    )
    gc.collect()
    assert said == []
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []
    assert {state for _, state in sessions(cluster, litellm_database)} == {"idle"}
    assert len(sessions(cluster, litellm_database)) <= 4


async def test_a_client_that_nobody_has_leaves_no_session(
    client: Prisma, cluster: Cluster, litellm_database: str
) -> None:
    other = Prisma(datasource={"url": url(cluster, litellm_database)})
    await other.connect()
    await works(other)
    await works(client)
    assert len(sessions(cluster, litellm_database)) > 4
    del other
    gc.collect()
    await asyncio.to_thread(wait_for, lambda: len(sessions(cluster, litellm_database)) <= 4, "its sessions are gone")


async def test_what_is_cancelled_in_a_transaction_is_rolled_back(client: Prisma) -> None:
    begun = asyncio.Event()

    async def write() -> None:
        async with client.tx(max_wait=PATIENCE, timeout=PATIENCE) as transaction:
            await transaction.litellm_budgettable.create(data=BUDGET)
            begun.set()
            await asyncio.sleep(60)

    task = asyncio.create_task(write())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await client.litellm_budgettable.count() == 0


async def test_terminated_sessions_are_replaced(client: Prisma, cluster: Cluster, litellm_database: str) -> None:
    await works(client)
    cluster.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %(name)s",
        arguments={"name": litellm_database},
    )
    await asyncio.to_thread(wait_for, lambda: not sessions(cluster, litellm_database), "they are gone")
    await asyncio.sleep(0.2)  # for the client to be told
    for _ in range(8):
        assert await client.litellm_budgettable.count() == 0


async def test_a_session_that_ends_within_a_call_is_an_unreachable_database(client: Prisma) -> None:
    with pytest.raises(EngineConnectionError, match="Can't reach database server") as raised:
        await client.query_raw("SELECT pg_terminate_backend(pg_backend_pid())")
    assert "terminating connection due to administrator command" in str(raised.value)  # newer releases look for it
    assert PrismaDBExceptionHandler.is_database_connection_error(raised.value)
    assert PrismaDBExceptionHandler.is_database_transport_error(raised.value)
    assert PrismaDBExceptionHandler.is_database_service_unavailable_error(raised.value)
    await works(client)


@pytest.mark.usefixtures("driver")
async def test_a_server_that_stops_and_starts(litellm_template: str, cluster: Cluster) -> None:
    del litellm_template, cluster
    with running_cluster({"fsync": "off"}) as server:
        client = Prisma(datasource={"url": url(server, "postgres", connection_limit=2)})
        await client.connect()
        await client.execute_raw("CREATE TABLE kept AS SELECT 1 AS one")
        port = server.port
    with pytest.raises(EngineConnectionError, match=rf"Can't reach database server at `127\.0\.0\.1:{port}`") as raised:
        await client.query_raw("SELECT one FROM kept")
    assert SUPERUSER_PASSWORD not in str(raised.value)
    assert PrismaDBExceptionHandler.is_database_connection_error(raised.value)
    await client.disconnect()


async def test_a_full_pool_says_so(client: Prisma, cluster: Cluster, litellm_database: str) -> None:
    narrow = Prisma(datasource={"url": url(cluster, litellm_database, connection_limit=1, pool_timeout=1)})
    await narrow.connect()
    async with narrow.tx(max_wait=PATIENCE, timeout=PATIENCE) as transaction:
        await transaction.query_raw("SELECT 1")
        with pytest.raises(DataError, match="Timed out fetching a new connection") as raised:
            await narrow.query_raw("SELECT 1")
        assert raised.value.code == "P2024"
        assert PrismaDBExceptionHandler.is_database_capacity_error(raised.value)
        with pytest.raises(TransactionError, match="Unable to start a transaction in the given time"):
            await narrow.tx(max_wait=dt.timedelta(milliseconds=100)).start()
    async with narrow.tx(max_wait=PATIENCE):  # once the one that was given up has given the connection back
        pass
    assert await narrow.query_raw("SELECT 1 AS one") == [{"one": 1}]
    await narrow.disconnect()
    await works(client)


@pytest.mark.usefixtures("driver")
async def test_more_callers_than_connections_are_all_served(cluster: Cluster, litellm_database: str) -> None:
    async with Prisma(datasource={"url": url(cluster, litellm_database, connection_limit=2)}) as narrow:

        async def call(number: int) -> Any:
            await asyncio.sleep(number % 7 * 0.001)
            if number % 5:
                return await narrow.litellm_budgettable.count()
            async with narrow.tx(max_wait=PATIENCE, timeout=PATIENCE) as transaction:
                return await transaction.litellm_budgettable.count()

        assert await asyncio.gather(*(call(number) for number in range(300))) == [0] * 300
        assert len(sessions(cluster, litellm_database)) == 2


@pytest.mark.usefixtures("driver")
async def test_a_connection_that_was_idle_for_too_long_is_replaced(
    cluster: Cluster, litellm_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, object] = {"connection_limit": 1, "max_idle_connection_lifetime": 2}
    now = 0.0
    for module in (pool, connection):
        monkeypatch.setattr(module, "time", types.SimpleNamespace(monotonic=lambda: now))

    async def session() -> int:
        return int((await narrow.query_first("SELECT pg_backend_pid() AS pid"))["pid"])

    async with Prisma(datasource={"url": url(cluster, litellm_database, **options)}) as narrow:
        first = await session()
        for _ in range(4):  # in use, it stays; also once SQLAlchemy's pool has looked at it
            now += 0.7
            assert await session() == first
        now += 2.5
        assert await session() != first


async def test_a_wrong_row_of_many_leaves_the_transaction_as_it_was(client: Prisma) -> None:
    rows = [{"created_by": "a", "updated_by": "a"} for _ in range(500)]
    async with client.tx(max_wait=PATIENCE, timeout=PATIENCE) as transaction:
        before = await transaction.query_first("SELECT pg_backend_pid() AS pid")
        with pytest.raises(DataError):
            await transaction.litellm_budgettable.create_many(data=[*rows, {**rows[0], "tpm_limit": "many"}])
        assert await transaction.query_first("SELECT pg_backend_pid() AS pid") == before
        assert await transaction.litellm_budgettable.count() == 0
        assert await transaction.litellm_budgettable.create_many(data=rows) == 500
    assert await client.litellm_budgettable.count() == 500


async def test_what_is_under_way_when_the_client_disconnects_leaves_no_session(
    client: Prisma, cluster: Cluster, litellm_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "LAST_OPERATIONS_SECONDS", 0.1)
    await works(client)
    there = len(sessions(cluster, litellm_database))
    other = Prisma(datasource={"url": url(cluster, litellm_database)})
    await other.connect()
    sleeping = asyncio.create_task(other.query_raw("SELECT 1 AS one FROM pg_sleep(1)"))
    await asyncio.sleep(0.3)
    await other.disconnect()
    assert await sleeping == [{"one": 1}]
    await asyncio.to_thread(
        wait_for, lambda: len(sessions(cluster, litellm_database)) <= there, "the other client's session is gone"
    )


async def test_a_transaction_expires(client: Prisma) -> None:
    transactions = client.tx(max_wait=PATIENCE, timeout=dt.timedelta(milliseconds=100))
    transaction = await transactions.start()
    await transaction.litellm_budgettable.create(data=BUDGET)
    await asyncio.sleep(0.3)
    with pytest.raises(
        TransactionExpiredError, match=r"expired transaction\. The timeout for this transaction was 100 ms"
    ):
        await transaction.litellm_budgettable.count()
    with pytest.raises(TransactionExpiredError):
        await transactions.commit()
    assert await client.litellm_budgettable.count() == 0
    await works(client)


async def test_a_deadlock(client: Prisma) -> None:
    for name in "ab":
        await client.litellm_budgettable.create(data={**BUDGET, "budget_id": name})
    both = asyncio.Barrier(2)

    async def lock(first: str, second: str) -> None:
        async with client.tx(max_wait=PATIENCE, timeout=PATIENCE) as transaction:
            await transaction.litellm_budgettable.update(where={"budget_id": first}, data={"max_budget": 2})
            await both.wait()
            await transaction.litellm_budgettable.update(where={"budget_id": second}, data={"max_budget": 2})

    results = await asyncio.gather(lock("a", "b"), lock("b", "a"), return_exceptions=True)
    (error,) = [result for result in results if result is not None]
    assert isinstance(error, DataError)
    assert error.code == "P2034"
    assert PrismaDBExceptionHandler.is_deadlock_error(error)
    await works(client)


async def test_a_serialization_failure(client: Prisma) -> None:
    await client.litellm_budgettable.create(data=BUDGET)
    async with client.tx(max_wait=PATIENCE, timeout=PATIENCE) as transaction:
        await transaction.execute_raw("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        await transaction.litellm_budgettable.count()
        await client.litellm_budgettable.update(where={"budget_id": "b"}, data={"max_budget": 2})
        with pytest.raises(DataError, match="write conflict or a deadlock") as raised:
            await transaction.litellm_budgettable.update(where={"budget_id": "b"}, data={"max_budget": 3})
    assert raised.value.code == "P2034"


async def test_a_table_that_changes_does_not_show(client: Prisma, cluster: Cluster, litellm_database: str) -> None:
    await client.litellm_budgettable.create(data=BUDGET)
    for _ in range(10):  # as often as it takes for either driver to have a plan
        await works(client)
        await asyncio.gather(*(client.litellm_budgettable.find_many() for _ in range(4)))
        await asyncio.gather(*(client.query_raw('SELECT * FROM "LiteLLM_BudgetTable"') for _ in range(4)))
    cluster.execute('ALTER TABLE "LiteLLM_BudgetTable" ADD COLUMN of_a_newer_release text', litellm_database)
    rows = await asyncio.gather(*(client.query_raw('SELECT * FROM "LiteLLM_BudgetTable"') for _ in range(8)))
    assert all("of_a_newer_release" in found[0] for found in rows)
    assert [row.budget_id for row in await client.litellm_budgettable.find_many()] == ["b"]


async def test_a_statement_that_takes_too_long(cluster: Cluster, litellm_database: str, driver: str) -> None:
    del driver
    options = "-c%20statement_timeout=5s%20-c%20lock_timeout=2s"
    hurried = Prisma(datasource={"url": url(cluster, litellm_database, options=options)})
    await hurried.connect()
    with pytest.raises(RawQueryError, match="statement timeout") as raised:
        await hurried.query_raw("SELECT pg_sleep(600)")
    assert raised.value.meta["code"] == "57014"
    await hurried.litellm_budgettable.create(data=BUDGET)
    async with hurried.tx(max_wait=PATIENCE, timeout=PATIENCE) as transaction:
        await transaction.litellm_budgettable.update(where={"budget_id": "b"}, data={"max_budget": 2})
        with pytest.raises(DataError, match="lock timeout") as waited:
            await hurried.litellm_budgettable.update(where={"budget_id": "b"}, data={"max_budget": 3})
    assert PrismaDBExceptionHandler.is_lock_timeout_error(waited.value)
    await hurried.disconnect()


async def test_a_read_only_session(client: Prisma) -> None:
    async with client.tx(max_wait=PATIENCE, timeout=PATIENCE) as transaction:
        await transaction.execute_raw("SET TRANSACTION READ ONLY")
        with pytest.raises(PrismaError) as raised:
            await transaction.litellm_budgettable.create(data=BUDGET)
    assert PrismaDBExceptionHandler.is_read_only_transaction_error(raised.value)


async def test_a_batch_stands_or_falls_as_one(client: Prisma) -> None:
    batch = client.batch_()
    batch.litellm_budgettable.create(data=BUDGET)
    batch.litellm_budgettable.create(data=BUDGET)
    with pytest.raises(UniqueViolationError):
        await batch.commit()
    assert await client.litellm_budgettable.count() == 0


@pytest.mark.parametrize(
    ("wrong", "code"),
    [({"password": "not-the-password"}, "P1000"), ({"database": "nowhere"}, "P1003"), ({"port": "1"}, "P1001")],
)
@pytest.mark.usefixtures("driver")
async def test_what_cannot_be_connected_to(cluster: Cluster, wrong: dict[str, str], code: str) -> None:
    parts = {"password": SUPERUSER_PASSWORD, "database": "postgres", "port": str(cluster.port), **wrong}
    client = Prisma(
        datasource={"url": f"postgresql://postgres:{parts['password']}@127.0.0.1:{parts['port']}/{parts['database']}"}
    )
    with pytest.raises(EngineConnectionError) as raised:
        await client.connect()
    assert raised.value.code == code
    assert parts["password"] not in str(raised.value)
    assert not client.is_connected()


async def test_a_role_that_may_not_log_in(cluster: Cluster, driver: str) -> None:
    """By either driver: psycopg has only PostgreSQL's words."""
    cluster.execute(f"CREATE ROLE quiet_{driver} PASSWORD 'of-the-tests'")
    client = Prisma(datasource={"url": f"postgresql://quiet_{driver}:of-the-tests@127.0.0.1:{cluster.port}/postgres"})
    with pytest.raises(EngineConnectionError, match="not permitted to log in") as raised:
        await client.connect()
    assert raised.value.code == "P1010"


async def test_values_are_in_no_error(client: Prisma) -> None:
    secret = "a-value-that-nobody-may-see"
    with pytest.raises(PrismaError) as raised:
        await client.query_raw("SELECT $1::int", secret)
    error: BaseException | None = raised.value.__cause__
    while error is not None:
        assert secret not in str(error) or isinstance(error, psycopg2.Error) or "invalid input syntax" in str(error)
        error = error.__cause__
