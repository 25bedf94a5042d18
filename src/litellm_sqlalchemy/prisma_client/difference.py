"""The difference between two descriptions of a database, as the SQL that leads from one to the other.

What is compared, the statements' order and the comments above them are those of `prisma migrate diff`, as LiteLLM reads
them. What Prisma's language cannot say is not seen in a database either: views, partial indexes and indexes on
expressions, whether a list may be NULL. Alembic's comparison is no help: it needs a database on one side, and it sees
neither primary keys nor enums nor indexes' methods.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import psycopg2.extensions
from sqlalchemy import (
    Column,
    DefaultClause,
    ForeignKeyConstraint,
    Index,
    MetaData,
    StaticPool,
    Table,
    UniqueConstraint,
    create_engine,
    text,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql.elements import UnaryExpression
from sqlalchemy.sql.operators import desc_op

from litellm_sqlalchemy.prisma_client.schema import Schema
from litellm_sqlalchemy.prisma_client.tables import tables

DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]
EMPTY = "-- This is an empty migration."
# Partitions are parts of their table, and the ledger is nobody's model.
TABLES = text("""
SELECT relname FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
 WHERE nspname = current_schema() AND relkind IN ('r', 'p') AND NOT relispartition
   AND relname NOT IN ('_prisma_migrations', 'spatial_ref_sys')
""")
ENUMS = text("""
SELECT typname, array_agg(enumlabel::text ORDER BY enumsortorder)
  FROM pg_enum JOIN pg_type ON pg_type.oid = enumtypid JOIN pg_namespace ON pg_namespace.oid = typnamespace
 WHERE nspname = current_schema()
 GROUP BY typname
