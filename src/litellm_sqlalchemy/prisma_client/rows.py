"""The rows' classes: pydantic models, one for each of the schema's, as prisma-client-py generates them."""

import datetime as dt
import decimal
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeAlias, cast

from pydantic import BaseModel, ConfigDict, create_model
from pydantic import Json as PydanticJson

from litellm_sqlalchemy.prisma_client import values
from litellm_sqlalchemy.prisma_client.fields import Base64
from litellm_sqlalchemy.prisma_client.schema import Field, Model, Value

TYPES: Mapping[str, Any] = {
    "BigInt": int,
    "Boolean": bool,
    "Bytes": Base64,
    "DateTime": dt.datetime,
    "Decimal": decimal.Decimal,
    "Float": float,
    "Int": int,
    "Json": PydanticJson,
    "String": str,
}


class Row(BaseModel):
    """A row of any model."""

    model_config: ClassVar[ConfigDict] = ConfigDict(
        use_enum_values=True, arbitrary_types_allowed=True, populate_by_name=True, protected_namespaces=()
    )
    __prisma_model__: ClassVar[str]


Decode: TypeAlias = Callable[[Sequence[Value]], Row]


def row_class(model: Model) -> type[Row]:
    """Make the class of a model's rows.

    Args:
        model: The model.
    """
    fields: dict[str, Any] = {field.name: _annotation(field) for field in model.fields.values()}
    found = create_model(model.name, __base__=Row, __module__="prisma.models", **fields)
    found.__prisma_model__ = model.name
    return found


def _annotation(field: Field) -> tuple[Any, Any]:
    if field.relation is not None:  # whose class would have to be there first: what `include` loads is of it anyhow
        return Any, None
    kind: Any = TYPES.get(field.type, str)  # of an enum the value's name
    if field.is_list:
        return list.__class_getitem__(kind), ...
    return (kind, ...) if field.is_required else (kind | None, None)


def decoder(model: Model, cls: type[Row], enums: Mapping[str, tuple[str, ...]]) -> Decode:
    """Make the function that makes rows of what the driver gives: all columns, in the schema's order.

    PostgreSQL has checked the types already, so nothing is validated once more but enums, which it may know more of.

    Args:
        model: The model.
        cls: Its rows' class.
        enums: The schema's.
    """
    columns = [field for field in model.fields.values() if field.relation is None]
    names = [field.name for field in columns]
    # The values of relations that are not loaded, and in pydantic's order of fields.
    empty = dict.fromkeys(model.fields)
    convert = [(field.name, found) for field in columns if (found := values.from_database(field, enums)) is not None]
    set_names = frozenset(names)
    new, put = cls.__new__, object.__setattr__

    def decode(row: Sequence[Value]) -> Row:
        state = empty.copy()
        state.update(zip(names, row, strict=True))
        for name, function in convert:
            state[name] = function(state[name])
        made = new(cls)
        put(made, "__dict__", state)
        put(made, "__pydantic_fields_set__", set(set_names))
        put(made, "__pydantic_extra__", None)
        put(made, "__pydantic_private__", None)
        return made

    return cast("Decode", decode)
