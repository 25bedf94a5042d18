"""group_by, compiled to a SELECT. Pure: nothing here knows a connection."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, String, and_, func, not_, or_, select
from sqlalchemy import cast as sql_cast
from sqlalchemy.types import BigInteger, Double

from litellm_sqlalchemy.prisma_client.data import NUMBERS
from litellm_sqlalchemy.prisma_client.description import Entity
from litellm_sqlalchemy.prisma_client.errors import DataError, data_error, invalid, misfit
from litellm_sqlalchemy.prisma_client.query import GROUPS, Arguments, Compiler, column_field, unknown
from litellm_sqlalchemy.prisma_client.schema import Field

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
        if not by:
            raise misfit(f"group_by of {entity.model.name} needs a field to group by")
        columns: list[ColumnElement[Any]] = [_as_written(one, entity.column(one)) for one in by]
        names: list[tuple[str, ...]] = [(one.name,) for one in by]
        for aggregate in AGGREGATES:
            fields = arguments.get(aggregate)
            if fields == []:
                raise data_error(None, f"{aggregate} of {entity.model.name} names no field")
            for name in fields or ():
                one = None if name == "_all" else column_field(entity, name, aggregate)
                value = self._aggregate(entity, aggregate, name)
                columns.append(value if one is None or aggregate in {"_avg", "_count"} else _as_written(one, value))
                names.append((aggregate, name))
        statement = select(*columns).where(self._compiler.where(entity, entity.table, arguments.get("where")))
        statement = statement.group_by(*(entity.column(one) for one in by))
        if (having := arguments.get("having")) is not None:
            statement = statement.having(self._having(entity, having, by))
        order, take = arguments.get("orderBy"), arguments.get("take")
        for member in order if isinstance(order, list) else [order] if order else []:
            statement = statement.order_by(*self._order(entity, member, by, backwards=(take or 0) < 0))
        if take is not None:
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
        if aggregate in {"_avg", "_sum"} and one.type not in NUMBERS:
            raise unknown(entity, name, aggregate)
        if aggregate == "_avg":
            return sql_cast(func.avg(column), Double)
        if aggregate == "_sum":
            return sql_cast(func.sum(column), BigInteger) if one.type == "Int" else func.sum(column)
        return (func.min if aggregate == "_min" else func.max)(column)

    def _having(self, entity: Entity, having: Arguments, by: Sequence[Field]) -> ColumnElement[Any]:
        conditions = []
        for name, value in having.items():
            if name in GROUPS:
                members = [self._having(entity, one, by) for one in (value if isinstance(value, list) else [value])]
                joined = or_(*members) if name == "OR" else and_(*members)
                conditions.append(not_(joined) if name == "NOT" else joined)
                continue
            one = column_field(entity, name, "having")
            filters = {}
            for operator, operand in value.items() if isinstance(value, Mapping) else [("equals", value)]:
                if operator in AGGREGATES:
                    column = self._aggregate(entity, operator, name)
                    kind = "Int" if operator == "_count" else "Float" if operator == "_avg" else one.type
                    conditions.append(self._compiler.scalar(one, kind, column, operand))
                else:
                    filters[operator] = operand
            if filters:
                if one not in by:
                    raise _not_grouped(entity, name, "having")
                conditions.append(self._compiler.scalar(one, one.type, entity.column(one), filters))
        return and_(*conditions)

    def _order(
        self, entity: Entity, member: Arguments, by: Sequence[Field], *, backwards: bool
    ) -> Iterable[ColumnElement[Any]]:
        for name, direction in member.items():
            if name not in AGGREGATES:
                one = column_field(entity, name, "order")
                if one not in by:
                    raise _not_grouped(entity, name, "order")
                if one.type == "Json":
                    raise invalid(f"{entity.model.name} can't be sorted by {name}, a Json")
                yield from self._compiler.order(entity, entity.table, {name: direction}, backwards=backwards)
                continue
            for inner, inner_direction in direction.items():
                column = self._aggregate(entity, name, inner)
                yield column.desc() if (inner_direction == "desc") is not backwards else column.asc()


def _as_written(one: Field, value: ColumnElement[Any]) -> ColumnElement[Any]:
    """Write what Prisma's engine writes as a text in JSON."""
    return sql_cast(value, String) if one.type == "BigInt" and not one.is_list else value


def _not_grouped(entity: Entity, name: str, where: str) -> DataError:
    text = f"Input error. {where} of {entity.model.name} names {name}, which the rows are not grouped by"
    return data_error("P2019", text, {"details": text})
