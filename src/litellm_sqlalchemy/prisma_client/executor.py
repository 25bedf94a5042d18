"""Prisma's operations, run on a connection: reads with what they include, writes with what is nested in them."""

import asyncio
import datetime as dt
import itertools
import os
import secrets
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from sqlalchemy import ColumnElement, Select, String, Table, and_, delete, func, insert, select, tuple_, update
from sqlalchemy import cast as sql_cast
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.types import BigInteger, Double

from litellm_sqlalchemy.prisma_client.description import Description, Entity
from litellm_sqlalchemy.prisma_client.errors import (
    MissingRequiredValueError,
    UnknownRelationalFieldError,
    invalid,
    not_found,
)
from litellm_sqlalchemy.prisma_client.query import Compiler, unknown
from litellm_sqlalchemy.prisma_client.rows import Row
from litellm_sqlalchemy.prisma_client.schema import Call, Field, Name, Value
from litellm_sqlalchemy.prisma_client.values import plain

Arguments = Mapping[str, Value]
Data = dict[str, Value]

ROWS_AT_ONCE = 1_000  # of one result, made between two looks at the event loop
NUMBER_OPERATORS = frozenset({"set", "increment", "decrement", "multiply", "divide"})
UPDATE_MISSING = "Record to update not found."
DELETE_MISSING = "Record to delete does not exist."
CONNECT_MISSING = "No '{}' record was found for a nested connect on relation '{}'."
FOUND_NONE = "Expected a record, found none."


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
        self._compiler = Compiler(description)
        self._connection = connection
        self._now = dt.datetime.now(dt.UTC)  # one for all of a request

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
        return await getattr(self, f"_run_{operation.method}")(entity, operation.arguments)

    # --- reads ----------------------------------------------------------------------------------------------------

    async def _rows(self, entity: Entity, statement: Select[Any]) -> list[Row]:
        found = (await self._connection.execute(statement)).fetchall()
        decode = entity.decode
        if len(found) <= ROWS_AT_ONCE:
            return [decode(row) for row in found]
        rows: list[Row] = []
        for start in range(0, len(found), ROWS_AT_ONCE):
            rows += [decode(row) for row in found[start : start + ROWS_AT_ONCE]]
            await asyncio.sleep(0)
        return rows

    async def _run_find_unique(self, entity: Entity, arguments: Arguments) -> Row | None:
        condition = self._compiler.unique(entity, entity.table, arguments["where"])
        rows = await self._rows(entity, select(*entity.selected()).where(condition))
        await self._include(entity, rows, arguments.get("include"))
        return rows[0] if rows else None

    async def _run_find_unique_or_raise(self, entity: Entity, arguments: Arguments) -> Row:
        return _found(await self._run_find_unique(entity, arguments))

    async def _run_find_first(self, entity: Entity, arguments: Arguments) -> Row | None:
        rows = await self._run_find_many(entity, {**arguments, "take": 1})
        return rows[0] if rows else None

    async def _run_find_first_or_raise(self, entity: Entity, arguments: Arguments) -> Row:
        return _found(await self._run_find_first(entity, arguments))

    async def _run_find_many(self, entity: Entity, arguments: Arguments) -> list[Row]:
        distinct = arguments.get("distinct")
        backwards = (arguments.get("take") or 0) < 0
        statement = self._selection(entity, arguments, paged=not distinct)
        rows = await self._rows(entity, statement)
        if backwards and not distinct:
            rows.reverse()
        if distinct:
            if backwards:
                rows.reverse()
            rows = _page(_distinct(entity, rows, distinct), arguments.get("skip"), arguments.get("take"))
        await self._include(entity, rows, arguments.get("include"))
        return rows

    def _selection(self, entity: Entity, arguments: Arguments, *, paged: bool = True) -> Select[Any]:
        """Make the SELECT of what arguments ask for; not paged: all, for whoever pages in memory."""
        table = entity.table
        take, skip, cursor = arguments.get("take"), arguments.get("skip"), arguments.get("cursor")
        if skip is not None and skip < 0:
            raise invalid(f"skip must not be negative, and is {skip}")
        backwards = (take or 0) < 0
        order = arguments.get("orderBy")
        if not order and (take is not None or skip or cursor):
            order = [{name: "asc"} for name in entity.model.primary_key.fields]
        statement = select(*entity.selected()).where(
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

    async def _run_count(self, entity: Entity, arguments: Arguments) -> Value:
        wanted = arguments.get("select")
        rows = self._selection(entity, arguments).subquery()
        names = [name for name, value in wanted.items() if value is True] if wanted else ["_all"]
        counts = [
            func.count() if name == "_all" else func.count(entity.column(self._column(entity, name, "select"), rows))
            for name in names
        ]
        counted = (await self._connection.execute(select(*counts).select_from(rows))).one()
        return counted[0] if wanted is None else dict(zip(names, counted, strict=True))

    def _column(self, entity: Entity, name: str, where: str) -> Field:
        found = entity.model.fields.get(name)
        if found is None or found.relation is not None:
            raise unknown(entity, name, where)
        return found

    # --- group_by -------------------------------------------------------------------------------------------------

    async def _run_group_by(self, entity: Entity, arguments: Arguments) -> list[dict[str, Value]]:
        by = [self._column(entity, name, "by") for name in arguments["by"]]
        columns: list[ColumnElement[Any]] = [entity.column(one) for one in by]
        names: list[tuple[str, ...]] = [(one.name,) for one in by]
        for aggregate in ("_avg", "_min", "_sum", "_max", "_count"):
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
        groups = []
        for row in await self._connection.execute(statement):
            group: dict[str, Value] = {}
            for name, value in zip(names, row, strict=True):
                target = group if len(name) == 1 else group.setdefault(name[0], {})
                target[name[-1]] = plain(value, "group")
            groups.append(group)
        return groups

    def _aggregate(self, entity: Entity, aggregate: str, name: str) -> ColumnElement[Any]:
        if aggregate == "_count" and name == "_all":
            return func.count()
        one = self._column(entity, name, aggregate)
        column = entity.column(one)
        if aggregate == "_count":
            return func.count(column)
        if aggregate in {"_avg", "_sum"}:
            if one.type not in {"Int", "BigInt", "Float", "Decimal"}:
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
            if name in {"AND", "OR", "NOT"}:
                members = [self._having(entity, one) for one in (value if isinstance(value, list) else [value])]
                joined = and_(*members)
                conditions.append(
                    joined if name == "AND" else ~joined if name == "NOT" else members[0].__or__(*members[1:])
                )
                continue
            one = self._column(entity, name, "having")
            plain_filters = {}
            for operator, operand in value.items() if isinstance(value, Mapping) else [("equals", value)]:
                if operator in {"_avg", "_min", "_sum", "_max", "_count"}:
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

    # --- include --------------------------------------------------------------------------------------------------

    async def _include(self, entity: Entity, rows: Sequence[Row], include: Arguments | None) -> None:
        for name, wanted in (include or {}).items():
            one = entity.model.fields.get(name)
            if one is None or one.relation is None:
                raise UnknownRelationalFieldError(entity.model.name, name)
            if wanted is False:
                continue
            if wanted is not True and not isinstance(wanted, Mapping):
                raise TypeError(f"Expected `bool` or `dict` include value but got {type(wanted)} instead.")
            await self._load(entity, rows, one, {} if wanted is True else wanted)

    async def _load(self, entity: Entity, rows: Sequence[Row], relation: Field, arguments: Arguments) -> None:
        assert relation.relation is not None  # noqa: S101 - the caller has looked
        other = self._description.other(relation.relation)
        joined = self._description.joined(entity, relation)
        keys = {key for row in rows if None not in (key := tuple(getattr(row, mine.name) for mine, _ in joined))}
        by_key: dict[tuple[Value, ...], list[Row]] = {}
        arguments = {name: value for name, value in arguments.items() if value is not None}
        if keys:
            statement = self._selection(other, arguments, paged=False).where(self._among(other, joined, keys))
            loaded = await self._rows(other, statement)
            for row in loaded:
                by_key.setdefault(tuple(getattr(row, theirs.name) for _, theirs in joined), []).append(row)
        kept: list[Row] = []
        for row in rows:
            found = by_key.get(tuple(getattr(row, mine.name) for mine, _ in joined), [])
            if (arguments.get("take") or 0) < 0:
                found.reverse()
            if distinct := arguments.get("distinct"):
                found = _distinct(other, found, distinct)
            found = _page(found, arguments.get("skip"), arguments.get("take"))
            kept += found
            row.__dict__[relation.name] = found if relation.is_list else found[0] if found else None
            row.__pydantic_fields_set__.add(relation.name)
        await self._include(other, kept, arguments.get("include"))

    def _among(
        self, other: Entity, joined: Sequence[tuple[Field, Field]], keys: Iterable[tuple[Value, ...]]
    ) -> ColumnElement[Any]:
        columns = [other.column(theirs) for _, theirs in joined]
        if len(columns) == 1:
            values = [self._compiler.value(joined[0][1], key[0]) for key in keys]
            return columns[0] == func.any(sql_cast(values, ARRAY(columns[0].type)))
        return tuple_(*columns).in_(
            [
                tuple(self._compiler.value(theirs, value) for (_, theirs), value in zip(joined, key, strict=True))
                for key in keys
            ]
        )

    # --- create ---------------------------------------------------------------------------------------------------

    async def _run_create(self, entity: Entity, arguments: Arguments) -> Row:
        row = await self._create(entity, arguments["data"])
        await self._include(entity, [row], arguments.get("include"))
        return row

    async def _create(self, entity: Entity, data: Arguments, fixed: Data | None = None) -> Row:
        """Insert a row with what is nested in it.

        Args:
            entity: Of which model.
            data: As the caller gives it.
            fixed: Values of columns that lead to a row around it.
        """
        values = dict(fixed or {})
        nested = self._nested(entity, data)
        for relation, wanted in nested:
            if self._owns(relation):
                values.update(await self._link(entity, relation, wanted))
        statement = insert(entity.table).values(self._new(entity, data, values)).returning(*entity.selected())
        row = entity.decode((await self._connection.execute(statement)).one())
        for relation, wanted in nested:
            if not self._owns(relation):
                await self._nest(entity, row, relation, wanted)
        return row

    async def _run_create_many(self, entity: Entity, arguments: Arguments) -> int:
        data = arguments["data"]
        groups: dict[frozenset[str], list[Data]] = {}
        for one in data if isinstance(data, list) else [data]:
            if self._nested(entity, one):
                raise invalid(f"create_many of {entity.model.name} takes no relations")
            row = self._new(entity, one, {})
            groups.setdefault(frozenset(row), []).append(row)
        created = 0
        for rows in groups.values():
            statement = postgresql_insert(entity.table)
            if arguments.get("skipDuplicates"):
                statement = statement.on_conflict_do_nothing()
            key = [entity.column(entity.model.fields[name]) for name in entity.model.primary_key.fields]
            # RETURNING, as drivers do not count the rows of several statements.
            result = await self._connection.execute(statement.returning(*key), rows)
            created += len(result.fetchall())
        return created

    def _nested(self, entity: Entity, data: Arguments) -> list[tuple[Field, Arguments]]:
        """Give what a write has for related rows."""
        if not isinstance(data, Mapping):
            raise invalid(f"the data of {entity.model.name} must be an object, not {type(data).__name__}")
        found = []
        for name, value in data.items():
            one = entity.model.fields.get(name)
            if one is None:
                raise unknown(entity, name, "data")
            if one.relation is not None and value is not None:
                if not isinstance(value, Mapping):
                    raise invalid(f"{name} of {entity.model.name} takes connect, create and the like")
                found.append((one, value))
        return found

    def _owns(self, relation: Field) -> bool:
        return relation.relation is not None and bool(relation.relation.fields)

    def _new(self, entity: Entity, data: Arguments, fixed: Data) -> Data:
        """Make the values of a new row, by column, with the defaults that Prisma's engine fills in."""
        values: Data = {}
        for one in entity.columns:
            column = cast("str", one.column)
            if one.name in fixed:
                values[column] = fixed[one.name]
                continue
            value = data.get(one.name)
            if isinstance(value, Mapping) and value.keys() == {"set"} and one.type != "Json":
                value = value["set"]
            if one.name in data and (value is not None or not one.is_required):
                values[column] = self._compiler.value(one, value)
            elif one.name not in data and self._has_default(one):
                if (default := self._default(one)) is not None:
                    values[column] = self._compiler.value(one, default)
            elif one.is_list:
                values[column] = self._compiler.value(one, None)
            elif one.is_required:
                text = f"A value is required but not set: {entity.model.name}.{one.name}"
                raise invalid(text, MissingRequiredValueError)
            else:
                values[column] = self._compiler.value(one, None)
        return values

    def _has_default(self, one: Field) -> bool:
        return one.default is not None or one.is_updated_at

    def _default(self, one: Field) -> Value:
        """Give what Prisma's engine fills in; None: PostgreSQL does."""
        default = one.default
        if default is None:  # @updatedAt
            return self._now
        if isinstance(default, Name):
            return default.text
        if isinstance(default, tuple):
            return list(default)
        if not isinstance(default, Call):
            return default
        return {"now": lambda: self._now, "uuid": lambda: str(uuid.uuid4()), "cuid": cuid}.get(
            default.function, lambda: None
        )()

    # --- update ---------------------------------------------------------------------------------------------------

    async def _run_update(self, entity: Entity, arguments: Arguments) -> Row:
        condition = self._compiler.unique(entity, entity.table, arguments["where"])
        row = await self._update(entity, condition, arguments["data"])
        if row is None:
            raise not_found(UPDATE_MISSING)
        await self._include(entity, [row], arguments.get("include"))
        return row

    async def _update(self, entity: Entity, condition: ColumnElement[Any], data: Arguments) -> Row | None:
        """Change one row with what is nested in it; None if there is none."""
        nested = self._nested(entity, data)
        values = self._changes(entity, data)
        if nested:
            before = await self._one(entity, condition)
            if before is None:
                return None
            condition = self._is(entity, before)
            for relation, wanted in nested:
                if self._owns(relation):
                    links = await self._relink(entity, before, relation, wanted)
                    values |= {cast("str", entity.model.fields[name].column): value for name, value in links.items()}
        if values:
            statement = update(entity.table).where(condition).values(values).returning(*entity.selected())
            changed = (await self._connection.execute(statement)).first()
            row = None if changed is None else entity.decode(changed)
        else:
            row = await self._one(entity, condition)
        if row is not None:
            for relation, wanted in nested:
                if not self._owns(relation):
                    await self._nest(entity, row, relation, wanted)
        return row

    async def _one(self, entity: Entity, condition: ColumnElement[Any]) -> Row | None:
        rows = await self._rows(entity, select(*entity.selected()).where(condition).limit(1))
        return rows[0] if rows else None

    def _is(self, entity: Entity, row: Row) -> ColumnElement[Any]:
        """Make the condition that finds a row again."""
        return and_(
            *(
                entity.column(one) == self._compiler.value(one, getattr(row, one.name))
                for name in entity.model.primary_key.fields
                if (one := entity.model.fields[name])
            )
        )

    def _changes(self, entity: Entity, data: Arguments) -> Data:
        """Make what an UPDATE sets, by column."""
        values: Data = {}
        for name, value in data.items():
            one = entity.model.fields.get(name)
            if one is None:
                raise unknown(entity, name, "data")
            if one.relation is None:
                values[cast("str", one.column)] = self._change(entity, one, value)
        if values:
            for one in entity.columns:
                if one.is_updated_at:
                    values.setdefault(cast("str", one.column), self._compiler.value(one, self._now))
        return values

    def _change(self, entity: Entity, one: Field, value: Value) -> Value:
        if not isinstance(value, Mapping) or one.type == "Json":
            return self._set(entity, one, value)
        if len(value) != 1:
            raise invalid(f"{one.name} of {entity.model.name} takes one operation, not {len(value)}")
        ((operator, operand),) = value.items()
        if operator == "set":
            return self._set(entity, one, operand)
        column = entity.column(one)
        if one.is_list and operator == "push":
            return func.array_cat(func.coalesce(column, sql_cast([], column.type)), self._compiler.value(one, operand))
        if operator not in NUMBER_OPERATORS or one.type not in {"Int", "BigInt", "Float", "Decimal"} or one.is_list:
            raise unknown(entity, f"{one.name}.{operator}", "data")
        amount = sql_cast(self._set(entity, one, operand), column.type)
        return {
            "increment": column + amount,
            "decrement": column - amount,
            "multiply": column * amount,
            "divide": column / amount,
        }[operator]

    def _set(self, entity: Entity, one: Field, value: Value) -> Value:
        if value is None and one.is_required and not one.is_list:
            text = f"A value is required but not set: {entity.model.name}.{one.name}"
            raise invalid(text, MissingRequiredValueError)
        return self._compiler.value(one, value)

    async def _run_update_many(self, entity: Entity, arguments: Arguments) -> int:
        condition = self._compiler.where(entity, entity.table, arguments.get("where"))
        if nested := self._nested(entity, arguments["data"]):
            raise unknown(entity, nested[0][0].name, "data")
        values = self._changes(entity, arguments["data"])
        if not values:
            counted = select(func.count()).select_from(entity.table).where(condition)
            return (await self._connection.execute(counted)).scalar_one()
        return (await self._connection.execute(update(entity.table).where(condition).values(values))).rowcount

    async def _run_upsert(self, entity: Entity, arguments: Arguments) -> Row:
        where, create, change = arguments["where"], arguments["create"], arguments["update"]
        if (columns := self._conflict(entity, where, create, change)) is not None:
            row = await self._upsert_at_once(entity, columns, create, change)
        else:
            condition = self._compiler.unique(entity, entity.table, where)
            before = await self._one(entity, condition)
            if before is None:
                row = await self._create(entity, create)
            else:
                row = _found(await self._update(entity, self._is(entity, before), change))
        await self._include(entity, [row], arguments.get("include"))
        return row

    def _conflict(self, entity: Entity, where: Arguments, create: Arguments, change: Arguments) -> list[str] | None:
        """Give the columns of an ON CONFLICT that does the same; None if it would not."""
        if self._nested(entity, create) or self._nested(entity, change) or len(where) != 1:
            return None
        (name,) = where
        unique = entity.uniques.get(name)
        expanded = self._compiler.expanded(entity, where)
        if unique is None or any(create.get(name) != value or value is None for name, value in expanded.items()):
            return None
        return [cast("str", entity.model.fields[name].column) for name in unique.fields]

    async def _upsert_at_once(self, entity: Entity, columns: list[str], create: Arguments, change: Arguments) -> Row:
        statement = postgresql_insert(entity.table).values(self._new(entity, create, {}))
        # Without a change, one that changes nothing: RETURNING gives only rows that were written.
        changes = self._changes(entity, change) or {columns[0]: entity.table.c[columns[0]]}
        upsert = statement.on_conflict_do_update(index_elements=columns, set_=changes).returning(*entity.selected())
        return entity.decode((await self._connection.execute(upsert)).one())

    # --- delete ---------------------------------------------------------------------------------------------------

    async def _run_delete(self, entity: Entity, arguments: Arguments) -> Row:
        condition = self._compiler.unique(entity, entity.table, arguments["where"])
        if include := arguments.get("include"):
            before = await self._one(entity, condition)
            if before is None:
                raise not_found(DELETE_MISSING)
            await self._include(entity, [before], include)
            await self._connection.execute(delete(entity.table).where(self._is(entity, before)))
            return before
        statement = delete(entity.table).where(condition).returning(*entity.selected())
        deleted = (await self._connection.execute(statement)).first()
        if deleted is None:
            raise not_found(DELETE_MISSING)
        return entity.decode(deleted)

    async def _run_delete_many(self, entity: Entity, arguments: Arguments) -> int:
        condition = self._compiler.where(entity, entity.table, arguments.get("where"))
        return (await self._connection.execute(delete(entity.table).where(condition))).rowcount

    # --- nested writes: this row refers to the other --------------------------------------------------------------

    async def _link(self, entity: Entity, relation: Field, wanted: Arguments) -> Data:
        """Find or make the row that a new one refers to; give the new one's values, by field."""
        assert relation.relation is not None  # noqa: S101 - the caller has looked
        other = self._description.other(relation.relation)
        row: Row | None = None
        for operator, operand in wanted.items():
            if operator == "create":
                row = await self._create(other, operand)
            elif operator == "connect":
                row = await self._connected(entity, other, operand)
            elif operator == "connectOrCreate":
                row = await self._one(other, self._compiler.unique(other, other.table, operand["where"]))
                row = row or await self._create(other, operand["create"])
            else:
                raise unknown(other, operator, f"data.{relation.name}")
        return {} if row is None else self._references(entity, relation, row)

    async def _connected(self, entity: Entity, other: Entity, where: Arguments) -> Row:
        row = await self._one(other, self._compiler.unique(other, other.table, where))
        if row is None:
            raise not_found(CONNECT_MISSING.format(other.model.name, f"{entity.model.name}To{other.model.name}"))
        return row

    def _references(self, entity: Entity, relation: Field, row: Row | None) -> Data:
        """Give the values of the columns that lead to a row, by field; NULL for none."""
        return {
            mine.name: self._compiler.value(mine, None if row is None else getattr(row, theirs.name))
            for mine, theirs in self._description.joined(entity, relation)
        }

    async def _relink(self, entity: Entity, before: Row, relation: Field, wanted: Arguments) -> Data:
        """Change what a row refers to, or the row that it refers to; give the row's new values, by field."""
        assert relation.relation is not None  # noqa: S101 - the caller has looked
        other = self._description.other(relation.relation)
        joined = self._description.joined(entity, relation)
        condition = and_(
            *(
                other.column(theirs) == self._compiler.value(theirs, getattr(before, mine.name))
                for mine, theirs in joined
            )
        )
        links: Data = {}
        for operator, operand in wanted.items():
            if operator in {"create", "connect", "connectOrCreate"}:
                links |= await self._link(entity, relation, {operator: operand})
            elif operator == "disconnect":
                if operand is not False:
                    links |= self._references(entity, relation, None)
            elif operator == "update":
                _, data = _where_and_data(operand)
                if await self._update(other, condition, data) is None:
                    raise not_found(UPDATE_MISSING)
            elif operator == "upsert":
                if await self._update(other, condition, operand["update"]) is None:
                    links |= self._references(entity, relation, await self._create(other, operand["create"]))
            elif operator == "delete":
                if operand is not False:
                    links |= self._references(entity, relation, None)
                    await self._connection.execute(
                        update(entity.table)
                        .where(self._is(entity, before))
                        .values({cast("str", entity.model.fields[name].column): value for name, value in links.items()})
                    )
                    await self._connection.execute(delete(other.table).where(condition))
            else:
                raise unknown(other, operator, f"data.{relation.name}")
        return links

    # --- nested writes: other rows refer to this one --------------------------------------------------------------

    async def _nest(self, entity: Entity, row: Row, relation: Field, wanted: Arguments) -> None:
        """Write rows that refer to a row."""
        assert relation.relation is not None  # noqa: S101 - the caller has looked
        other = self._description.other(relation.relation)
        joined = self._description.joined(entity, relation)
        links = {theirs.name: self._compiler.value(theirs, getattr(row, mine.name)) for mine, theirs in joined}
        columns = {cast("str", other.model.fields[name].column): value for name, value in links.items()}
        cut: Data = {name: self._compiler.value(one, None) for name, one in _by_column(other, columns)}
        related = and_(*(other.table.c[name] == value for name, value in columns.items()))
        for operator, operand in wanted.items():
            for one in operand if isinstance(operand, list) else [operand]:
                await self._nest_one(entity, other, relation, operator, one, (links, columns, cut, related))
            if operator == "set":
                kept = [self._compiler.unique(other, other.table, one) for one in _many(operand)]
                rest = [~condition for condition in kept]
                await self._connection.execute(update(other.table).where(related, *rest).values(cut))
                for condition in kept:
                    await self._connection.execute(update(other.table).where(condition).values(columns))

    async def _nest_one(
        self,
        entity: Entity,
        other: Entity,
        relation: Field,
        operator: str,
        operand: Value,
        place: tuple[Data, Data, Data, ColumnElement[Any]],
    ) -> None:
        links, columns, cut, related = place
        table: Table = other.table

        def found(where: Value) -> ColumnElement[Any]:
            return and_(related, self._compiler.unique(other, table, where)) if isinstance(where, Mapping) else related

        if operator == "create":
            if not relation.is_list:
                await self._connection.execute(update(table).where(related).values(cut)) if _can_be_cut(
                    other, columns
                ) else None
            await self._create(other, operand, links)
        elif operator == "createMany":
            for data in _many(operand["data"]):
                statement = postgresql_insert(table).values(self._new(other, data, links))
                await self._connection.execute(
                    statement.on_conflict_do_nothing() if operand.get("skipDuplicates") else statement
                )
        elif operator == "connect":
            await self._connected(entity, other, operand)
            await self._connection.execute(
                update(table).where(self._compiler.unique(other, table, operand)).values(columns)
            )
        elif operator == "connectOrCreate":
            condition = self._compiler.unique(other, table, operand["where"])
            if await self._one(other, condition) is None:
                await self._create(other, operand["create"], links)
            else:
                await self._connection.execute(update(table).where(condition).values(columns))
        elif operator == "disconnect":
            if operand is not False:
                await self._connection.execute(update(table).where(found(operand)).values(cut))
        elif operator == "update":
            where, data = _where_and_data(operand)
            if await self._update(other, found(where), data) is None:
                raise not_found(UPDATE_MISSING)
        elif operator == "upsert":
            if await self._update(other, found(operand.get("where")), operand["update"]) is None:
                await self._create(other, operand["create"], links)
        elif operator == "delete":
            if operand is not False:
                deleted = await self._connection.execute(delete(table).where(found(operand)))
                if deleted.rowcount == 0:
                    raise not_found(DELETE_MISSING)
        elif operator == "updateMany":
            condition = self._compiler.where(other, table, operand.get("where"))
            if values := self._changes(other, operand["data"]):
                await self._connection.execute(update(table).where(related, condition).values(values))
        elif operator == "deleteMany":
            await self._connection.execute(delete(table).where(related, self._compiler.where(other, table, operand)))
        elif operator != "set":
            raise unknown(other, operator, f"data.{relation.name}")


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


# --- small parts --------------------------------------------------------------------------------------------------

_COUNTER = itertools.count(secrets.randbelow(36**4))
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"


def cuid() -> str:
    """Make an identifier as Prisma does: https://github.com/paralleldrive/cuid, of version 1."""

    def base36(number: int, length: int) -> str:
        digits = []
        for _ in range(length):
            number, digit = divmod(number, 36)
            digits.append(_DIGITS[digit])
        return "".join(reversed(digits))

    parts = (
        base36(time.time_ns() // 1_000_000, 8),
        base36(next(_COUNTER), 4),
        base36(os.getpid(), 4),
        base36(secrets.randbits(64), 8),
    )
    return "c" + "".join(parts)


def _found(row: Row | None) -> Row:
    if row is None:
        raise not_found(FOUND_NONE)
    return row


def _sort(direction: Value) -> Value:
    return direction.get("sort") if isinstance(direction, Mapping) else direction


def _distinct(entity: Entity, rows: Iterable[Row], names: Value) -> list[Row]:
    """Keep the first row of each combination of values."""
    wanted = names if isinstance(names, list) else [names]
    for name in wanted:
        if name not in entity.model.fields:
            raise unknown(entity, name, "distinct")
    seen: set[str] = set()
    found = []
    for row in rows:
        key = repr([getattr(row, name) for name in wanted])
        if key not in seen:
            seen.add(key)
            found.append(row)
    return found


def _page(rows: list[Row], skip: int | None, take: int | None) -> list[Row]:
    """Page through what was sorted backwards, if take is negative: then the last ones come, in their order."""
    rows = rows[skip or 0 :]
    if take is None:
        return rows
    return rows[:take] if take >= 0 else rows[: abs(take)][::-1]


def _many(value: Value) -> list[Value]:
    return value if isinstance(value, list) else [value]


def _where_and_data(operand: Arguments) -> tuple[Value, Arguments]:
    """Read a nested update: {"where", "data"}, or the data alone."""
    if operand.keys() <= {"where", "data"} and "data" in operand:
        return operand.get("where"), operand["data"]
    return None, operand


def _by_column(entity: Entity, columns: Iterable[str]) -> Iterable[tuple[str, Field]]:
    wanted = set(columns)
    return ((one.column, one) for one in entity.columns if one.column in wanted)


def _can_be_cut(entity: Entity, columns: Iterable[str]) -> bool:
    """Say whether rows need not refer to anything."""
    return all(not one.is_required for _, one in _by_column(entity, columns))
