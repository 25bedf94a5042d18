"""UUIDs of version 7."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from litellm_sqlalchemy.ledger.uuid7 import uuid7


@given(st.integers(0, (1 << 48) - 1))
def test_it_is_a_uuid_of_version_7_and_keeps_the_time(milliseconds: int) -> None:
    made = uuid7(milliseconds)
    assert made.version == 7
    assert made.variant == uuid.RFC_4122
    assert made.int >> 80 == milliseconds


@given(st.lists(st.integers(0, (1 << 48) - 1), unique=True))
def test_it_sorts_by_time(times: list[int]) -> None:
    assert sorted(times) == [made.int >> 80 for made in sorted(map(uuid7, times))]


def test_no_two_are_the_same() -> None:
    assert len({uuid7(1) for _ in range(10_000)}) == 10_000


@pytest.mark.parametrize("milliseconds", [-1, 1 << 48])
def test_a_time_that_does_not_fit_is_refused(milliseconds: int) -> None:
    with pytest.raises(OverflowError, match="48 bits"):
        uuid7(milliseconds)
