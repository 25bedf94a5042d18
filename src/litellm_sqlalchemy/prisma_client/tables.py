"""The tables that a schema describes, for SQLAlchemy: as Prisma's migrations make them in PostgreSQL."""

from collections.abc import Callable
from typing import Any

from sqlalchemy import Column, ForeignKeyConstraint, Index, MetaData, PrimaryKeyConstraint, Table, TextClause, text
from sqlalchemy.dialects.postgresql import ARRAY, ENUM, JSONB, TIMESTAMP
from sqlalchemy.types import BigInteger, Boolean, Double, Integer, LargeBinary, Numeric, Text, TypeEngine

from litellm_sqlalchemy.prisma_client.schema import Call, Field, Model, Name, Schema, Value, constraint_name

ACTIONS = {
    "Cascade": "CASCADE",
    "Restrict": "RESTRICT",
    "NoAction": "NO ACTION",
    "SetNull": "SET NULL",
    "SetDefault": "SET DEFAULT",
}
TYPES: dict[str, Callable[[], TypeEngine[Any]]] = {
    "BigInt": BigInteger,
    "Boolean": Boolean,
    "Bytes": LargeBinary,
    "DateTime": lambda: TIMESTAMP(precision=3),
    "Decimal": lambda: Numeric(65, 30),
    "Float": Double,
    "Int": Integer,
    "Json": lambda: JSONB(none_as_null=True),  # what is JSON's own null is JSON.NULL
    "String": Text,
}


def tables(schema: Schema) -> MetaData:
    """Make them.

    Args:
        schema: What describes them.
    """
    metadata = MetaData()
    enums = {name: ENUM(*values, name=name, metadata=metadata) for name, values in schema.enums.items()}
    for model in schema.models.values():
        _table(model, schema, metadata, enums)
    return metadata


def _table(model: Model, schema: Schema, metadata: MetaData, enums: dict[str, ENUM]) -> None:
    columns = {field.name: _column(field, enums) for field in model.fields.values() if field.relation is None}

    def of(names: tuple[str, ...]) -> list[Column[Any]]:
        return [columns[name] for name in names]

    foreign_keys = [
        ForeignKeyConstraint(
            of(field.relation.fields),
            _referred(schema.models[field.relation.model], field.relation.references),
            name=constraint_name(model.table, tuple(column.name for column in of(field.relation.fields)), "fkey"),
            ondelete=ACTIONS[field.relation.on_delete],
            onupdate=ACTIONS[field.relation.on_update],
        )
        for field in model.fields.values()
        if field.relation is not None and field.relation.fields
    ]
    Table(
        model.table,
        metadata,
        *columns.values(),
        PrimaryKeyConstraint(*of(model.primary_key.fields), name=model.primary_key.constraint),
        *foreign_keys,
        *(Index(unique.constraint, *of(unique.fields), unique=True) for unique in model.uniques),
        *(
            Index(
                index.name,
                *(columns[name].desc() if descending else columns[name] for name, descending in index.fields),
                postgresql_using=index.method,
            )
            for index in model.indexes
        ),
    )


def _referred(model: Model, names: tuple[str, ...]) -> list[str]:
    return [f"{model.table}.{model.fields[name].column}" for name in names]


def _column(field: Field, enums: dict[str, ENUM]) -> Column[Any]:
    type_: TypeEngine[Any] = enums[field.type] if field.type in enums else TYPES[field.type]()
    return Column(
        field.column,
        ARRAY(type_) if field.is_list else type_,
        key=field.column,
        nullable=not field.is_required or field.is_list,
        autoincrement=isinstance(field.default, Call) and field.default.function == "autoincrement",
        server_default=_default(field),
    )


def _default(field: Field) -> TextClause | None:
    """Give what PostgreSQL fills in; uuid() and cuid() are the client's."""
    value = field.default
    if isinstance(value, Call):
        if value.function == "now":
            return text("CURRENT_TIMESTAMP")
        return text(value.arguments[0]) if value.function == "dbgenerated" else None
    if value is None:
        return None
    if isinstance(value, tuple):
        return text(f"ARRAY[{', '.join(map(_literal, value))}]::{'TEXT' if field.type == 'String' else field.type}[]")
    return text(_literal(value))


def _literal(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    written = value.text if isinstance(value, Name) else str(value)
    return "'" + written.replace("'", "''") + "'"
