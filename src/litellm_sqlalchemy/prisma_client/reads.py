"""Prisma's reads, on a connection, with what they include."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, bindparam, func, select, tuple_
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import ARRAY

from litellm_sqlalchemy.prisma_client.connection import ROWS_AT_ONCE, Connection
from litellm_sqlalchemy.prisma_client.description import Entity
from litellm_sqlalchemy.prisma_client.errors import UnknownRelationalFieldError, data_error, misfit, not_found
from litellm_sqlalchemy.prisma_client.grouping import Grouping
from litellm_sqlalchemy.prisma_client.query import Arguments, Compiler, column_field, unknown
from litellm_sqlalchemy.prisma_client.rows import Row
from litellm_sqlalchemy.prisma_client.schema import Field, Value
from litellm_sqlalchemy.prisma_client.values import LARGEST_BIGINT, plain

INCLUDE_ARGUMENTS = frozenset({"where", "orderBy", "take", "skip", "cursor", "distinct", "include"})
FOUND_NONE = "Expected a record, found none."


class Reads:
    """Reads; each method takes the entity that is read, and the call's arguments.

    Args:
        compiler: Of the schema.
        connection: Where.
    """

    def __init__(self, compiler: Compiler, connection: Connection) -> None:
        self._compiler = compiler
        self._connection = connection

    async def rows(self, entity: Entity, statement: Select[Any]) -> list[Row]:
        """Run a SELECT of an entity's columns.

        Args:
            entity: Whose.
            statement: With all of them, in the schema's order.
        """
        return await self._decoded(entity, await self._connection.rows(statement))

    async def _decoded(self, entity: Entity, found: Sequence[Sequence[Value]]) -> list[Row]:
        decode = entity.decode
        if len(found) <= ROWS_AT_ONCE:
            return [decode(row) for row in found]
        rows: list[Row] = []
        for start in range(0, len(found), ROWS_AT_ONCE):
            rows += [decode(row) for row in found[start : start + ROWS_AT_ONCE]]
            await asyncio.sleep(0)
        return rows

    async def find_unique(self, entity: Entity, arguments: Arguments) -> Row | None:
        """Find the row that is named, or None."""
        named = self._compiler.expanded(entity, arguments["where"])
        values = self._compiler.plain_values(entity, named)
        if values is None:
            condition = self._compiler.where(entity, entity.table, named)
            rows = await self.rows(entity, entity.selection.where(condition))
        else:  # as LiteLLM does for each request: what is sent is known already
            statement = self._connection.statements.named(
                ("find_unique", entity.model.name, *values), lambda: _by_key(entity, values)
            )
            found = await self._connection.fetch_one(statement.sql, statement.arguments(values))
            rows = [] if found is None else [entity.decode(found)]
        if include := arguments.get("include"):
            await self.include(entity, rows, include)
        return rows[0] if rows else None

    async def find_unique_or_raise(self, entity: Entity, arguments: Arguments) -> Row:
        """Find the row that is named."""
        return _found(await self.find_unique(entity, arguments))

    async def find_first(self, entity: Entity, arguments: Arguments) -> Row | None:
        """Find the first row, or None."""
        rows = await self.find_many(entity, {**arguments, "take": 1})
        return rows[0] if rows else None

    async def find_first_or_raise(self, entity: Entity, arguments: Arguments) -> Row:
        """Find the first row."""
        return _found(await self.find_first(entity, arguments))

    async def find_many(self, entity: Entity, arguments: Arguments) -> list[Row]:
        """Find rows."""
        distinct, take = arguments.get("distinct"), arguments.get("take")
        statement = self._selection(entity, arguments, paged=distinct is None)
        found = await self._connection.rows(statement)
        rows = await self._decoded(entity, found)
        if distinct is None and (take or 0) < 0:
            rows.reverse()
        if distinct is not None:
            rows = _page(_distinct(entity, rows, distinct, found), arguments.get("skip"), take)
        await self.include(entity, rows, arguments.get("include"))
        return rows

    def _selection(self, entity: Entity, arguments: Arguments, *, paged: bool = True) -> Select[Any]:
        """Make the SELECT of what arguments ask for; not paged: all, for whoever pages in memory."""
        table = entity.table
        take, skip, cursor = arguments.get("take"), arguments.get("skip"), arguments.get("cursor")
        for name in ("take", "skip"):
            if not isinstance(arguments.get(name), int | None):
                raise misfit(f"{name} must be a whole number")
        if skip is not None and skip < 0:
            raise data_error(None, f"Invalid value for skip argument: Value can only be positive, found: {skip}")
        backwards = (take or 0) < 0
        order = arguments.get("orderBy")
        if not order and (take is not None or skip or cursor):
            order = [{name: "asc"} for name in entity.model.primary_key.fields]
        statement = entity.selection.where(
            self._compiler.where(entity, table, arguments.get("where")),
            *self._after(entity, order, cursor, backwards=backwards),
        )
        if ordered := self._compiler.order(entity, table, order, backwards=backwards):
            statement = statement.order_by(*ordered)
        if paged and take is not None:
            statement = statement.limit(abs(take))
        return statement.offset(skip) if paged and skip else statement

    def _after(
        self, entity: Entity, order: Value, cursor: Arguments | None, *, backwards: bool
    ) -> Iterable[ColumnElement[Any]]:
        if not cursor:
            return
        members = order if isinstance(order, list) else [order]
        fields = [
            (entity.model.fields[name], (_sort(direction) == "desc") is not backwards)
            for member in members
            for name, direction in member.items()
        ]
        yield self._compiler.after(entity, entity.table, fields, cursor)

    async def count(self, entity: Entity, arguments: Arguments) -> Value:
        """Count rows, or with `select` values."""
        wanted = arguments.get("select")
        columns = [entity.column(one) for one in entity.columns]
        rows = self._selection(entity, arguments).with_only_columns(*columns).subquery()
        names = [name for name, value in wanted.items() if value is True] if wanted else ["_all"]
        counts = [
            func.count() if name == "_all" else func.count(entity.column(column_field(entity, name, "select"), rows))
            for name in names
        ]
        (counted,) = await self._connection.rows(select(*counts).select_from(rows))
        return counted[0] if wanted is None else dict(zip(names, counted, strict=True))

    async def group_by(self, entity: Entity, arguments: Arguments) -> list[dict[str, Value]]:
        """Read groups."""
        statement, names = Grouping(self._compiler).statement(entity, arguments)
        groups = []
        for row in await self._connection.rows(statement):
            group: dict[str, Value] = {}
            for name, value in zip(names, row, strict=True):
                target = group if len(name) == 1 else group.setdefault(name[0], {})
                if name[0] == "_sum" and isinstance(value, str) and int(value) > LARGEST_BIGINT:
                    text = f"Could not convert from `BigDecimal({value})` to `BigInt`"
                    raise data_error("P2023", f"Inconsistent column data: {text}", {"message": text})
                target[name[-1]] = plain(value, "group")
            groups.append(group)
        return groups[::-1] if (arguments.get("take") or 0) < 0 else groups

    async def include(self, entity: Entity, rows: Sequence[Row], include: Arguments | None) -> None:
        """Load what rows lead to.

        Args:
            entity: The rows'.
            rows: Into which it is loaded.
            include: Of each relation True, False, or arguments as of `find_many`.

        Raises:
            UnknownRelationalFieldError: It names what is no relation.
        """
        for name, wanted in (include or {}).items():
            one = entity.model.fields.get(name)
            if one is None or one.relation is None:
                raise UnknownRelationalFieldError(entity.model.name, name)
            if wanted is False:
                continue
            if wanted is not True and not isinstance(wanted, Mapping):
                raise TypeError(f"Expected `bool` or `dict` include value but got {type(wanted)} instead.")
            arguments = {} if wanted is True else wanted
            if strange := arguments.keys() - INCLUDE_ARGUMENTS:
                raise unknown(entity, f"{name}.{min(strange)}", "include")
            await self._load(entity, rows, one, arguments)

    async def _load(self, entity: Entity, rows: Sequence[Row], relation: Field, arguments: Arguments) -> None:
        assert relation.relation is not None  # noqa: S101 - the caller has looked
        other = self._compiler.description.other(relation.relation)
        joined = self._compiler.description.joined(entity, relation)
        keys = {key for row in rows if None not in (key := tuple(getattr(row, mine.name) for mine, _ in joined))}
        by_key: dict[tuple[Value, ...], list[Row]] = {}
        arguments = {name: value for name, value in arguments.items() if value is not None}
        statement = self._selection(other, arguments, paged=False)  # looks at the arguments, also if there are no rows
        if keys:
            loaded = await self.rows(other, statement.where(self._among(other, joined, keys)))
            for row in loaded:
                by_key.setdefault(tuple(getattr(row, theirs.name) for _, theirs in joined), []).append(row)
        kept: list[Row] = []
        for row in rows:
            found = by_key.get(tuple(getattr(row, mine.name) for mine, _ in joined), [])
            if (distinct := arguments.get("distinct")) is not None:
                found = _distinct(other, found, distinct)
            found = _page(found, arguments.get("skip"), arguments.get("take"))
            kept += found
            row.__dict__[relation.name] = found if relation.is_list else found[0] if found else None
            row.__pydantic_fields_set__.add(relation.name)
        await self.include(other, kept, arguments.get("include"))

    def _among(
        self, other: Entity, joined: Sequence[tuple[Field, Field]], keys: Iterable[tuple[Value, ...]]
    ) -> ColumnElement[Any]:
        columns = [other.column(theirs) for _, theirs in joined]
        if len(columns) == 1:
            values = [self._compiler.value(joined[0][1], key[0]) for key in keys]
            return columns[0] == func.any(sql_cast(values, ARRAY(columns[0].type)))
        lists = [
            func.unnest(sql_cast([self._compiler.value(theirs, value) for value in values], ARRAY(column.type)))
            for column, (_, theirs), values in zip(columns, joined, zip(*keys, strict=True), strict=True)
        ]
        return tuple_(*columns).in_(select(*lists))

    async def one(self, entity: Entity, condition: ColumnElement[Any]) -> Row | None:
        """Find one row, or None.

        Args:
            entity: Of which model.
            condition: What finds it.
        """
        rows = await self.rows(entity, entity.selection.where(condition).limit(1))
        return rows[0] if rows else None

    def same(self, entity: Entity, row: Row) -> ColumnElement[Any]:
        """Make the condition that finds a row again.

        Args:
            entity: The row's.
            row: The row.
        """
        return and_(
            *(
                entity.column(one) == self._compiler.value(one, getattr(row, one.name))
                for name in entity.model.primary_key.fields
                if (one := entity.model.fields[name])
            )
        )


def _by_key(entity: Entity, names: Iterable[str]) -> Select[Any]:
    """Make the SELECT of the rows that have some values; its parameters are named as the fields."""
    columns = {name: entity.column(entity.model.fields[name]) for name in names}
    return entity.selection.where(*(column == bindparam(name, type_=column.type) for name, column in columns.items()))


def _found(row: Row | None) -> Row:
    if row is None:
        raise not_found(FOUND_NONE)
    return row


def _sort(direction: Value) -> Value:
    return direction.get("sort") if isinstance(direction, Mapping) else direction


def _distinct(
    entity: Entity, rows: Iterable[Row], names: Value, found: Sequence[Sequence[Value]] | None = None
) -> list[Row]:
    """Keep the first row of each combination of values; in what was found, JSON's null is another than NULL."""
    wanted = names if isinstance(names, list) else [names]
    for name in wanted:
        if name not in entity.model.fields:
            raise unknown(entity, name, "distinct")
    places = [number for number, one in enumerate(entity.columns) if one.name in wanted and one.type == "Json"]
    seen: set[str] = set()
    kept = []
    for number, row in enumerate(rows):
        key = repr(
            (
                [getattr(row, name) for name in wanted],
                [found[number][place] is None for place in places] if found is not None else None,
            )
        )
        if key not in seen:
            seen.add(key)
            kept.append(row)
    return kept


def _page(rows: list[Row], skip: int | None, take: int | None) -> list[Row]:
    """Page through what was sorted backwards, if take is negative: then the last ones come, in their order."""
    rows = rows[skip or 0 :]
    if take is None:
        return rows
    return rows[:take] if take >= 0 else rows[: abs(take)][::-1]
