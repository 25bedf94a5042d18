"""group_by, compiled to a SELECT. Pure: nothing here knows a connection."""

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import ColumnElement, Select, String, and_, func, not_, or_, select
from sqlalchemy import cast as sql_cast
from sqlalchemy.types import BigInteger, Double

from litellm_sqlalchemy.prisma_client.data import NUMBERS
from litellm_sqlalchemy.prisma_client.description import Entity
from litellm_sqlalchemy.prisma_client.query import GROUPS, Arguments, Compiler, column_field, unknown

AGGREGATES = ("_avg", "_min", "_sum", "_max", "_count")


class Grouping:
    """Compiles group_by.

    Args:
        compiler: Of filters.
    """

    def __init__(self, compiler: Compiler) -> None:
        self._compiler = compiler

    def statement(self, entity: Entity, arguments: Arguments) -> tuple[Select[Any], list[tuple[str, ...]]]:
        """Make the SELECT.

        Args:
            entity: What is grouped.
            arguments: Of the call.

        Returns:
            The SELECT; and of each column where its value is to be in a group: its name, or its aggregate's and its.

        Raises:
            DataError: The arguments name what is not there.
        """
        by = [column_field(entity, name, "by") for name in arguments["by"]]
        columns: list[ColumnElement[Any]] = [entity.column(one) for one in by]
        names: list[tuple[str, ...]] = [(one.name,) for one in by]
        for aggregate in AGGREGATES:
            for name in arguments.get(aggregate) or ():
                columns.append(self._aggregate(entity, aggregate, name))
                names.append((aggregate, name))
        statement = select(*columns).where(self._compiler.where(entity, entity.table, arguments.get("where")))
        statement = statement.group_by(*(entity.column(one) for one in by))
        if (having := arguments.get("having")) is not None:
            statement = statement.having(self._having(entity, having))
        order = arguments.get("orderBy")
        for member in order if isinstance(order, list) else [order] if order else []:
            statement = statement.order_by(*self._group_order(entity, member))
        if (take := arguments.get("take")) is not None:
            statement = statement.limit(abs(take))
        if skip := arguments.get("skip"):
            statement = statement.offset(skip)
        return statement, names

    def _aggregate(self, entity: Entity, aggregate: str, name: str) -> ColumnElement[Any]:
        if aggregate == "_count" and name == "_all":
            return func.count()
        one = column_field(entity, name, aggregate)
        column = entity.column(one)
        if aggregate == "_count":
            return func.count(column)
        if aggregate in {"_avg", "_sum"}:
            if one.type not in NUMBERS:
                raise unknown(entity, name, aggregate)
            if aggregate == "_avg":
                return sql_cast(func.avg(column), Double)
            # As Prisma writes them in JSON.
            if one.type == "BigInt":
                return sql_cast(func.sum(column), String)
            return func.sum(column) if one.type == "Float" else sql_cast(func.sum(column), BigInteger)
        return (func.min if aggregate == "_min" else func.max)(column)

    def _having(self, entity: Entity, having: Arguments) -> ColumnElement[Any]:
        conditions = []
        for name, value in having.items():
            if name in GROUPS:
                members = [self._having(entity, one) for one in (value if isinstance(value, list) else [value])]
                joined = or_(*members) if name == "OR" else and_(*members)
                conditions.append(not_(joined) if name == "NOT" else joined)
                continue
            one = column_field(entity, name, "having")
            plain_filters = {}
            for operator, operand in value.items() if isinstance(value, Mapping) else [("equals", value)]:
                if operator in AGGREGATES:
                    column = self._aggregate(entity, operator, name)
                    kind = "Int" if operator == "_count" else "Float" if operator == "_avg" else one.type
                    conditions.append(self._compiler.scalar(one, kind, column, operand))
                else:
                    plain_filters[operator] = operand
            if plain_filters:
                conditions.append(self._compiler.scalar(one, one.type, entity.column(one), plain_filters))
        return and_(*conditions)

    def _group_order(self, entity: Entity, member: Arguments) -> Iterable[ColumnElement[Any]]:
        for name, direction in member.items():
            if not name.startswith("_"):
                yield from self._compiler.order(entity, entity.table, {name: direction})
                continue
            for inner, inner_direction in direction.items():
                column = self._aggregate(entity, name, inner)
                yield column.desc() if inner_direction == "desc" else column.asc()
