"""Raw SQL: parameters typed as Prisma types them, and results in the shapes that it gives.

Prisma's engine takes a parameter's type from the value that the client sends in JSON, not from the statement: a text is
text, even where a timestamp is wanted, so statements cast (`$1::timestamp`). A driver that asks PostgreSQL what it
expects would refuse the text. So each `$n` gets its type: `$1::text::timestamp`.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from litellm_sqlalchemy.prisma_client.errors import data_error
from litellm_sqlalchemy.prisma_client.schema import Value
from litellm_sqlalchemy.prisma_client.values import plain, written

Driver = Literal["asyncpg", "psycopg"]

# PostgreSQL 17, section 4.1: where a $n or a % is none, and what is left alone.
LEXEME = re.compile(
    r"""
    (?P<quiet>
        --[^\n]*
        |[eE]'(?:[^'\\]|''|\\.)*'
        |'(?:[^']|'')*'
        |"(?:[^"]|"")*"
        |\$(?P<tag>[A-Za-z_]\w*)?\$.*?\$(?(tag)(?P=tag))\$
        |/\*.*?\*/
        |[A-Za-z_][\w$]*
    )
    |\$(?P<number>\d+)
    """,
    re.VERBOSE | re.DOTALL,
)


def parameter_type(value: Value) -> str | None:
    """Say which type Prisma's engine gives a parameter.

    Args:
        value: As the client sends it in JSON.

    Returns:
        PostgreSQL's name of it; None: PostgreSQL is to find out, as of NULL.
    """
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int8"
    if isinstance(value, float):
        return "float8"
    if isinstance(value, dict):
        return "jsonb"
    if isinstance(value, list | tuple):
        kinds = {parameter_type(item) for item in value} - {None}
        if kinds == {"int8", "float8"}:
            return "float8[]"
        return f"{kinds.pop() if len(kinds) == 1 else 'text'}[]"
    return None if value is None else "text"


def typed(sql: str, parameters: Sequence[Value]) -> str:
    """Give each parameter in a statement its type.

    Args:
        sql: With $1, $2, …
        parameters: Their values, as the client sends them in JSON.
    """
    return "".join(f"{text}{_parameter(number, parameters, '${}')}" for text, number in _pieces(sql))


def _pieces(sql: str) -> Iterator[tuple[str, int | None]]:
    """Cut a statement before and behind each parameter: a text, and the number that follows it; None at the end."""
    at = 0
    for match in LEXEME.finditer(sql):
        if match["number"] is not None:
            yield sql[at : match.start()], int(match["number"])
            at = match.end()
    yield sql[at:], None


def _parameter(number: int | None, parameters: Sequence[Value], form: str) -> str:
    """Write a parameter with its type."""
    if number is None:
        return ""
    kind = parameter_type(parameters[number - 1]) if 0 < number <= len(parameters) else None
    return form.format(number) + ("" if kind is None else f"::{kind}")


def parameters_in_json(parameters: Sequence[Value]) -> list[Value]:
    """Write parameters as the client does: in JSON, where a time is a text.

    Args:
        parameters: Of the call.

    Raises:
        TypeError: There is one that the client cannot write.
    """

    def one(value: Value) -> Value:
        if isinstance(value, list | tuple):
            return [one(item) for item in value]
        if isinstance(value, dict):
            return {name: one(item) for name, item in value.items()}
        return written(value)

    return [one(value) for value in parameters]


def statement(sql: str, parameters: Sequence[Value], driver: Driver) -> tuple[str, tuple[Any, ...] | dict[str, Any]]:
    """Write a statement as a driver takes it.

    Args:
        sql: With $1, $2, …
        parameters: Their values, as the client sends them in JSON.
        driver: Which one.

    Returns:
        The statement, and its parameters.

    Raises:
        RawQueryError: There are more or fewer parameters than the statement has.
    """
    pieces = list(_pieces(sql))
    if (expected := max((number for _, number in pieces if number is not None), default=0)) != len(parameters):
        text = f"wrong number of parameters: expected {expected}, got {len(parameters)}"
        message = f"Raw query failed. Code: `N/A`. Message: `{text}`"
        raise data_error("P2010", message, {"code": "N/A", "message": text})
    sendable = [_sendable(value, parameter_type(value)) for value in parameters]
    if driver == "asyncpg":
        return "".join(f"{text}{_parameter(number, parameters, '${}')}" for text, number in pieces), tuple(sendable)
    if not sendable:  # psycopg then leaves a % alone
        return sql, ()
    written_out = [f"{text.replace('%', '%%')}{_parameter(number, parameters, '%(p{})s')}" for text, number in pieces]
    return "".join(written_out), {f"p{number}": value for number, value in enumerate(sendable, 1)}


def _sendable(value: Value, kind: str | None) -> Value:
    """Make of a value what drivers take for its type."""
    if kind == "text[]":
        return [item if item is None or isinstance(item, str) else str(item) for item in value]
    if kind == "float8[]":
        return [None if item is None else float(item) for item in value]
    if kind == "jsonb":
        return json.dumps(value)
    if kind == "jsonb[]":
        return [None if item is None else json.dumps(item) for item in value]
    return value


def shaped(rows: Sequence[Mapping[str, Value]]) -> list[dict[str, Value]]:
    """Make what a raw query gives.

    Args:
        rows: As the driver gives them, by column.
    """
    return [{name: plain(value, "raw") for name, value in row.items()} for row in rows]
