"""Values on their way into PostgreSQL and out of it.

In: what a caller of prisma-client-py may write. That client writes arguments as a GraphQL text, and Prisma's engine
reads it by the field's type; both steps decide what is taken. Out: what the rows' fields hold.
"""

import base64
import binascii
import datetime as dt
import decimal
import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Literal

from sqlalchemy import JSON

from litellm_sqlalchemy.prisma_client.errors import data_error, invalid
from litellm_sqlalchemy.prisma_client.fields import Base64, Json
from litellm_sqlalchemy.prisma_client.schema import SCALARS, Field, Value

LARGEST_INT = (1 << 31) - 1
LARGEST_BIGINT = (1 << 63) - 1
INTEGER = re.compile(r"[+-]?[0-9]+")
# RFC 3339, which needs a time zone: https://datatracker.ietf.org/doc/html/rfc3339#section-5.6
DATETIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(?:\.\d+)?(?:[Zz]|[+-]\d\d:\d\d)")


def written(value: Value) -> Value:
    """Write a value as prisma-client-py does when it makes a query's text.

    Args:
        value: Of an argument; lists and objects are looked through by the caller.

    Raises:
        TypeError: prisma-client-py can't write it.
    """
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        return str.__str__(value)  # of an Enum that is a text as well, its value
    if isinstance(value, Json):
        return json.dumps(value.data, default=written, ensure_ascii=False)
    if isinstance(value, JSONText):
        return json_of(value)
    if isinstance(value, dt.datetime):
        moment = value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value.astimezone(dt.UTC)
        return moment.replace(microsecond=moment.microsecond // 1000 * 1000).isoformat()
    if isinstance(value, Base64 | decimal.Decimal):
        return str(value)
    raise TypeError(f"Type {type(value)} not serializable")


def to_database(field: Field, value: Value, enums: Mapping[str, tuple[str, ...]]) -> Value:
    """Make what SQLAlchemy takes for a field's column.

    Args:
        field: The field; of a list the whole list is meant.
        value: As a caller writes it; None is NULL.
        enums: The schema's.

    Raises:
        DataError: The field does not take it (P2009).
        TypeError: Nothing takes it.
    """
    if value is None:
        return None
    if field.is_list:
        items = value if isinstance(value, list) else [value]
        return [element(field, item, enums) for item in items]
    return element(field, value, enums)


def element(field: Field, value: Value, enums: Mapping[str, tuple[str, ...]]) -> Value:
    """Make what SQLAlchemy takes for one of a list field's values, or for a field's one value.

    Args:
        field: The field.
        value: As a caller writes it, not None.
        enums: The schema's.

    Raises:
        DataError: The field does not take it (P2009).
        TypeError: Nothing takes it.
    """
    if field.type == "Json":
        return _json(field, value)
    if (reader := AT_ONCE.get((field.type, type(value)))) is not None and (found := reader(value)) is not None:
        return found
    if isinstance(value, dict | list):
        raise _mismatch(field, value)
    text = written(value)
    if field.type in enums:
        if not isinstance(text, str) or text not in enums[field.type]:
            raise _mismatch(field, value)
        return str(text)
    try:
        found = _READERS[field.type](text)
    except (ValueError, OverflowError, decimal.InvalidOperation):
        found = None
    if found is None:
        raise _mismatch(field, value)
    return found


def _mismatch(field: Field, value: Value) -> Exception:
    shown = "NULL" if value is None else f"a {type(value).__name__}"
    return invalid(f"field {field.name} is of type {field.type}, and does not take {shown}")


def _json(field: Field, value: Value) -> Value:
    """Take a Json, or a text of JSON."""
    if isinstance(value, Json):
        data = json.loads(written(value)) if _has_more_than_json(value.data) else value.data
    elif not isinstance(value, dict | list) and isinstance(text := written(value), str):
        try:
            data = json_of(text)
        except ValueError:
            raise invalid(f"field {field.name} is of type Json, and the text is no JSON: give Json(…)") from None
    else:
        raise _mismatch(field, value)
    return JSON.NULL if data is None else data


class JSONText(str):
    """JSON as PostgreSQL has written it."""

    __slots__ = ()


def json_of(text: str) -> Value:
    """Read JSON; `json.loads` looks for white space by a regular expression, which takes longer than the rest.

    Args:
        text: JSON.

    Raises:
        ValueError: It is not.
    """
    stripped = text.strip(" \t\r\n")
    data, end = _DECODER.raw_decode(stripped)
    if end != len(stripped):
        raise ValueError("there is more than JSON")
    return data


_DECODER = json.JSONDecoder()


def _has_more_than_json(data: Value) -> bool:
    """Say whether something in there must be written by `written`."""
    if isinstance(data, dict):
        return any(not isinstance(name, str) or _has_more_than_json(value) for name, value in data.items())
    if isinstance(data, list | tuple):
        return any(map(_has_more_than_json, data))
    return not (data is None or isinstance(data, bool | int | float | str))


def _string(value: Value) -> str | None:
    return str(value) if isinstance(value, str) else None


def _boolean(value: Value) -> bool | None:
    return value if isinstance(value, bool) else None


def _int(value: Value) -> int | None:
    if isinstance(value, bool | str):
        return None
    if abs(value) > LARGEST_BIGINT or value != int(value):
        return None
    return _fitting(int(value), LARGEST_INT, "an INT4")


def _bigint(value: Value) -> int | None:
    if isinstance(value, str):
        value = int(value) if INTEGER.fullmatch(value) else None
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return _fitting(value, LARGEST_BIGINT, "an INT8")


def _fitting(value: int, largest: int, kind: str) -> int:
    if not -largest - 1 <= value <= largest:
        raise data_error(None, f"Unable to fit integer value '{value}' into {kind} (64-bit or 32-bit signed integer).")
    return value


def _float(value: Value) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if math.isfinite(value) else None


def _decimal(value: Value) -> decimal.Decimal | None:
    return None if isinstance(value, bool) else decimal.Decimal(str(value))


def _moment(value: dt.datetime) -> dt.datetime:
    moment = value if value.tzinfo is None else value.astimezone(dt.UTC).replace(tzinfo=None)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def _datetime(value: Value) -> dt.datetime | None:
    if not isinstance(value, str) or not DATETIME.fullmatch(value):
        return None
    moment = dt.datetime.fromisoformat(value.upper())
    return moment.astimezone(dt.UTC).replace(tzinfo=None)


def _bytes(value: Value) -> bytes | None:
    try:
        return base64.b64decode(value, validate=True) if isinstance(value, str) else None
    except binascii.Error:
        return None


_READERS: Mapping[str, Callable[[Value], Value]] = {
    "BigInt": _bigint,
    "Boolean": _boolean,
    "Bytes": _bytes,
    "DateTime": _datetime,
    "Decimal": _decimal,
    "Float": _float,
    "Int": _int,
    "String": _string,
}
# What most values are, by the field's type and theirs; None: `element` says more. That the text which prisma-client-py
# makes of them leads to the same is in the contract.
AT_ONCE: Mapping[tuple[str, type], Callable[[Any], Value]] = {
    ("Boolean", bool): lambda value: value,
    ("DateTime", dt.datetime): _moment,
    ("Float", float): lambda value: value if math.isfinite(value) else None,
    ("Int", int): lambda value: value if abs(value) <= LARGEST_INT else None,
    ("String", str): lambda value: value,
}
assert _READERS.keys() | {"Json"} == SCALARS  # noqa: S101


# --- out ----------------------------------------------------------------------------------------------------------


def from_database(field: Field, enums: Mapping[str, tuple[str, ...]]) -> Callable[[Value], Value] | None:
    """Say what is to be done with a column's values, NULL among them, to have what rows hold.

    Args:
        field: The column's.
        enums: The schema's.

    Returns:
        None: nothing.
    """
    one = _known(field.type, enums[field.type]) if field.type in enums else _FROM_DATABASE.get(field.type)
    if field.is_list:
        return lambda values: [] if values is None else values if one is None else [one(value) for value in values]
    return one and (lambda value: None if value is None else one(value))


def _known(name: str, values: tuple[str, ...]) -> Callable[[str], str]:
    def known(value: str) -> str:
        if value not in values:
            raise data_error(None, f"Value '{value}' not found in enum '{name}'")
        return value

    return known


def _aware(value: dt.datetime) -> dt.datetime:
    return value.replace(tzinfo=dt.UTC)


_FROM_DATABASE: Mapping[str, Callable[[Any], Any]] = {
    "Bytes": Base64.encode,
    "DateTime": _aware,
    "Json": json_of,
}


def plain(value: Value, kind: Literal["group", "raw"]) -> Value:
    """Write a value as Prisma's engine does in JSON, which is what group_by and raw statements give.

    Args:
        value: As the driver gives it.
        kind: Which of the two: they differ in how times are written.
    """
    if isinstance(value, JSONText):
        return json_of(value)
    if isinstance(value, dt.datetime):
        moment = value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value.astimezone(dt.UTC)
        if kind == "group":
            return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03}Z"
        digits = (
            "auto" if not moment.microsecond else "milliseconds" if moment.microsecond % 1000 == 0 else "microseconds"
        )
        return moment.isoformat(timespec=digits)
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, bytes | memoryview):
        return base64.b64encode(value).decode()
    if isinstance(value, list):
        return [plain(item, kind) for item in value]
    if value is None or isinstance(value, bool | int | float | str | dict):
        return value
    return str(value)  # uuid, inet, interval, …
