"""Raw SQL: each parameter gets its type, and what only looks like one is left alone."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litellm_sqlalchemy.prisma_client.errors import RawQueryError
from litellm_sqlalchemy.prisma_client.raw_sql import parameter_type, shaped, statement, typed

# Where PostgreSQL sees no parameter.
QUIET = [
    "'costs $1'",
    "'it''s $2'",
    "E'a\\'$1'",
    '"a $1 b"',
    "-- $1\n",
    "/* $1\n $2 */",
    "$$ $1 $$",
    "$body$ $2 $$ $body$",
    "a$1",
    "tag_$2",
    " ",
    "%",
    " LIKE '%x%' ",
    "::int",
]
VALUES = st.sampled_from([None, True, 3, 1.5, "text", ["a"], [1, 2], [1, 2.5], [None], [], {"a": 1}, [{"a": 1}]])


@given(st.lists(st.one_of(st.sampled_from(QUIET), st.just("P")), max_size=12), st.data())
def test_only_parameters_are_typed(pieces: list[str], data: st.DataObject) -> None:
    count = pieces.count("P")
    parameters = [data.draw(VALUES) for _ in range(count)]
    numbers = iter(range(1, count + 1))
    sql = " ".join(f"${next(numbers)}" if piece == "P" else piece for piece in pieces)
    numbers = iter(range(1, count + 1))
    expected = []
    for piece in pieces:
        if piece == "P":
            number = next(numbers)
            kind = parameter_type(parameters[number - 1])
            expected.append(f"${number}" if kind is None else f"${number}::{kind}")
        else:
            expected.append(piece)
    assert typed(sql, parameters) == " ".join(expected)
    for driver in ("asyncpg", "psycopg"):
        written, given_parameters = statement(sql, parameters, driver)
        assert len(given_parameters) == count
        if driver == "psycopg" and count:
            assert written.replace("%%", "").count("%(p") == count


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (None, None),
        (True, "bool"),
        (1, "int8"),
        (1.0, "float8"),
        ("2024-01-01T00:00:00Z", "text"),
        (["a", None], "text[]"),
        ([1, 2], "int8[]"),
        ([1, 2.5], "float8[]"),
        ([True], "bool[]"),
        ([], "text[]"),
        ([1, "a"], "text[]"),
        ({"a": 1}, "jsonb"),
    ],
)
def test_types_are_those_of_the_values_in_json(value: Any, kind: str | None) -> None:
    assert parameter_type(value) == kind


@pytest.mark.parametrize(("sql", "parameters"), [("SELECT $1, $2", [1]), ("SELECT 1", [1]), ("SELECT '$1'", [1])])
def test_another_number_of_parameters_is_refused(sql: str, parameters: list[Any]) -> None:
    with pytest.raises(RawQueryError, match="wrong number of parameters"):
        statement(sql, parameters, "asyncpg")


def test_percent_signs_stay_what_they_are_for_psycopg() -> None:
    assert statement("SELECT 7 % $1, 'a%' LIKE $2", [4, "b%"], "psycopg") == (
        "SELECT 7 %% %(p1)s::int8, 'a%%' LIKE %(p2)s::text",
        {"p1": 4, "p2": "b%"},
    )
    assert statement("SELECT 7 % 4", [], "psycopg") == ("SELECT 7 % 4", ())


def test_results_have_what_json_has() -> None:
    assert shaped([{"a": b"\x00\x01", "b": [1.5, None]}]) == [{"a": "AAE=", "b": [1.5, None]}]
