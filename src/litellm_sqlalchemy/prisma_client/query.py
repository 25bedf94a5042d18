"""Prisma's arguments, compiled to SQLAlchemy's expressions. Pure: nothing here knows a connection.

The language: https://www.prisma.io/docs/orm/reference/prisma-client-reference. Where PostgreSQL's three-valued logic
shows through, it does as with Prisma: a negated filter does not find NULL.
"""

import datetime as dt
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Text,
    all_,
    and_,
    any_,
    case,
    cast,
    exists,
    false,
    func,
    literal,
    not_,
    or_,
    select,
    true,
    tuple_,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from litellm_sqlalchemy.prisma_client.description import Description, Entity
from litellm_sqlalchemy.prisma_client.errors import DataError, data_error, misfit, missing
from litellm_sqlalchemy.prisma_client.fields import Json
from litellm_sqlalchemy.prisma_client.schema import Field, Value
from litellm_sqlalchemy.prisma_client.values import element, to_database

Condition = ColumnElement[Any]
Arguments = Mapping[str, Value]

# prisma-client-py's names and Prisma's own: both are taken.
ALIASES = {
    "startswith": "startsWith",
    "has_every": "hasEvery",
    "endswith": "endsWith",
    "has_some": "hasSome",
    "is_empty": "isEmpty",
    "order_by": "orderBy",
    "not_in": "notIn",
    "is_not": "isNot",
    "connect_or_create": "connectOrCreate",
}
LIST_OPERATORS = frozenset({"equals", "has", "hasEvery", "hasSome", "isEmpty"})
PLAIN = frozenset({str, int, float, bool, type(None), dt.datetime, Json})  # there is nothing in them
GROUPS = frozenset({"AND", "OR", "NOT"})


def normal(value: Value) -> Value:
    """Give arguments with Prisma's own names, and lists for whatever was iterated over.

    Args:
        value: Arguments, or a part of them.
    """
    if type(value) in PLAIN:
        return value
    if isinstance(value, Mapping):
        return {
            ALIASES.get(name, name): inner if type(inner) in PLAIN else normal(inner) for name, inner in value.items()
        }
    return [normal(inner) for inner in value] if isinstance(value, list | tuple | set) else value


