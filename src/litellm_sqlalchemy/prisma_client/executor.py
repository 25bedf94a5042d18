"""Prisma's operations, run on a connection."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import cast

from litellm_sqlalchemy.prisma_client.connection import Connection
from litellm_sqlalchemy.prisma_client.description import Description
from litellm_sqlalchemy.prisma_client.query import Arguments, Compiler
from litellm_sqlalchemy.prisma_client.reads import Reads
from litellm_sqlalchemy.prisma_client.schema import Value
from litellm_sqlalchemy.prisma_client.writes import Writes

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
        compiler: Of the schema.
        connection: Where; in a transaction, if `needs_transaction` says so.
    """

    def __init__(self, compiler: Compiler, connection: Connection) -> None:
        self._compiler = compiler
        self._connection = connection
        self._reads = Reads(compiler, connection)

    @cached_property
    def _writes(self) -> Writes:
        return Writes(self._compiler, self._connection, self._reads)

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
        entity = self._compiler.description.entities[cast("str", operation.model)]
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
