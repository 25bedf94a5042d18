"""Databases with LiteLLM's own tables, and clients of them."""

import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import litellm_proxy_extras
import pytest

from prisma import Prisma
from tests.fix_postgres import SUPERUSER_PASSWORD, Cluster, dropped_afterwards
from tests.fix_server import PATIENCE_SECONDS

MIGRATIONS = Path(litellm_proxy_extras.__file__).parent / "migrations"
NUMBERS = itertools.count(1)
DRIVERS = ("asyncpg", "psycopg")


@pytest.fixture(scope="session")
def litellm_template(cluster: Cluster) -> str:
    """A database with the tables of the pinned LiteLLM, by its own migrations, to copy."""
    name = "template_litellm"
    cluster.execute(f"CREATE DATABASE {name} TEMPLATE template0")
    for migration in sorted(MIGRATIONS.glob("*/migration.sql")):
        cluster.execute(migration.read_text(), name)
    return name


@pytest.fixture
def litellm_database(cluster: Cluster, litellm_template: str) -> Iterator[str]:
    """The name of a copy."""
    name = f"litellm_{next(NUMBERS)}"
    cluster.execute(f"CREATE DATABASE {name} TEMPLATE {litellm_template}")
    with dropped_afterwards(cluster, name):
        yield name


def url(cluster: Cluster, database: str, **options: object) -> str:
    """Write a URL as DATABASE_URL has it, of somebody who has time."""
    patient = {"connect_timeout": PATIENCE_SECONDS, "pool_timeout": PATIENCE_SECONDS}
    given = "&".join(f"{name}={value}" for name, value in {**patient, **options}.items())
    return f"postgresql://postgres:{SUPERUSER_PASSWORD}@{cluster.host}:{cluster.port}/{database}?{given}"


@pytest.fixture(params=DRIVERS)
def driver(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each driver in turn."""
    monkeypatch.setenv("PRISMA_CLIENT_DRIVER", request.param)
    return str(request.param)


@pytest.fixture
async def client(cluster: Cluster, litellm_database: str, driver: str) -> AsyncIterator[Prisma]:
    """A connected client with four connections."""
    del driver
    connected = Prisma(datasource={"url": url(cluster, litellm_database, connection_limit=4)})
    await connected.connect(timeout=PATIENCE_SECONDS)
    yield connected
    await connected.disconnect()
