"""A database with LiteLLM's tables, for the contract."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

import litellm_proxy_extras

from tests.fix_postgres import SUPERUSER_PASSWORD, Cluster, running_cluster

MIGRATIONS = Path(litellm_proxy_extras.__file__).with_name("migrations")


@contextlib.contextmanager
def litellm_cluster(version: int = 17) -> Iterator[Cluster]:
    """Run a server whose database `contract` has LiteLLM's tables."""
    with running_cluster({"fsync": "off", "timezone": "UTC"}, version) as server:
        server.execute("CREATE DATABASE contract")
        for file in sorted(MIGRATIONS.glob("*/migration.sql")):
            server.execute(file.read_text(), "contract")
        yield server


def url(server: Cluster) -> str:
    """Write its URL as a superuser of the database has it."""
    return f"postgresql://postgres:{SUPERUSER_PASSWORD}@{server.host}:{server.port}/contract"
