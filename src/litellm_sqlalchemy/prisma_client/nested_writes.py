"""What Prisma's writes have for related rows: created, connected, changed, cut off, deleted along with a row.

Either the row refers to the other (then it is written after it), or others refer to it (then they are written after).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Table, and_, delete, not_, update
from sqlalchemy.dialects.postgresql import insert as postgresql_insert

from litellm_sqlalchemy.prisma_client.connection import Connection
from litellm_sqlalchemy.prisma_client.data import DataCompiler, Values
from litellm_sqlalchemy.prisma_client.description import Entity
from litellm_sqlalchemy.prisma_client.errors import needs_relation, not_connected, not_found, not_related
from litellm_sqlalchemy.prisma_client.query import Arguments, Compiler, unknown
from litellm_sqlalchemy.prisma_client.reads import Reads
from litellm_sqlalchemy.prisma_client.rows import Row
from litellm_sqlalchemy.prisma_client.schema import Field, Value

if TYPE_CHECKING:
    from litellm_sqlalchemy.prisma_client.writes import Writes

UPDATE_MISSING = "Record to update not found."
DELETE_MISSING = "Record to delete does not exist."
LINK_MISSING = (
    "No '{}' record(s) (needed to inline the relation on '{}' record(s)) was found for a nested connect on {} "
    "relation '{}'."
)
CONNECT_MISSING = "Expected 1 records to be connected after connect operation on {} relation '{}', found 0."


@dataclass(frozen=True, slots=True)
class _Place:
    """Where rows are that refer to a row.

    Attributes:
        owner: The row's.
        entity: Theirs.
        relation: The row's field that leads to them.
        links: Their values that lead to the row, by field.
        columns: The same, by column.
        cut: Those that lead nowhere, by column.
        related: What finds them.
    """

    owner: Entity
    entity: Entity
    relation: Field
    links: Values
    columns: Values
    cut: Values
    related: ColumnElement[Any]

    @property
    def table(self) -> Table:
        return self.entity.table

    @property
    def can_be_cut(self) -> bool:
        """Whether they need not refer to anything."""
        return all(not one.is_required for one in self.entity.columns if one.column in self.columns)


class NestedWrites:
    """Writes related rows.

    Args:
        compiler: Of the schema.
        connection: Where.
        reads: On the same connection.
        writes: On the same connection.
        data: Compiles data.
    """

    def __init__(
        self, compiler: Compiler, connection: Connection, reads: Reads, writes: "Writes", data: DataCompiler
    ) -> None:
        self._compiler = compiler
        self._connection = connection
        self._reads = reads
        self._writes = writes
        self._data = data

    # --- this row refers to the other -----------------------------------------------------------------------------

    async def link(self, entity: Entity, relation: Field, wanted: Arguments) -> Values:
        """Find or make the row that a new one refers to.

        Args:
            entity: The new row's.
            relation: Its field that leads to the other.
            wanted: What is to be done.

        Returns:
            The new row's values that lead there, by field.
        """
        assert relation.relation is not None  # noqa: S101 - the caller has looked
        other = self._compiler.description.other(relation.relation)
        row: Row | None = None
        for operator, operand in wanted.items():
            if operator == "create":
                row = await self._writes.create_row(other, operand)
            elif operator == "connect":
                row = await self._connected(entity, relation, other, operand)
            elif operator == "connectOrCreate":
                row = await self._reads.one(other, self._compiler.unique(other, other.table, operand["where"]))
                row = row or await self._writes.create_row(other, operand["create"])
            else:
                raise unknown(other, operator, f"data.{relation.name}")
        return {} if row is None else self._references(entity, relation, row)

    async def _connected(self, entity: Entity, relation: Field, other: Entity, where: Arguments) -> Row:
        """Find the row to refer to; whatever refers to it in its place refers to nothing then."""
        row = await self._reads.one(other, self._compiler.unique(other, other.table, where))
        if row is None:
            kind, name = _kind(self._inverse(relation)), _name(entity, other)
            raise not_found(LINK_MISSING.format(other.model.name, entity.model.name, kind, name))
        if not self._inverse(relation).is_list:
            links = self._references(entity, relation, row)
            columns = entity.by_column(links)
            before = and_(*(entity.table.c[name] == value for name, value in columns.items()))
            if all(not entity.model.fields[name].is_required for name in links):
                await self._change(entity, dict.fromkeys(columns), before)
            elif await self._reads.one(entity, before) is not None:
                raise needs_relation(_name(entity, other), _sorted(entity, other))
        return row

    def _inverse(self, relation: Field) -> Field:
        assert relation.relation is not None  # noqa: S101 - the caller has looked
        return self._compiler.description.other(relation.relation).model.fields[relation.relation.inverse]

    def _references(self, entity: Entity, relation: Field, row: Row | None) -> Values:
        """Give the values of the columns that lead to a row, by field; NULL for none."""
        return {
            mine.name: self._compiler.value(mine, None if row is None else getattr(row, theirs.name))
            for mine, theirs in self._compiler.description.joined(entity, relation)
        }

    async def relink(self, entity: Entity, before: Row, relation: Field, wanted: Arguments) -> Values:
        """Change what a row refers to, or the row that it refers to.

        Args:
            entity: The row's.
            before: The row as it is.
            relation: Its field that leads to the other.
            wanted: What is to be done.

        Returns:
            The row's new values, by field.
        """
        assert relation.relation is not None  # noqa: S101 - the caller has looked
        other = self._compiler.description.other(relation.relation)
        joined = self._compiler.description.joined(entity, relation)
        condition = and_(
            *(
                other.column(theirs) == self._compiler.value(theirs, getattr(before, mine.name))
                for mine, theirs in joined
            )
        )
        links: Values = {}
        for operator, operand in wanted.items():
            if operator in {"create", "connect", "connectOrCreate"}:
                links |= await self.link(entity, relation, {operator: operand})
            elif operator == "disconnect":
                links |= self._references(entity, relation, None)
            elif operator == "update":
                _, data = _where_and_data(operand)
                if await self._writes.update_row(other, condition, data) is None:
                    raise not_found(UPDATE_MISSING)
            elif operator == "upsert":
                if await self._writes.update_row(other, condition, operand["update"]) is None:
                    links |= self._references(entity, relation, await self._writes.create_row(other, operand["create"]))
            elif operator == "delete":
                if operand is not False:
                    links |= self._references(entity, relation, None)
                    await self._connection.count(
                        update(entity.table).where(self._reads.same(entity, before)).values(entity.by_column(links))
                    )
                    await self._connection.count(delete(other.table).where(condition))
            else:
                raise unknown(other, operator, f"data.{relation.name}")
        return links

    # --- others refer to this row ---------------------------------------------------------------------------------

    async def write(self, entity: Entity, row: Row, relation: Field, wanted: Arguments) -> None:
        """Write rows that refer to a row.

        Args:
            entity: The row's.
            row: The row.
            relation: Its field that leads to them.
            wanted: What is to be done.

        Raises:
            PrismaError: It cannot be done.
        """
        assert relation.relation is not None  # noqa: S101 - the caller has looked
        other = self._compiler.description.other(relation.relation)
        joined = self._compiler.description.joined(entity, relation)
        links = {theirs.name: self._compiler.value(theirs, getattr(row, mine.name)) for mine, theirs in joined}
        columns = other.by_column(links)
        place = _Place(
            owner=entity,
            entity=other,
            relation=relation,
            links=links,
            columns=columns,
            cut=dict.fromkeys(columns),
            related=and_(*(other.table.c[name] == value for name, value in columns.items())),
        )
        for operator, operand in wanted.items():
            write = getattr(self, f"_{WRITES[operator]}", None) if operator in WRITES else None
            if write is None:
                raise unknown(other, operator, f"data.{relation.name}")
            if operator == "set":
                await write(place, _many(operand))
                continue
            for one in _many(operand):
                await write(place, one)

    def _found(self, place: _Place, where: Value) -> ColumnElement[Any]:
        """Make what finds one of the rows; of a relation to one row, that row."""
        if not isinstance(where, Mapping):
            return place.related
        find = self._compiler.unique if place.relation.is_list else self._compiler.where
        return and_(place.related, find(place.entity, place.table, where))

    async def _change(self, entity: Entity, values: Values, *conditions: ColumnElement[Any]) -> None:
        changes = {**self._data.touched(entity), **values}
        await self._connection.count(update(entity.table).where(*conditions).values(changes))

    async def _cut(self, place: _Place, *conditions: ColumnElement[Any]) -> None:
        """Have rows refer to nothing."""
        if place.can_be_cut:
            await self._change(place.entity, place.cut, *conditions)
        elif await self._reads.one(place.entity, and_(*conditions)) is not None:
            raise needs_relation(_name(place.owner, place.entity), _sorted(place.owner, place.entity))

    async def _create(self, place: _Place, data: Arguments) -> None:
        if not place.relation.is_list:
            await self._cut(place, place.related)
        await self._writes.create_row(place.entity, data, place.links)

    async def _create_many(self, place: _Place, operand: Arguments) -> None:
        for data in _many(operand["data"]):
            statement = postgresql_insert(place.table).values(self._data.new(place.entity, data, place.links))
            if operand.get("skipDuplicates"):
                statement = statement.on_conflict_do_nothing()
            await self._connection.count(statement.inline())

    async def _connect(self, place: _Place, where: Arguments) -> None:
        condition = self._compiler.unique(place.entity, place.table, where)
        if await self._reads.one(place.entity, condition) is None:
            raise not_connected(CONNECT_MISSING.format(_kind(place.relation), _name(place.owner, place.entity)))
        if not place.relation.is_list:
            await self._cut(place, place.related, not_(condition))
        await self._change(place.entity, place.columns, condition)

    async def _connect_or_create(self, place: _Place, operand: Arguments) -> None:
        condition = self._compiler.unique(place.entity, place.table, operand["where"])
        if await self._reads.one(place.entity, condition) is None:
            await self._create(place, operand["create"])
        else:
            await self._change(place.entity, place.columns, condition)

    async def _disconnect(self, place: _Place, where: Value) -> None:
        if where is not False:
            await self._cut(place, self._found(place, where))

    async def _set(self, place: _Place, wheres: list[Arguments]) -> None:
        kept = [self._compiler.unique(place.entity, place.table, where) for where in wheres]
        await self._cut(place, place.related, *(not_(condition) for condition in kept))
        for condition in kept:
            await self._change(place.entity, place.columns, condition)

    async def _update(self, place: _Place, operand: Arguments) -> None:
        where, data = _where_and_data(operand)
        if await self._writes.update_row(place.entity, self._found(place, where), data) is None:
            raise not_found(UPDATE_MISSING)

    async def _upsert(self, place: _Place, operand: Arguments) -> None:
        condition = self._found(place, operand.get("where"))
        if await self._writes.update_row(place.entity, condition, operand["update"]) is None:
            await self._create(place, operand["create"])

    async def _delete(self, place: _Place, where: Value) -> None:
        if where is False:
            return
        deleted = await self._connection.count(delete(place.table).where(self._found(place, where)))
        if deleted == 0:
            if not place.relation.is_list:
                raise not_found(DELETE_MISSING)
            raise not_related(_name(place.owner, place.entity), place.owner.model.name, place.entity.model.name)

    async def _update_many(self, place: _Place, operand: Arguments) -> None:
        condition = self._compiler.where(place.entity, place.table, operand.get("where"))
        if values := self._data.changes(place.entity, operand["data"]):
            await self._change(place.entity, values, place.related, condition)

    async def _delete_many(self, place: _Place, where: Arguments) -> None:
        condition = self._compiler.where(place.entity, place.table, where)
        await self._connection.count(delete(place.table).where(place.related, condition))


WRITES = {
    "connect": "connect",
    "connectOrCreate": "connect_or_create",
    "create": "create",
    "createMany": "create_many",
    "delete": "delete",
    "deleteMany": "delete_many",
    "disconnect": "disconnect",
    "set": "set",
    "update": "update",
    "updateMany": "update_many",
    "upsert": "upsert",
}


def owns(relation: Field) -> bool:
    """Say whether a relation's columns are in this side's table.

    Args:
        relation: A field.
    """
    return relation.relation is not None and bool(relation.relation.fields)


def _many(value: Value) -> list[Value]:
    return value if isinstance(value, list) else [value]


def _where_and_data(operand: Arguments) -> tuple[Value, Arguments]:
    """Read a nested update: {"where", "data"}, or the data alone."""
    if operand.keys() <= {"where", "data"} and "data" in operand:
        return operand.get("where"), operand["data"]
    return None, operand


def _kind(relation: Field) -> str:
    return "one-to-many" if relation.is_list else "one-to-one"


def _sorted(one: Entity, other: Entity) -> tuple[str, str]:
    first, second = sorted((one.model.name, other.model.name))
    return first, second


def _name(one: Entity, other: Entity) -> str:
    """Name a relation as Prisma does if the schema does not."""
    return "To".join(_sorted(one, other))
