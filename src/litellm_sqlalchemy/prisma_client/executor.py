"""Prisma's operations, run on a connection."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from sqlalchemy.ext.asyncio import AsyncConnection

from litellm_sqlalchemy.prisma_client.description import Description
from litellm_sqlalchemy.prisma_client.reads import Reads
from litellm_sqlalchemy.prisma_client.schema import Value
from litellm_sqlalchemy.prisma_client.writes import Writes

Arguments = Mapping[str, Value]
WRITES = frozenset({"create", "create_many", "update", "update_many", "upsert", "delete", "delete_many"})


@dataclass(frozen=True, slots=True)
class Operation:
    """One call.

    Attributes:
        method: Its name in prisma-client-py.
        model: Whose; None of a raw statement.
        arguments: With Prisma's own names (`query.normal`), None for those that are not given.
    """

    method: str
    model: str | None
    arguments: Arguments = field(repr=False)


class Executor:
    """Runs operations.

    Args:
        description: The schema with its tables.
        connection: Where; in a transaction, if `needs_transaction` says so.
    """

    def __init__(self, description: Description, connection: AsyncConnection) -> None:
        self._description = description
        self._reads = Reads(description, connection)
        self._writes = Writes(description, connection, self._reads)

    async def run(self, operation: Operation) -> Value:
        """Run one.

        Args:
            operation: Of a model.

        Returns:
            A row, None, rows, a number or dictionaries, as the method gives.

        Raises:
            PrismaError: The arguments are wrong, or a row is missing.
            sqlalchemy.exc.SQLAlchemyError: PostgreSQL refused, or is away.
        """
        entity = self._description.entities[cast("str", operation.model)]
        part = self._writes if operation.method in WRITES else self._reads
        return await getattr(part, operation.method)(entity, operation.arguments)


def needs_transaction(description: Description, operation: Operation) -> bool:
    """Say whether an operation takes several statements that stand or fall together.

    Args:
        description: The schema with its tables.
        operation: Of a model.
    """
    arguments = operation.arguments
    match operation.method:
        case "create_many" | "upsert":
            return True
        case "create" | "update" | "delete":
            entity = description.entities[cast("str", operation.model)]
            data = arguments.get("data") or {}
            return bool(arguments.get("include")) or any(entity.relation(name) for name in data)
    return False
