"""Prisma's writes, on a connection."""

import asyncio
from typing import Any, cast

from sqlalchemy import ColumnElement, Executable, delete, insert, literal_column, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert

from litellm_sqlalchemy.prisma_client.connection import ROWS_AT_ONCE, Connection
from litellm_sqlalchemy.prisma_client.data import DataCompiler, Values
from litellm_sqlalchemy.prisma_client.description import Entity
from litellm_sqlalchemy.prisma_client.errors import misfit, missing, not_found
from litellm_sqlalchemy.prisma_client.nested_writes import DELETE_MISSING, UPDATE_MISSING, NestedWrites, owns
from litellm_sqlalchemy.prisma_client.query import Arguments, Compiler, normal, unknown
from litellm_sqlalchemy.prisma_client.reads import Reads
from litellm_sqlalchemy.prisma_client.rows import Row
from litellm_sqlalchemy.prisma_client.statements import Written


class Writes:
    """Writes; each method takes the entity that is written, and the call's arguments.

    Args:
        compiler: Of the schema.
        connection: Where.
        reads: On the same connection.
    """

    def __init__(self, compiler: Compiler, connection: Connection, reads: Reads) -> None:
        self._compiler = compiler
        self._connection = connection
        self._reads = reads
        self._data = DataCompiler(self._compiler)
        self._nested = NestedWrites(self._compiler, connection, reads, self, self._data)

    async def create(self, entity: Entity, arguments: Arguments) -> Row:
        """Create a row."""
        row = await self.create_row(entity, arguments["data"])
        await self._reads.include(entity, [row], arguments.get("include"))
        return row

    async def create_row(self, entity: Entity, data: Arguments, fixed: Values | None = None) -> Row:
        """Insert a row with what is nested in it.

        Args:
            entity: Of which model.
            data: As the caller gives it.
            fixed: Values of columns that lead to a row around it.
        """
        values = dict(fixed or {})
        nested = self._data.nested(entity, data, is_new=True)
        for relation, wanted in nested:
            if owns(relation):
                values.update(await self._nested.link(entity, relation, wanted))
        statement = insert(entity.table).values(self._data.new(entity, data, values)).returning(entity.all_columns)
        (created,) = await self._connection.rows(statement)
        row = entity.decode(created)
        for relation, wanted in nested:
            if not owns(relation):
                await self._nested.write(entity, row, relation, wanted)
        return row

    async def create_many(self, entity: Entity, arguments: Arguments) -> int:
        """Create rows, and count them."""
        data = arguments["data"]
        if data is None:
            raise missing(f"data of create_many of {entity.model.name}", "P2012")
        groups: dict[tuple[str, ...], list[Values]] = {}
        # All of them before the first is sent: what is wrong in one leaves an open transaction as it was.
        for number, one in enumerate(data if isinstance(data, list | tuple | set) else [data]):
            given = normal(one)
            if self._data.nested(entity, given):
                raise misfit(f"create_many of {entity.model.name} takes no relations")
            row = self._data.new(entity, given, {})
            groups.setdefault(tuple(row), []).append(row)
            if number % ROWS_AT_ONCE == ROWS_AT_ONCE - 1:
                await asyncio.sleep(0)
        created = 0
        for columns, rows in groups.items():
            insertion = self._insertion(entity, columns, skip_duplicates=bool(arguments.get("skipDuplicates")))
            for start in range(0, len(rows), ROWS_AT_ONCE):
                some = [insertion.arguments(row) for row in rows[start : start + ROWS_AT_ONCE]]
                created += await self._connection.insert(insertion.sql, some)
        return created

    def _insertion(self, entity: Entity, columns: tuple[str, ...], *, skip_duplicates: bool) -> Written:
        def make() -> Executable:
            # RETURNING, as asyncpg does not count the rows of several statements.
            statement = postgresql_insert(entity.table)
            if skip_duplicates:
                statement = statement.on_conflict_do_nothing()
            return statement.returning(literal_column("1"))

        name = ("create_many", entity.model.name, str(skip_duplicates), *columns)
        return self._connection.statements.named(name, make, columns)

    async def update(self, entity: Entity, arguments: Arguments) -> Row:
        """Change the row that is named."""
        condition = self._compiler.unique(entity, entity.table, arguments["where"])
        row = await self.update_row(entity, condition, arguments["data"])
        if row is None:
            raise not_found(UPDATE_MISSING)
        await self._reads.include(entity, [row], arguments.get("include"))
        return row

    async def update_row(self, entity: Entity, condition: ColumnElement[Any], data: Arguments) -> Row | None:
        """Change a row with what is nested in it.

        Args:
            entity: Of which model.
            condition: What finds it.
            data: As the caller gives it.

        Returns:
            The row as it is now; None if there is none.
        """
        nested = self._data.nested(entity, data)
        values = self._data.changes(entity, data)
        if nested:
            before = await self._reads.one(entity, condition)
            if before is None:
                return None
            condition = self._reads.same(entity, before)
            for relation, wanted in nested:
                if owns(relation):
                    links = await self._nested.relink(entity, before, relation, wanted)
                    values |= self._data.touched(entity) | entity.by_column(links) if links else {}
        if values:
            statement = update(entity.table).where(condition).values(values).returning(entity.all_columns)
            changed = await self._connection.rows(statement)
            row = entity.decode(changed[0]) if changed else None
        else:
            row = await self._reads.one(entity, condition)
        if row is not None:
            for relation, wanted in nested:
                if not owns(relation):
                    await self._nested.write(entity, row, relation, wanted)
        return row

    async def update_many(self, entity: Entity, arguments: Arguments) -> int:
        """Change rows, and count them."""
        condition = self._compiler.of_many_writes.where(entity, entity.table, arguments.get("where"))
        if nested := self._data.nested(entity, arguments["data"]):
            raise unknown(entity, nested[0][0].name, "data")
        values = self._data.changes(entity, arguments["data"])
        if not values:
            return 0
        return await self._connection.count(update(entity.table).where(condition).values(values))

    async def upsert(self, entity: Entity, arguments: Arguments) -> Row:
        """Change the row that is named, or create it."""
        where, create, change = arguments["where"], arguments["create"], arguments["update"]
        for name, value in (("create", create), ("update", change)):
            if value is None:
                raise missing(f"{name} of upsert of {entity.model.name}", "P2012")
        if (columns := self._conflict(entity, where, create, change)) is not None:
            row = await self._upsert_at_once(entity, columns, create, change)
        else:
            condition = self._compiler.unique(entity, entity.table, where)
            before = await self._reads.one(entity, condition)
            if before is None:
                row = await self.create_row(entity, create)
            else:
                changed = await self.update_row(entity, self._reads.same(entity, before), change)
                if changed is None:
                    raise not_found(UPDATE_MISSING)
                row = changed
        await self._reads.include(entity, [row], arguments.get("include"))
        return row

    def _conflict(self, entity: Entity, where: Arguments, create: Arguments, change: Arguments) -> list[str] | None:
        """Give the columns of an ON CONFLICT that does the same; None if it would not."""
        if self._data.nested(entity, create) or self._data.nested(entity, change) or len(where) != 1:
            return None
        (name,) = where
        unique = entity.uniques.get(name)
        expanded = self._compiler.expanded(entity, where)
        if unique is None or any(create.get(name) != value or value is None for name, value in expanded.items()):
            return None
        return [cast("str", entity.model.fields[name].column) for name in unique.fields]

    async def _upsert_at_once(self, entity: Entity, columns: list[str], create: Arguments, change: Arguments) -> Row:
        statement = postgresql_insert(entity.table).values(self._data.new(entity, create, {}))
        # Without a change, one that changes nothing: RETURNING gives only rows that were written.
        changes = self._data.changes(entity, change) or {columns[0]: entity.table.c[columns[0]]}
        upsert = statement.on_conflict_do_update(index_elements=columns, set_=changes).returning(entity.all_columns)
        (written,) = await self._connection.rows(upsert)
        return entity.decode(written)

    # --- delete ---------------------------------------------------------------------------------------------------

    async def delete(self, entity: Entity, arguments: Arguments) -> Row:
        """Delete the row that is named."""
        condition = self._compiler.unique(entity, entity.table, arguments["where"])
        if include := arguments.get("include"):
            before = await self._reads.one(entity, condition)
            if before is None:
                raise not_found(DELETE_MISSING)
            await self._reads.include(entity, [before], include)
            await self._connection.count(delete(entity.table).where(self._reads.same(entity, before)))
            return before
        statement = delete(entity.table).where(condition).returning(entity.all_columns)
        deleted = await self._connection.rows(statement)
        if not deleted:
            raise not_found(DELETE_MISSING)
        return entity.decode(deleted[0])

    async def delete_many(self, entity: Entity, arguments: Arguments) -> int:
        """Delete rows, and count them."""
        condition = self._compiler.of_many_writes.where(entity, entity.table, arguments.get("where"))
        return await self._connection.count(delete(entity.table).where(condition))
