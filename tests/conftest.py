"""Fixtures of all tests."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from litellm_sqlalchemy import database
from litellm_sqlalchemy.ledger.spool import Spool
from tests.fix_litellm_database import client, driver, litellm_database, litellm_template
from tests.fix_postgres import cluster, cluster_15, empty_database, ledger_database, template
from tests.fix_prisma import litellms, migrated, migrated_template, project
from tests.fix_server import PATIENCE_SECONDS

__all__ = [
    "client",
    "cluster",
    "cluster_15",
    "driver",
    "empty_database",
    "ledger_database",
    "litellm_database",
    "litellm_template",
    "litellms",
    "migrated",
    "migrated_template",
    "project",
    "template",
]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--combination", action="append", help="RELEASE-DRIVER-POSTGRESQL-WAY; may be repeated")
    parser.addoption(
        "--screenshots", type=Path, metavar="DIRECTORY", help="keep the pictures that test_admin_ui.py takes there"
    )


@pytest.fixture(scope="session", autouse=True)
def _patience() -> Iterator[None]:
    """Have the product's own connections that a test makes wait as long as the test's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "CONNECT_TIMEOUT_SECONDS", PATIENCE_SECONDS)
        yield


@pytest.fixture
def opened() -> Iterator[Callable[[Path], Spool]]:
    """Opens a spool; it is closed after the test."""
    with contextlib.ExitStack() as stack:
        yield lambda path: stack.enter_context(contextlib.closing(Spool(path)))
