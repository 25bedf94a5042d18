"""Fixtures of all tests."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from litellm_sqlalchemy.ledger.spool import Spool
from tests.fix_postgres import cluster, empty_database, ledger_database, template

__all__ = ["cluster", "empty_database", "ledger_database", "template"]


@pytest.fixture
def opened() -> Iterator[Callable[[Path], Spool]]:
    """Opens a spool; it is closed after the test."""
    with contextlib.ExitStack() as stack:
        yield lambda path: stack.enter_context(contextlib.closing(Spool(path)))