class Compiler:
    """Compiles the arguments of a schema's models.

    Args:
        description: The schema with its tables.
        joins: Whether related rows are joined, as Prisma does in what it reads; in what it writes it asks whether a
            row's link is among theirs. That differs where a filter is negated and something is NULL.

    Attributes:
        description: The same.
    """

    def __init__(self, description: Description, *, joins: bool = True) -> None:
        self.description = description
        self._joins = joins
        self._enums = description.schema.enums

    @cached_property
    def of_many_writes(self) -> "Compiler":
        """The one that does not join."""
        return Compiler(self.description, joins=False)

    # --- values ---------------------------------------------------------------------------------------------------

    def value(self, field: Field, value: Value) -> Value:
        """Make what SQLAlchemy takes for a field.

        Args:
            field: The field.
            value: As the caller writes it.

        Raises:
            DataError: The field does not take it.
        """
        return to_database(field, value, self._enums)

    def _element(self, field: Field, value: Value) -> Value:
        if value is None:
            raise missing(f"{field.name} is compared with NULL, which only `equals` and `not` take")
        if isinstance(value, Mapping) and field.type != "Json":
            raise missing(f"{field.name} is compared with an object")
        return element(field, value, self._enums)

    def _elements(self, field: Field, values: Value) -> list[Value]:
        return [self._element(field, value) for value in (values if isinstance(values, list) else [values])]

    # --- where ----------------------------------------------------------------------------------------------------

    def where(
        self,
        entity: Entity,
        source: FromClause,
        where: Arguments | None,
        *,
        inverted: bool = False,
        grouped: bool = False,
    ) -> Condition:
        """Compile a filter.

        Args:
            entity: What is filtered.
            source: Its table, or an alias of it.
            where: The filter; None finds all.
            inverted: Whether an odd number of NOTs is around it.
            grouped: Whether it is within a group: there, groups without anything in them are dropped.

        Raises:
            FieldNotFoundError: It names what is not there.
            DataError: A value is of the wrong type.
        """
        where = {} if where is None else where
        return _all(list(self._conditions(entity, source, where, inverted=inverted, grouped=grouped)))

    def _conditions(
        self, entity: Entity, source: FromClause, where: Arguments, *, inverted: bool, grouped: bool
    ) -> Iterable[Condition]:
        if not isinstance(where, Mapping):
            raise misfit(f"a filter of {entity.model.name} must be an object, not {type(where).__name__}")
        for name, value in where.items():
            if name in GROUPS:
                if not (grouped and _is_empty(entity, {name: value})):
                    yield self._group(entity, source, name, value, inverted=inverted)
                continue
            field = entity.model.fields.get(name)
            if field is None:
                raise unknown(entity, name, "where")
            if field.relation is not None:
                yield self._relation(entity, source, field, value, inverted=inverted)
            elif field.is_list:
                yield self._list(field, entity.column(field, source), value)
            elif field.type == "Json":
                yield self._json(field, entity.column(field, source), value, inverted=inverted)
            else:
                yield self._scalar(field, entity.column(field, source), value)

    def _group(self, entity: Entity, source: FromClause, name: str, value: Value, *, inverted: bool) -> Condition:
        members = value if isinstance(value, list) else [value]
        if any(not isinstance(member, Mapping) for member in members) or (name == "OR" and members is not value):
            raise misfit(f"{name} of {entity.model.name} takes a list of filters")
        # On its own, an OR without anything in it finds nothing.
        found = [
            self.where(entity, source, member, inverted=inverted is not (name == "NOT"), grouped=True)
            for member in members
            if not _is_empty(entity, member)
        ]
        if name == "AND":
            return _all(found)
        if name == "OR":
            return or_(*found) if found else false()
        return _all([not_(condition) for condition in found])

    def _relation(self, entity: Entity, source: FromClause, field: Field, value: Value, *, inverted: bool) -> Condition:
        relation = field.relation
        assert relation is not None  # noqa: S101 - the caller has looked
        other = self.description.other(relation)
        alias = other.table.alias()
        joined = and_(
            *(
                entity.column(mine, source) == other.column(theirs, alias)
                for mine, theirs in self.description.joined(entity, field)
            )
        )
        if field.is_list:
            return _all(list(self._to_many(other, alias, joined, field, value, inverted=inverted)))
        if value == {}:
            return true()
        if not (isinstance(value, Mapping) and value.keys() & {"is", "isNot"}):
            value = {"is": value}
        if strange := value.keys() - {"is", "isNot"}:
            raise unknown(other, min(strange), "where")
        conditions = []
        for name, inner in value.items():
            if inner is None and field.is_required:
                raise missing(f"{field.name} of {entity.model.name} always leads to a row")
            if self._joins or inner is None:
                found = self._to_one(other, alias, joined, inner, inverted=inverted is not (name == "isNot"))
            else:
                found = self._among(entity, source, field, alias, inner, inverted=inverted is not (name == "isNot"))
            conditions.append(found if name == "is" else not_(found))
        return _all(conditions)

    def _to_one(
        self, other: Entity, alias: FromClause, joined: Condition, where: Value, *, inverted: bool
    ) -> Condition:
        there = exists().where(joined)
        if where is None:
            return not_(there)
        # As a LEFT JOIN sees it: without a row it is false, with one it may be NULL.
        inner = select(self.where(other, alias, where, inverted=inverted)).where(joined).scalar_subquery()
        return case((there, inner), else_=false())

    def _among(
        self, entity: Entity, source: FromClause, field: Field, alias: FromClause, where: Value, *, inverted: bool
    ) -> Condition:
        """Compile a filter of a related row as one of the values that lead to it."""
        assert field.relation is not None  # noqa: S101 - the caller has looked
        other = self.description.other(field.relation)
        joined = self.description.joined(entity, field)
        rows = select(*(other.column(theirs, alias) for _, theirs in joined))
        rows = rows.where(self.where(other, alias, where, inverted=inverted))
        return tuple_(*(entity.column(mine, source) for mine, _ in joined)).in_(rows)

    def _to_many(
        self, other: Entity, alias: FromClause, joined: Condition, field: Field, value: Value, *, inverted: bool
    ) -> Iterable[Condition]:
        if value is None:
            raise missing(f"{field.name} is a list, which is never NULL", "P2012")
        if not isinstance(value, Mapping):
            raise misfit(f"{field.name} takes some, every or none")
        for name, inner in value.items():
            if name not in {"some", "every", "none"}:
                raise unknown(other, name, f"where.{field.name}")
            condition = self.where(other, alias, inner, inverted=inverted)
            if name == "every":
                yield not_(exists().where(joined, not_(condition)))
            else:
                found = exists().where(joined, condition)
                yield found if name == "some" else not_(found)

    # --- where: a column ------------------------------------------------------------------------------------------

    def scalar(self, field: Field, kind: str, column: ColumnElement[Any], value: Value) -> Condition:
        """Compile a filter of a column, or of what is computed of it.

        Args:
            field: The column's field.
            kind: The computed value's type.
            column: What is filtered.
            value: The filter.
        """
        return self._scalar(replace(field, type=kind, is_list=False, is_required=False), column, value)

    def _scalar(
        self,
        field: Field,
        column: ColumnElement[Any],
        value: Value,
        *,
        insensitive: bool = False,
        negated: bool = False,
    ) -> Condition:
        """Compile a filter; negated: each of its operators is, and a `not` in there is no other than one alone."""
        if not isinstance(value, Mapping):
            if value is not None and not self._fits(field, value):
                raise misfit(f"{field.name} is of type {field.type}, and is not compared with a {type(value).__name__}")
            value = {"equals": value}
        insensitive = value.get("mode", "insensitive" if insensitive else None) == "insensitive"
        conditions = []
        for name, operand in value.items():
            if name == "mode":
                if field.type != "String" or operand not in ("default", "insensitive"):
                    raise misfit(f"{field.name} of type {field.type} has no mode {operand}")
                continue
            if name == "not":
                conditions.append(self._scalar(field, column, operand, insensitive=insensitive, negated=True))
                continue
            condition = self._operator(field, column, name, operand, insensitive=insensitive)
            conditions.append(not_(condition) if negated else condition)
        return _all(conditions)

    def _fits(self, field: Field, value: Value) -> bool:
        try:
            element(field, value, self._enums)
        except DataError as error:
            return error.code is None  # it is of the type, and too large
        return True

    def _equals(self, field: Field, column: ColumnElement[Any], value: Value) -> Condition:
        if value is None:
            if field.is_required:
                raise missing(f"{field.name} is never NULL, and can't be compared with it")
            return column.is_(None)
        condition: Condition = column == self._element(field, value)
        return condition

    def _operator(
        self, field: Field, column: ColumnElement[Any], name: str, operand: Value, *, insensitive: bool
    ) -> Condition:
        if name == "equals":
            if insensitive and operand is not None:
                return column.ilike(self._element(field, operand))
            return self._equals(field, column, operand)
        if name in {"in", "notIn"} and field.type != "Boolean":
            return self._membership(field, column, name, operand, insensitive=insensitive)
        if name in _COMPARISONS and field.type not in {"Boolean", "Bytes"}:
            bound: Any = literal(self._element(field, operand), column.type)
            if insensitive:
                return _COMPARISONS[name](func.lower(column), func.lower(bound))
            return _COMPARISONS[name](column, bound)
        if name in _PATTERNS and field.type == "String":
            pattern = _PATTERNS[name].format(self._element(field, operand))
            return column.ilike(pattern) if insensitive else column.like(pattern)
        raise misfit(f"field {field.name} is of type {field.type}, which has no filter `{name}`")

    def _membership(
        self, field: Field, column: ColumnElement[Any], name: str, operand: Value, *, insensitive: bool
    ) -> Condition:
        if operand is None:  # of a field that may be NULL
            return column.is_(None) if name == "in" else column.is_not(None)
        values = self._elements(field, operand)
        given = literal(values, ARRAY(column.type))
        if insensitive:
            lowered = func.lower(column)
            given = literal([value.lower() for value in values], ARRAY(Text()))
            return lowered == any_(given) if name == "in" else lowered != all_(given)
        return column == any_(given) if name == "in" else column != all_(given)

    def _list(self, field: Field, column: ColumnElement[Any], value: Value) -> Condition:
        if value is None:
            raise missing(f"{field.name} is a list, which is never NULL", "P2012")
        if not isinstance(value, Mapping) or len(value) != 1:
            raise misfit(f"field {field.name} is a list, whose filter has one of {', '.join(sorted(LIST_OPERATORS))}")
        ((name, operand),) = value.items()
        if name not in LIST_OPERATORS:
            raise misfit(f"field {field.name} is a list, which has no filter `{name}`")
        if name == "isEmpty":
            if not isinstance(operand, bool):
                raise misfit(f"is_empty of {field.name} must be True or False")
            empty = literal([], column.type)
            return column == empty if operand else column != empty
        if operand is None:
            return false() if name == "has" else column.is_(None)
        if isinstance(operand, list) is (name == "has"):
            raise misfit(f"`{name}` of {field.name} takes {'one value' if name == 'has' else 'a list'}")
        try:
            values = literal(self._elements(field, operand), column.type)
        except DataError as error:
            raise misfit(str(error)) from None
        if name == "equals":
            return column == values
        return column.op("&&" if name == "hasSome" else "@>", is_comparison=True)(values)

    def _json(self, field: Field, column: ColumnElement[Any], value: Value, *, inverted: bool) -> Condition:
        if value is None:
            raise missing(f"{field.name} can't be compared with NULL: give Json(None), which is JSON's own")
        if not isinstance(value, Mapping):
            raise misfit(f"the filter of {field.name}, a Json, must be an object such as {{'equals': Json(…)}}")
        path = value.get("path")
        if path is not None and not isinstance(path, list):
            raise misfit(f"path of {field.name} must be a list of texts")
        if value.keys() == {"path"}:
            raise data_error("P2019", f"Input error. A filter of {field.name} by path needs what is there", None)
        target: ColumnElement[Any] = column
        text: ColumnElement[Any] = cast(column, Text())  # with its quotes
        if path is not None:
            steps = cast(literal([str(part) for part in path], ARRAY(Text())), ARRAY(Text()))
            target = column.op("#>", return_type=JSONB())(steps)
            text = column.op("#>>", return_type=Text())(steps)
        conditions: list[Condition] = []
        for name, operand in value.items():
            if name in {"equals", "not"}:
                if operand is None:
                    raise missing(f"{field.name} can't be compared with NULL: give Json(None), which is JSON's own")
                bound = literal(self._json_value(field, operand), JSONB())
                conditions.append(target == bound if name == "equals" else target != bound)
            elif name != "path":
                condition, kind = self._json_operator(field, target, text, name, operand)
                # Prisma does not negate what it says of the kind of value.
                of_kind = func.jsonb_typeof(target) == kind
                conditions.append(or_(condition, not_(of_kind)) if inverted else and_(condition, of_kind))
        return _all(conditions)

    def _json_value(self, field: Field, value: Value) -> Value:
        try:
            return self._element(field, value)
        except DataError:
            raise misfit(f"{field.name} is of type Json, and does not take a {type(value).__name__}") from None

    def _json_operator(
        self, field: Field, target: ColumnElement[Any], text: ColumnElement[Any], name: str, operand: Value
    ) -> tuple[Condition, Any]:
        """Compile an operator that minds the kind of value; give that kind as well."""
        if name in _JSON_TEXTS:
            return text.like(_JSON_TEXTS[name].format(operand)), "string"
        bound: Any = literal(self._json_value(field, operand), JSONB())
        if name == "array_contains":
            return target.op("@>", is_comparison=True)(bound), "array"
        if name in {"array_starts_with", "array_ends_with"}:
            return target.op("->", return_type=JSONB())(0 if name == "array_starts_with" else -1) == bound, "array"
        if name in _COMPARISONS:
            return _COMPARISONS[name](target, bound), func.jsonb_typeof(bound)
        raise misfit(f"field {field.name} is of type Json, which has no filter `{name}`")

    # --- where: one row -------------------------------------------------------------------------------------------

    def unique(self, entity: Entity, source: FromClause, where: Arguments) -> Condition:
        """Compile what names one row.

        Args:
            entity: What is looked for.
            source: Its table, or an alias of it.
            where: A unique field, or several under their joined name; others beside it only narrow it down.

        Raises:
            FieldNotFoundError: Nothing in it is unique.
            MissingRequiredValueError: A value in it is missing or NULL.
        """
        return self.where(entity, source, self.expanded(entity, where))

    def expanded(self, entity: Entity, where: Arguments) -> dict[str, Value]:
        """Write out joined names: {"a_b": {"a": 1, "b": 2}} is {"a": 1, "b": 2}.

        Args:
            entity: What is looked for.
            where: What names one row.

        Raises:
            FieldNotFoundError: Nothing in it is unique.
            MissingRequiredValueError: A value in it is missing or NULL.
        """
        if where is None:
            raise missing(f"`where` of one {entity.model.name}", "P2012")
        if not isinstance(where, dict) or entity.uniques.keys().isdisjoint(where):
            raise misfit(f"`where` of one {entity.model.name} needs one of {', '.join(entity.uniques)}")
        found: dict[str, Value] = {}
        for name, value in where.items():
            unique = entity.uniques.get(name)
            if unique is None:
                found[name] = value
                continue
            members = value if len(unique.fields) > 1 else {name: value}
            if not isinstance(members, dict) or isinstance(value, dict) is not (len(unique.fields) > 1):
                raise misfit(f"{name} of {entity.model.name} needs {', '.join(unique.fields)}")
            if len(unique.fields) > 1 and (strange := members.keys() - set(unique.fields)):
                raise unknown(entity, f"{name}.{min(strange)}", "where")
            for member in unique.fields:
                if members.get(member) is None:
                    raise missing(f"{name}.{member} of {entity.model.name}", "P2012")
                found[member] = members[member]
        return found

    def plain_values(self, entity: Entity, named: Arguments) -> dict[str, Value] | None:
        """Give the values of what names one row, as SQLAlchemy takes them; None if they take more than `=`.

        Args:
            entity: What is looked for.
            named: By field (`expanded`).
        """
        values: dict[str, Value] = {}
        for name, value in named.items():
            field = entity.model.fields.get(name)
            if (
                field is None
                or field.is_list
                or field.type == "Json"
                or value is None
                or isinstance(value, (dict, list))
            ):
                return None
            try:
                values[name] = element(field, value, self._enums)
            except DataError:  # which says more elsewhere
                return None
        return values

    # --- order ----------------------------------------------------------------------------------------------------

    def order(
        self, entity: Entity, source: FromClause, order: Value, *, backwards: bool = False
    ) -> list[ColumnElement[Any]]:
        """Compile an order.

        Args:
            entity: What is sorted.
            source: Its table, or an alias of it.
            order: {"field": "asc"}, or a list of these.
            backwards: Whether all is the other way round, as for the last ones.

        Raises:
            FieldNotFoundError: It names what is not there.
            DataError: It is no order.
        """
        found: list[ColumnElement[Any]] = []
        for member in order if isinstance(order, list) else [order] if order else []:
            if not isinstance(member, Mapping) or len(member) > 1:
                raise misfit(f"the order of {entity.model.name} must be an object with one field, or a list of them")
            for name, direction in member.items():
                found.append(self._direction(entity, source, name, direction, backwards=backwards))
        return found

    def _direction(
        self, entity: Entity, source: FromClause, name: str, direction: Value, *, backwards: bool
    ) -> ColumnElement[Any]:
        column, direction, is_required = self._sorted(entity, source, name, direction)
        nulls = None
        if isinstance(direction, Mapping) and not is_required:
            nulls, direction = direction.get("nulls"), direction.get("sort")
        if direction not in ("asc", "desc"):
            raise misfit(f"the order of {entity.model.name} by {name} must be asc or desc")
        descending = (direction == "desc") is not backwards
        ordered = column.desc() if descending else column.asc()
        if nulls is None:
            return ordered
        return ordered.nulls_first() if (nulls == "first") is not backwards else ordered.nulls_last()

    def _sorted(
        self, entity: Entity, source: FromClause, name: str, direction: Value
    ) -> tuple[ColumnElement[Any], Value, bool]:
        """Give what is sorted by: a column, one of a related row, or the number of related rows.

        Also the direction, and whether it always has a value.
        """
        field = entity.model.fields.get(name)
        if field is None:
            raise unknown(entity, name, "order")
        if field.relation is None:
            if field.type == "Json":
                raise misfit(f"{entity.model.name} can't be sorted by {name}, a Json")
            return entity.column(field, source), direction, field.is_required
        other = self.description.other(field.relation)
        alias = other.table.alias()
        joined = [
            entity.column(mine, source) == other.column(theirs, alias)
            for mine, theirs in self.description.joined(entity, field)
        ]
        if not isinstance(direction, Mapping) or len(direction) != 1:
            raise misfit(f"the order of {entity.model.name} by {name} needs one of its fields")
        ((inner, inner_direction),) = direction.items()
        if field.is_list:
            if inner != "_count":
                raise unknown(other, inner, f"order.{name}")
            return select(func.count()).select_from(alias).where(*joined).scalar_subquery(), inner_direction, True
        column, inner_direction, is_required = self._sorted(other, alias, inner, inner_direction)
        return select(column).where(*joined).scalar_subquery(), inner_direction, is_required

    # --- cursor ---------------------------------------------------------------------------------------------------

    def after(
        self, entity: Entity, source: FromClause, order: Sequence[tuple[Field, bool]], cursor: Arguments
    ) -> Condition:
        """Compile "from this row on, it included".

        Args:
            entity: What is paged through.
            source: Its table.
            order: By which fields, and whether descending.
            cursor: What names the row.
        """
        alias = entity.table.alias()
        at = self.unique(entity, alias, cursor)
        found: list[Condition] = []
        before: list[Condition] = []
        for field, descending in order:
            mine = entity.column(field, source)
            its = select(entity.column(field, alias)).where(at).scalar_subquery()
            if descending:  # NULL comes first
                further = or_(mine < its, and_(its.is_(None), mine.is_not(None)))
            else:
                further = or_(mine > its, and_(its.is_not(None), mine.is_(None)))
            found.append(and_(*before, further))
            before.append(mine.is_not_distinct_from(its))
        found.append(and_(*before))
        return and_(exists().where(at), or_(*found))