""")
CAST = re.compile(
    r'::(?:"[^"]+"|[a-z_]+(?: precision| varying| with(?:out)? time zone)?)(?:\([\d, ]+\))?(?:\[\])?', re.I
)
NUMBER = re.compile(r"'?(-?\d+(?:\.\d*)?)'?")
KINDS = (
    *("CreateEnum", "AlterEnum", "DropForeignKey", "DropIndex", "AlterTable", "DropTable", "DropEnum", "CreateTable"),
    *("CreateIndex", "RenameForeignKey", "AddForeignKey", "RenameIndex"),
)

T = TypeVar("T", "_Index", "_ForeignKey")


@dataclass(frozen=True, slots=True)
class Loss:
    """What a step may destroy, or what may be in its way.

    Attributes:
        rows: What it is, as SQL that follows a FROM.
        message: What is said if there are any; {count} stands for how many.
        is_in_the_way: Whether the step cannot be made then.
    """

    rows: str
    message: str
    is_in_the_way: bool = False

    @property
    def count(self) -> str:
        """SQL that counts them."""
        return f"SELECT count(*) FROM {self.rows}"  # noqa: S608  # its names are quoted


@dataclass(frozen=True, slots=True)
class Step:
    """A change.

    Attributes:
        kind: What Prisma calls its kind, one of `KINDS`.
        statement: SQL.
        losses: What it may destroy.
    """

    kind: str
    statement: str
    losses: tuple[Loss, ...] = ()


@dataclass(frozen=True, slots=True)
class _Column:
    """`default` is SQL, and `default_key` what it is compared by: PostgreSQL writes it in a way of its own."""

    name: str
    type: str
    nullable: bool
    default: str | None
    default_key: object
    is_serial: bool

    def definition(self) -> str:
        type_ = self.type.replace("INTEGER", "SERIAL").replace("BIGINT", "BIGSERIAL") if self.is_serial else self.type
        null = "" if self.nullable else " NOT NULL"
        default = f" DEFAULT {self.default}" if self.default is not None else ""
        return f"{_quoted(self.name)} {type_}{null}{default}"


@dataclass(frozen=True, slots=True)
class _Index:
    name: str
    columns: tuple[tuple[str, bool], ...]
    is_unique: bool
    method: str
    is_constraint: bool

    def structure(self) -> object:
        return self.columns, self.is_unique, self.method


@dataclass(frozen=True, slots=True)
class _ForeignKey:
    name: str
    columns: tuple[str, ...]
    referred: str
    referred_columns: tuple[str, ...]
    on_delete: str
    on_update: str

    def structure(self) -> object:
        return self.columns, self.referred, self.referred_columns, self.on_delete, self.on_update


@dataclass(frozen=True, slots=True)
class _Table:
    name: str
    columns: Mapping[str, _Column]
    primary_key: tuple[str, ...]
    primary_key_name: str
    indexes: tuple[_Index, ...]
    foreign_keys: tuple[_ForeignKey, ...]


@dataclass(frozen=True, slots=True)
class Database:
    """What a database has, or should have."""

    tables: Mapping[str, _Table]
    enums: Mapping[str, tuple[str, ...]]


NOTHING = Database({}, {})


# --- descriptions -----------------------------------------------------------------------------------------------


def of_schema(schema: Schema) -> Database:
    """Describe what a schema wants.

    Args:
        schema: What wants it.
    """
    return Database(_tables(tables(schema)), schema.enums)


def of_connection(connection: psycopg2.extensions.connection) -> Database:
    """Describe what there is, in the schema that the connection looks names up in.

    Args:
        connection: Where.
    """
    engine = create_engine(
        "postgresql+psycopg2://", creator=lambda: connection, poolclass=StaticPool, isolation_level="AUTOCOMMIT"
    )
    metadata = MetaData()
    with engine.connect() as found:
        metadata.reflect(found, only=list(found.scalars(TABLES)), resolve_fks=False)
        enums = {name: tuple(values) for name, values in found.execute(ENUMS)}
    return Database(_tables(metadata), enums)


def _tables(metadata: MetaData) -> Mapping[str, _Table]:
    return {table.name: _table(table) for table in metadata.tables.values()}


def _table(table: Table) -> _Table:
    return _Table(
        name=table.name,
        columns={column.name: _column(column) for column in table.columns},
        primary_key=tuple(column.name for column in table.primary_key),
        primary_key_name=str(table.primary_key.name),
        indexes=tuple(sorted(_indexes(table), key=lambda index: index.name)),
        foreign_keys=tuple(
            _ForeignKey(
                name=str(constraint.name),
                columns=tuple(constraint.column_keys),
                referred=constraint.elements[0].target_fullname.rpartition(".")[0],
                referred_columns=tuple(one.target_fullname.rpartition(".")[2] for one in constraint.elements),
                on_delete=constraint.ondelete or "NO ACTION",
                on_update=constraint.onupdate or "NO ACTION",
            )
            for constraint in sorted(table.constraints, key=lambda constraint: str(constraint.name))
            if isinstance(constraint, ForeignKeyConstraint)
        ),
    )


def _column(column: Column[Any]) -> _Column:
    type_ = column.type.compile(DIALECT).removesuffix(" WITHOUT TIME ZONE")
    default = str(column.server_default.arg) if isinstance(column.server_default, DefaultClause) else None
    is_serial = bool(column.identity) or column.autoincrement is True
    if default is not None and default.startswith("nextval("):
        is_serial, default = True, None
    return _Column(
        name=column.name,
        type=type_,
        nullable=bool(column.nullable),
        default=default,
        default_key=_default_key(default),
        is_serial=is_serial,
    )


def _default_key(default: str | None) -> object:
    if default is None:
        return None
    bare = CAST.sub("", default).replace(" ", "")
    if number := NUMBER.fullmatch(bare):
        return float(number[1])
    if bare.startswith("'") and not default.endswith("[]"):
        return bare
    return {"now()": "current_timestamp", "'{}'": "array[]"}.get(bare.casefold(), bare.casefold())


def _indexes(table: Table) -> Iterator[_Index]:
    for index in table.indexes:
        columns = tuple(_index_columns(index))
        options = index.dialect_options["postgresql"]
        if len(columns) == len(index.expressions) and options["where"] is None:
            method = str(options["using"] or "btree").lower()
            yield _Index(str(index.name), columns, bool(index.unique), method, is_constraint=False)
    for constraint in table.constraints:
        if isinstance(constraint, UniqueConstraint):
            columns = tuple((column.name, False) for column in constraint.columns)
            yield _Index(str(constraint.name), columns, is_unique=True, method="btree", is_constraint=True)


def _index_columns(index: Index) -> Iterator[tuple[str, bool]]:
    for expression in index.expressions:
        is_descending = isinstance(expression, UnaryExpression) and expression.modifier is desc_op
        column = expression.element if is_descending and isinstance(expression, UnaryExpression) else expression
        if isinstance(column, Column):
            yield column.name, is_descending


# --- the difference ---------------------------------------------------------------------------------------------


def difference(old: Database, new: Database) -> tuple[Step, ...]:
    """Find what leads from one to the other.

    Args:
        old: What there is.
        new: What should be.

    Returns:
        The changes, in the order in which they can be made.
    """
    steps = [*_enum_steps(old, new)]
    for name, table in old.tables.items():
        if name not in new.tables:
            steps += [_drop_foreign_key(name, key) for key in table.foreign_keys]
            lost = Loss(
                _quoted(name),
                f"You are about to drop the `{name}` table, which is not empty ({{count}} rows).",
            )
            steps.append(Step("DropTable", f"DROP TABLE {_quoted(name)}", (lost,)))
    for name, table in new.tables.items():
        if name in old.tables:
            steps += _table_steps(old.tables[name], table)
        else:
            steps.append(Step("CreateTable", _create_table(table)))
            steps += [_create_index(name, index) for index in table.indexes]
            steps += [_add_foreign_key(name, key) for key in table.foreign_keys]
    return tuple(sorted(steps, key=lambda step: KINDS.index(step.kind)))


def script(steps: Iterable[Step]) -> str:
    """Write steps as Prisma does.

    Args:
        steps: What to write.
    """
    return "\n".join(f"-- {step.kind}\n{step.statement};\n" for step in steps) or f"{EMPTY}\n"


def _enum_steps(old: Database, new: Database) -> Iterator[Step]:
    for name, values in new.enums.items():
        labels = ", ".join(map(_text, values))
        before = old.enums.get(name)
        if before is None:
            yield Step("CreateEnum", f"CREATE TYPE {_quoted(name)} AS ENUM ({labels})")
        elif set(before) <= set(values):
            for value in values:
                if value not in before:
                    yield Step("AlterEnum", f"ALTER TYPE {_quoted(name)} ADD VALUE {_text(value)}")
        else:
            yield Step("AlterEnum", ";\n".join(_remake_enum(name, labels, old, new)))
    for name in old.enums:
        if name not in new.enums:
            yield Step("DropEnum", f"DROP TYPE {_quoted(name)}")


def _remake_enum(name: str, labels: str, old: Database, new: Database) -> Iterator[str]:
    """PostgreSQL cannot take a value out of an enum."""
    quoted, remade, given_up = (_quoted(f"{name}{suffix}") for suffix in ("", "_new", "_old"))
    yield f"CREATE TYPE {remade} AS ENUM ({labels})"
    for table in old.tables.values():
        for column in table.columns.values():
            kept = new.tables[table.name].columns.get(column.name) if table.name in new.tables else None
            if column.type.removesuffix("[]") == quoted and kept is not None:
                brackets = column.type[len(quoted) :]
                alter = f"ALTER TABLE {_quoted(table.name)} ALTER COLUMN {_quoted(column.name)}"
                if column.default is not None:
                    yield f"{alter} DROP DEFAULT"
                cast = f"{_quoted(column.name)}::text{brackets}::{remade}{brackets}"
                yield f"{alter} TYPE {remade}{brackets} USING ({cast})"
    yield f"ALTER TYPE {quoted} RENAME TO {given_up}"
    yield f"ALTER TYPE {remade} RENAME TO {quoted}"
    for table in new.tables.values():
        for column in table.columns.values():
            is_old = table.name in old.tables and column.name in old.tables[table.name].columns
            if column.type.removesuffix("[]") == quoted and column.default is not None and is_old:
                alter = f"ALTER TABLE {_quoted(table.name)} ALTER COLUMN {_quoted(column.name)}"
                yield f"{alter} SET DEFAULT {column.default}"
    yield f"DROP TYPE {given_up}"


def _table_steps(old: _Table, new: _Table) -> Iterator[Step]:
    clauses: list[str] = []
    losses: list[Loss] = []
    is_rekeyed = old.primary_key != new.primary_key
    if is_rekeyed and old.primary_key:
        clauses.append(f"DROP CONSTRAINT {_quoted(old.primary_key_name)}")
    for clause, *lost in _column_clauses(old, new):
        clauses.append(clause)
        losses += lost
    if is_rekeyed:
        columns = _list(new.primary_key)
        clauses.append(f"ADD CONSTRAINT {_quoted(new.primary_key_name)} PRIMARY KEY ({columns})")
        losses += [_duplicates(new.name, new.primary_key)] if set(new.primary_key) <= set(old.columns) else []
    for name, column in new.columns.items():
        if column.is_serial and name in old.columns and not old.columns[name].is_serial:
            sequence, owner = _quoted(_sequence(new.name, column)), f"{_quoted(new.name)}.{_quoted(name)}"
            yield Step("AlterTable", f"CREATE SEQUENCE {sequence} OWNED BY {owner}")
    if clauses:
        joined = ",\n".join(clauses)
        yield Step("AlterTable", f"ALTER TABLE {_quoted(new.name)} {joined}", tuple(losses))
    if not is_rekeyed and old.primary_key_name != new.primary_key_name:
        yield Step("AlterTable", _rename_constraint(new.name, old.primary_key_name, new.primary_key_name))
    dropped, renamed, added = _matched(old.foreign_keys, new.foreign_keys)
    yield from (_drop_foreign_key(new.name, key) for key in dropped)
    yield from (Step("RenameForeignKey", _rename_constraint(new.name, *names)) for names in renamed)
    yield from (_add_foreign_key(new.name, key) for key in added)
    gone, renames, missing = _matched(old.indexes, new.indexes)
    yield from (_drop_index(new.name, index) for index in gone)
    yield from (
        Step("RenameIndex", f"ALTER INDEX {_quoted(before)} RENAME TO {_quoted(after)}") for before, after in renames
    )
    yield from (_create_index(new.name, index, old) for index in missing)


def _column_clauses(old: _Table, new: _Table) -> Iterator[tuple[str, *tuple[Loss, ...]]]:
    table = _quoted(new.name)
    for name in old.columns:
        if name not in new.columns:
            yield (
                f"DROP COLUMN {_quoted(name)}",
                Loss(
                    f"{table} WHERE {_quoted(name)} IS NOT NULL",
                    f"You are about to drop the column `{name}` on the `{new.name}` table, which still contains "
                    "{count} non-null values.",
                ),
            )
    for name, column in new.columns.items():
        before = old.columns.get(name)
        if before is not None:
            yield from _altered(new.name, before, column)
        elif column.nullable or column.default is not None or column.is_serial or column.type.endswith("[]"):
            yield (f"ADD COLUMN {column.definition()}",)
        else:
            yield (
                f"ADD COLUMN {column.definition()}",
                Loss(
                    table,
                    f"Added the required column `{name}` to the `{new.name}` table without a default value. There are "
                    "{count} rows in this table, it is not possible to execute this step.",
                    is_in_the_way=True,
                ),
            )


def _altered(table: str, old: _Column, new: _Column) -> Iterator[tuple[str, *tuple[Loss, ...]]]:
    name, alter = _quoted(new.name), f"ALTER COLUMN {_quoted(new.name)}"
    is_retyped = old.type != new.type
    is_redefaulted = old.default_key != new.default_key
    is_given_up = is_retyped or (is_redefaulted and new.default is None)
    if (old.default is not None and is_given_up) or (old.is_serial and not new.is_serial):
        yield (f"{alter} DROP DEFAULT",)
    if is_retyped:
        yield (
            f"{alter} SET DATA TYPE {new.type} USING {name}::{new.type}",
            Loss(
                f"{_quoted(table)} WHERE {name} IS NOT NULL",
                f"You are about to alter the column `{new.name}` on the `{table}` table, which contains {{count}} "
                f"non-null values. The data in that column will be cast from `{old.type}` to `{new.type}`.",
            ),
        )
    if new.is_serial and not old.is_serial:
        yield (f"{alter} SET DEFAULT nextval({_text(_quoted(_sequence(table, new)))})",)
    if new.default is not None and (is_retyped or is_redefaulted):
        yield (f"{alter} SET DEFAULT {new.default}",)
    if old.nullable and not new.nullable:
        yield (
            f"{alter} SET NOT NULL",
            Loss(
                f"{_quoted(table)} WHERE {name} IS NULL",
                f"Made the column `{new.name}` on table `{table}` required, but there are {{count}} existing NULL "
                "values.",
                is_in_the_way=True,
            ),
        )
    if new.nullable and not old.nullable and not new.type.endswith("[]"):
        yield (f"{alter} DROP NOT NULL",)


def _matched(old: Iterable[T], new: Iterable[T]) -> tuple[list[T], list[tuple[str, str]], list[T]]:
    """Find what is to be dropped, renamed (from, to) and added: what differs in its name alone is the same."""
    gone = {one.name: one for one in old}
    missing = []
    for one in new:
        if one.name in gone and gone[one.name].structure() == one.structure():
            del gone[one.name]
        else:
            missing.append(one)
    renamed, added = [], []
    for one in missing:
        same = next((name for name, other in gone.items() if other.structure() == one.structure()), None)
        if same is None:
            added.append(one)
        else:
            del gone[same]
            renamed.append((same, one.name))
    return list(gone.values()), renamed, added


# --- statements -------------------------------------------------------------------------------------------------


def _create_table(table: _Table) -> str:
    lines = [column.definition() for column in table.columns.values()]
    if table.primary_key:
        lines += [f"CONSTRAINT {_quoted(table.primary_key_name)} PRIMARY KEY ({_list(table.primary_key)})"]
    body = ",\n".join(f"    {line}" for line in lines)
    return f"CREATE TABLE {_quoted(table.name)} (\n{body}\n)"


def _create_index(table: str, index: _Index, old: _Table | None = None) -> Step:
    unique = "UNIQUE " if index.is_unique else ""
    using = "" if index.method == "btree" else f" USING {index.method}"
    columns = ", ".join(f"{_quoted(name)}{' DESC' if descending else ''}" for name, descending in index.columns)
    names = tuple(name for name, _ in index.columns)
    return Step(
        "CreateIndex",
        f"CREATE {unique}INDEX {_quoted(index.name)} ON {_quoted(table)}{using}({columns})",
        (_duplicates(table, names),) if index.is_unique and old is not None and set(names) <= set(old.columns) else (),
    )


def _duplicates(table: str, columns: tuple[str, ...]) -> Loss:
    present = " AND ".join(f"{_quoted(name)} IS NOT NULL" for name in columns)
    return Loss(
        f"(SELECT FROM {_quoted(table)} WHERE {present} GROUP BY {_list(columns)} HAVING count(*) > 1) AS duplicates",
        f"{_list(columns)} of table `{table}` should become unique, but {{count}} values are there more than once.",
        is_in_the_way=True,
    )


def _drop_index(table: str, index: _Index) -> Step:
    if index.is_constraint:
        return Step("AlterTable", f"ALTER TABLE {_quoted(table)} DROP CONSTRAINT {_quoted(index.name)}")
    return Step("DropIndex", f"DROP INDEX {_quoted(index.name)}")


def _add_foreign_key(table: str, key: _ForeignKey) -> Step:
    return Step(
        "AddForeignKey",
        f"ALTER TABLE {_quoted(table)} ADD CONSTRAINT {_quoted(key.name)} FOREIGN KEY ({_list(key.columns)}) "
        f"REFERENCES {_quoted(key.referred)}({_list(key.referred_columns)}) "
        f"ON DELETE {key.on_delete} ON UPDATE {key.on_update}",
    )


def _drop_foreign_key(table: str, key: _ForeignKey) -> Step:
    return Step("DropForeignKey", f"ALTER TABLE {_quoted(table)} DROP CONSTRAINT {_quoted(key.name)}")


def _rename_constraint(table: str, old: str, new: str) -> str:
    return f"ALTER TABLE {_quoted(table)} RENAME CONSTRAINT {_quoted(old)} TO {_quoted(new)}"


def _sequence(table: str, column: _Column) -> str:
    return f"{table}_{column.name}_seq"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _list(names: Iterable[str]) -> str:
    return ", ".join(map(_quoted, names))


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
