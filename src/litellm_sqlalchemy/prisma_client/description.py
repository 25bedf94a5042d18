"""All that is known of LiteLLM's database: its schema, the tables and the rows' classes that follow from it."""

from collections.abc import Mapping
from functools import cached_property
from typing import Any

from sqlalchemy import Column, ColumnClause, FromClause, MetaData, Select, Table, literal_column, select
from sqlalchemy.dialects import postgresql

from litellm_sqlalchemy.prisma_client import rows
from litellm_sqlalchemy.prisma_client.schema import Field, Model, Relation, Schema, Unique, Value
from litellm_sqlalchemy.prisma_client.tables import tables

quoted = postgresql.dialect().identifier_preparer.quote_identifier  # type: ignore[no-untyped-call]


class Entity:
    """A model with its table and its rows' class.

    Args:
        model: The model.
        table: Its table.
        enums: The schema's.
    """

    def __init__(self, model: Model, table: Table, enums: Mapping[str, tuple[str, ...]]) -> None:
        self._enums = enums
        self.model = model
        self.table = table
        self.columns = tuple(field for field in model.fields.values() if field.relation is None)
        self.uniques: Mapping[str, Unique] = {unique.name: unique for unique in (*model.uniques, model.primary_key)}

    @cached_property
    def row(self) -> type[rows.Row]:
        """The class of its rows; made when it is needed, as 97 of them take time."""
        return rows.row_class(self.model)

    @cached_property
    def decode(self) -> rows.Decode:
        """What makes rows of what the driver gives: all columns, in the schema's order."""
        return rows.decoder(self.model, self.row, self._enums)

    def column(self, field: Field, source: FromClause | None = None) -> Column[Value]:
        """Give a field's column.

        Args:
            field: Not a relation.
            source: An alias of the table; without it the table itself.
        """
        return (self.table if source is None else source).c[field.column]  # type: ignore[index, return-value]

    @cached_property
    def all_columns(self) -> ColumnClause[Any]:
        """All columns, in the schema's order: as one text, as SQLAlchemy would look at each of them for each query.

        JSON is a text, so that no driver reads it while more is on its way: whoever makes rows does, some at a time.
        """
        return literal_column(", ".join(map(self._written, self.columns)))

    def _written(self, field: Field) -> str:
        name = f"{quoted(self.table.name)}.{quoted(self.column(field).name)}"
        return name if field.type != "Json" else f"{name}::text[]" if field.is_list else f"{name}::text"

    @cached_property
    def selection(self) -> Select[Any]:
        """The SELECT of all columns."""
        return select(self.all_columns).select_from(self.table)

    def by_column(self, values: Mapping[str, Value]) -> dict[str, Value]:
        """Give values by column.

        Args:
            values: By field.
        """
        return {self.model.fields[name].column or name: value for name, value in values.items()}

    def relation(self, name: str) -> Relation | None:
        """Give the relation that a field is; None if it is none.

        Args:
            name: The field's.
        """
        field = self.model.fields.get(name)
        return field.relation if field else None


class Description:
    """The schema with its entities.

    Args:
        schema: LiteLLM's.
    """

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.metadata: MetaData = tables(schema)
        self.entities = {
            name: Entity(model, self.metadata.tables[model.table], schema.enums)
            for name, model in schema.models.items()
        }
        self.accessors = {name.lower(): name for name in schema.models}

    def other(self, relation: Relation) -> Entity:
        """Give the entity that a relation leads to.

        Args:
            relation: The relation.
        """
        return self.entities[relation.model]

    def joined(self, entity: Entity, field: Field) -> tuple[tuple[Field, Field], ...]:
        """Give the columns that a relation joins: of each pair, this side's field and the other's.

        Args:
            entity: This side.
            field: The relation.
        """
        relation = field.relation
        assert relation is not None  # noqa: S101 - the caller has looked
        other = self.other(relation)
        if relation.fields:
            own, others = relation.fields, relation.references
        else:
            inverse = other.model.fields[relation.inverse].relation
            assert inverse is not None  # noqa: S101 - the schema's reader has looked
            own, others = inverse.references, inverse.fields
        return tuple(
            (entity.model.fields[mine], other.model.fields[theirs]) for mine, theirs in zip(own, others, strict=True)
        )
