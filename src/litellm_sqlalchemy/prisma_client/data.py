"""The data of Prisma's writes, compiled to the values of rows. Pure: nothing here knows a connection."""

import datetime as dt
import itertools
import os
import secrets
import time
import uuid
from collections.abc import Mapping
from typing import cast

from sqlalchemy import cast as sql_cast
from sqlalchemy import func

from litellm_sqlalchemy.prisma_client.description import Entity
from litellm_sqlalchemy.prisma_client.errors import DataError, invalid, misfit, missing
from litellm_sqlalchemy.prisma_client.query import Arguments, Compiler, unknown
from litellm_sqlalchemy.prisma_client.schema import Call, Field, Name, Value
from litellm_sqlalchemy.prisma_client.values import AT_ONCE

Values = dict[str, Value]
"""By column, what SQLAlchemy takes for it."""

NUMBERS = frozenset({"Int", "BigInt", "Float", "Decimal"})
NUMBER_OPERATORS = frozenset({"increment", "decrement", "multiply", "divide"})


class DataCompiler:
    """Compiles data.

    Args:
        compiler: Of values.
    """

    def __init__(self, compiler: Compiler) -> None:
        self._compiler = compiler
        self._now = dt.datetime.now(dt.UTC)  # one for all of a request

    def nested(self, entity: Entity, data: Arguments, *, is_new: bool = False) -> list[tuple[Field, Arguments]]:
        """Give what a write has for related rows: each relation with its operations.

        Args:
            entity: What is written.
            data: As the caller gives it.
            is_new: Whether it makes a row.

        Raises:
            DataError: It is no data of this model.
        """
        if data is None:
            raise missing(f"data of {entity.model.name}", "P2012")
        if not isinstance(data, Mapping):
            raise misfit(f"the data of {entity.model.name} must be an object, not {type(data).__name__}")
        found = []
        for name, value in data.items():
            one = entity.model.fields.get(name)
            if one is None:
                if is_new:
                    self.new(entity, data, {})  # a value that is missing comes first
                raise unknown(entity, name, "data")
            if one.relation is not None:
                if value is None:
                    raise missing(f"{entity.model.name}.{name}")
                if not isinstance(value, Mapping):
                    raise invalid(f"{name} of {entity.model.name} takes connect, create and the like")
                found.append((one, value))
        if any(one.relation and one.relation.fields for one, _ in found):
            self._check_links(entity, data)
        return found

    def _check_links(self, entity: Entity, data: Arguments) -> None:
        """Refuse data that has a related row for one link and a column for another: Prisma takes either way alone."""
        for one in entity.model.fields.values():
            for name in one.relation.fields if one.relation else ():
                if name in data and one.is_required:
                    raise missing(f"{entity.model.name}.{one.name}")
                if name in data:
                    raise misfit(f"{entity.model.name} has {name} beside related rows: give {one.name} for it as well")

    def new(self, entity: Entity, data: Arguments, fixed: Values) -> Values:
        """Make the values of a new row, with the defaults that Prisma's engine fills in.

        Args:
            entity: What is written.
            data: As the caller gives it.
            fixed: Values that lead to other rows, by field, as SQLAlchemy takes them.

        Raises:
            MissingRequiredValueError: A value that must be there is not.
            DataError: A value is of the wrong type.
        """
        values: Values = {}
        for one in entity.columns:
            name, column = one.name, cast("str", one.column)
            if name in fixed:
                values[column] = fixed[name]
            elif name not in data:
                if self._has_default(one):
                    if (default := self._default(one)) is not None:
                        values[column] = self._compiler.value(one, default)
                elif one.is_required and not one.is_list:
                    raise missing(f"{entity.model.name}.{name}")
                else:
                    values[column] = None
            else:
                value = data[name]
                # At once where it can be: a row of LiteLLM's has 40 values, and it writes thousands of rows.
                reader = None if one.is_list else AT_ONCE.get((one.type, type(value)))
                found = None if reader is None else reader(value)
                values[column] = self._given(entity, one, value) if found is None else found
        return values

    def _given(self, entity: Entity, one: Field, value: Value) -> Value:
        """Make what SQLAlchemy takes for a value of a new row."""
        if isinstance(value, Mapping) and value.keys() == {"set"} and one.type != "Json":
            value = value["set"]
        if value is None:
            if one.is_required or one.is_list:
                raise missing(f"{entity.model.name}.{one.name}")
            return None
        try:
            if one.is_list and not isinstance(value, list):
                raise invalid(
                    f"{one.name} of {entity.model.name} is a list, and does not take a {type(value).__name__}"
                )
            return self._compiler.value(one, value)
        except DataError as error:
            if error.code is None or not one.is_required or one.is_list or one.type == "Json":
                raise
            # Of a field that takes one type alone, prisma-client-py says no more than that it does not fit.
            raise misfit(str(error)) from None

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
        match default.function:
            case "now":
                return self._now
            case "uuid":
                return str(uuid.uuid4())
            case "cuid":
                return cuid()
        return None

    def changes(self, entity: Entity, data: Arguments) -> Values:
        """Make what an UPDATE sets.

        Args:
            entity: What is written.
            data: As the caller gives it.

        Raises:
            DataError: It is no data of this model.
        """
        values: Values = {}
        for name, value in data.items():
            one = entity.model.fields.get(name)
            if one is None:
                raise unknown(entity, name, "data")
            if one.relation is None:
                values[cast("str", one.column)] = self._change(entity, one, value)
        return {**self.touched(entity), **values} if values else {}

    def touched(self, entity: Entity) -> Values:
        """Give what each UPDATE sets.

        Args:
            entity: What is written.
        """
        return {
            cast("str", one.column): self._compiler.value(one, self._now) for one in entity.columns if one.is_updated_at
        }

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
        if operator not in NUMBER_OPERATORS or one.type not in NUMBERS or one.is_list:
            raise invalid(f"{one.name} of {entity.model.name} is a {one.type}, and has no operation {operator}")
        amount = sql_cast(self._set(entity, one, operand), column.type)
        return {
            "increment": column + amount,
            "decrement": column - amount,
            "multiply": column * amount,
            "divide": column / amount,
        }[operator]

    def _set(self, entity: Entity, one: Field, value: Value) -> Value:
        if value is None and (one.is_required or one.type == "Json"):
            raise missing(f"{entity.model.name}.{one.name}")
        if one.is_list and not isinstance(value, list):
            raise invalid(f"{one.name} of {entity.model.name} is a list, and does not take a {type(value).__name__}")
        return self._compiler.value(one, value)


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
