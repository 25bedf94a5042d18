"""Alembic's environment for the ledger's tables, which share a database with LiteLLM's own."""

from typing import Any

from sqlalchemy import ForeignKeyConstraint

from litellm_sqlalchemy.ledger.models import Base

VERSION_TABLE = "ledger_alembic_version"


def _is_our_name(name: str | None, kind: str, _parents: object) -> bool:
    return kind != "table" or name in Base.metadata.tables


def _is_our_object(item: object, _name: object, _kind: str, _reflected: object, _compare_to: object) -> bool:
    # PostgreSQL lists a foreign key to a partitioned table once more for each of its partitions.
    return not isinstance(item, ForeignKeyConstraint) or item.referred_table.name in Base.metadata.tables


OPTIONS: dict[str, Any] = {
    "target_metadata": Base.metadata,
    "version_table": VERSION_TABLE,
    "include_name": _is_our_name,
    "include_object": _is_our_object,
    "compare_server_default": True,
}
"""What Alembic must know whenever it looks at the database."""
