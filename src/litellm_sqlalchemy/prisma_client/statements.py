"""Statements that SQLAlchemy has written, kept by their shape: the same with other values is not written again."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from sqlalchemy.engine import Dialect
from sqlalchemy.util import LRUCache

from litellm_sqlalchemy.prisma_client.schema import Value

KEPT = 1_000

Arguments: TypeAlias = Sequence[Value] | Mapping[str, Value]
"""A statement's, as the driver takes them: asyncpg in their order, psycopg by name."""


@dataclass(frozen=True, slots=True)
class Written:
    """A statement as the driver takes it.

    Attributes:
        compiled: By SQLAlchemy.
        sql: Its text.
        order: The names of its parameters, if the driver takes them in their order.
        processors: What makes of a parameter's value what the driver takes, by name.
    """

    compiled: Any
    sql: str
    order: tuple[str, ...] | None
    processors: Mapping[str, Callable[[Value], Value]]

    def arguments(self, values: Mapping[str, Value]) -> Arguments:
        """Give values as the driver takes them.

        Args:
            values: By the parameter's name.
        """
        if self.processors:
            values = {**values, **{name: process(values[name]) for name, process in self.processors.items()}}
        return values if self.order is None else [values[name] for name in self.order]


class Statements:
    """Writes and keeps them.

    Args:
        dialect: The driver's.
    """

    def __init__(self, dialect: Dialect) -> None:
        self._dialect = dialect
        self._kept: LRUCache[Any, Written] = LRUCache(KEPT)

    def write(self, statement: Any) -> tuple[str, Arguments]:
        """Write a statement.

        Args:
            statement: SQLAlchemy's, with its values.
        """
        # By what SQLAlchemy's own cache goes: https://docs.sqlalchemy.org/en/20/core/connections.html#sql-caching
        key = statement._generate_cache_key()  # noqa: SLF001
        written = self._kept.get(key.key)
        if written is None:
            written = self._kept[key.key] = self._written(statement, cache_key=key)
        return written.sql, written.arguments(written.compiled.construct_params(extracted_parameters=key.bindparams))

    def named(self, name: tuple[str, ...], make: Callable[[], Any], columns: Sequence[str] | None = None) -> Written:
        """Give a statement that has a name: it is not even made a second time.

        Args:
            name: Its name.
            make: Makes it, with parameters for values.
            columns: Of an INSERT, those that it has values for.
        """
        written = self._kept.get(name)
        if written is None:
            written = self._kept[name] = self._written(make(), column_keys=columns)
        return written

    def _written(self, statement: Any, **options: Any) -> Written:
        compiled = statement.compile(dialect=self._dialect, **options)
        processors = {
            name: process
            for parameter, name in compiled.bind_names.items()
            if (process := parameter.type.dialect_impl(self._dialect).bind_processor(self._dialect)) is not None
        }
        return Written(
            compiled, str(compiled), tuple(compiled.positiontup) if compiled.positional else None, processors
        )