def unknown(entity: Entity, name: str, where: str) -> DataError:
    """Make the error of a name that is not there.

    Args:
        entity: What does not have it.
        name: The name.
        where: The argument.
    """
    known = ", ".join(entity.model.fields)
    return misfit(f"{entity.model.name} has no field {name} ({where}); it has {known}")


def column_field(entity: Entity, name: str, where: str) -> Field:
    """Give a field that is a column.

    Args:
        entity: Whose.
        name: The field's.
        where: The argument that names it.

    Raises:
        FieldNotFoundError: There is none.
    """
    found = entity.model.fields.get(name)
    if found is None or found.relation is not None:
        raise unknown(entity, name, where)
    return found


def _all(conditions: Sequence[Condition]) -> Condition:
    return and_(*conditions) if conditions else true()


def _is_empty(entity: Entity, member: Value) -> bool:
    """Say whether a group's member is dropped: there is nothing in it but such groups, and rows that are anyhow."""
    if not isinstance(member, Mapping):
        return False
    for name, value in member.items():
        if name in GROUPS:
            if not all(_is_empty(entity, inner) for inner in (value if isinstance(value, list) else [value])):
                return False
        elif value != {} or entity.relation(name) is None:
            return False
    return True


_COMPARISONS: Mapping[str, Callable[[Any, Any], Condition]] = {
    "gt": lambda left, right: left > right,
    "gte": lambda left, right: left >= right,
    "lt": lambda left, right: left < right,
    "lte": lambda left, right: left <= right,
}
# Prisma escapes neither % nor _.
_PATTERNS = {"contains": "%{}%", "startsWith": "{}%", "endsWith": "%{}"}
_JSON_TEXTS = {"string_contains": "%{}%", "string_starts_with": "{}%", "string_ends_with": "%{}"}
