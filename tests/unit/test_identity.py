"""What an exchange's records say is what they were given."""

import json

from hypothesis import given
from hypothesis import strategies as st

from litellm_sqlalchemy.ledger.identity import Identity

TEXTS = st.text(st.characters(codec=None))  # half surrogate pairs too, as JSON from anybody may have them
VALUES = TEXTS | st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 63) - 1)


@given(facts=st.dictionaries(TEXTS, VALUES | st.dictionaries(TEXTS, VALUES)))
def test_any_facts(facts: dict[str, object]) -> None:
    record = Identity.new().record("usage", facts, None)
    assert json.loads(record.facts) == facts
    record.facts.encode()
