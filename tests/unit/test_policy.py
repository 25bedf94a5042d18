"""Which policy is about an exchange, and what redactions replace."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from litellm_sqlalchemy.ledger import policy
from litellm_sqlalchemy.ledger.policy import NotRedactedError, Policy, Redaction, Redactor, decide

KEY, OTHER_KEY = "a" * 64, "b" * 64
POLICIES = (
    Policy(capture="none", models=("secret-*", "gpt-?"), keys=(KEY,)),
    Policy(capture="metadata", models=("secret-*",)),
    Policy(capture="full", keys=(OTHER_KEY,)),
    Policy(capture="metadata", keys=(KEY,)),
)


@pytest.mark.parametrize(
    ("model", "key", "capture"),
    [
        ("secret-1", KEY, "none"),
        ("gpt-4", KEY, "none"),
        ("gpt-40", KEY, "metadata"),
        ("secret-1", OTHER_KEY, "metadata"),
        ("secret-1", None, "metadata"),
        ("SECRET-1", None, "full"),
        ("gpt-4", OTHER_KEY, "full"),
        (None, KEY, "metadata"),
        (None, None, "full"),
    ],
)
def test_the_first_policy_that_matches_decides(model: str | None, key: str | None, capture: str) -> None:
    assert decide(POLICIES, model, key) == capture


def test_an_empty_list_matches_nothing_and_a_missing_one_everything() -> None:
    assert decide((Policy(capture="none", models=()),), "m", KEY) == "full"
    assert decide((Policy(capture="none", keys=()),), "m", KEY) == "full"
    assert decide((Policy(capture="none"),), None, None) == "none"


@pytest.mark.parametrize("pattern", ["(a", "a*", "", "|x", "[", "(?<=a)*"])
def test_patterns_that_are_refused(pattern: str) -> None:
    with pytest.raises(ValidationError):
        Redaction(pattern=pattern, replacement="x")


@pytest.mark.parametrize("replacement", ['"', "\\", "a\n", "\0", "x" * 1_001])
def test_replacements_that_are_refused(replacement: str) -> None:
    with pytest.raises(ValidationError):
        Redaction(pattern="a", replacement=replacement)


def test_what_is_found_is_replaced_as_it_is_written() -> None:
    redact = Redactor((Redaction(pattern=r"(\d)\d+", replacement="$1"), Redaction(pattern="b", replacement="")))
    assert redact("a 12 b 345 c") == ("a $1  $1 c", 3)
    assert redact("") == ("", 0)
    assert Redactor()("12") == ("12", 0)


def test_places_without_characters_are_left_alone() -> None:
    assert Redactor((Redaction(pattern=r"\bx*|(?=a)", replacement="!"),))("a bx xx") == ("a bx !", 1)


@given(st.text(), st.text(max_size=10))
def test_no_match_is_left(text: str, replacement: str) -> None:
    redact = Redactor((Redaction(pattern=r"[a-z]+[0-9]", replacement="~"), Redaction(pattern="secret", replacement="")))
    redacted, count = redact(text + "secret" + replacement)
    assert "secret" not in redacted or "secret" in text + replacement or count > 1
    assert count >= 1


@pytest.mark.parametrize(
    "text",
    ['"' + '\\"' * 60_000, "[" + '"\\n",' * 400_000 + "1]"],
    ids=["each quote may begin a string", "many strings, each of which is quick"],
)
def test_escapes_that_take_too_long_are_given_up(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "REDACTION_SECONDS", 0.1)
    redactor = Redactor([Redaction(pattern="[0-9]{16}", replacement="(card)")])
    with pytest.raises(NotRedactedError, match=r"behind its escapes takes longer than 0.1 s"):
        redactor(text)


def test_a_pattern_without_an_end_is_given_up() -> None:
    redact = Redactor((Redaction(pattern="(?:a|a)+b", replacement="x"),))
    began = time.monotonic()
    with pytest.raises(NotRedactedError, match="takes longer than"):
        redact("a" * 60)
    assert time.monotonic() - began < 60


def test_json_within_a_string_is_read_as_well() -> None:
    redact = Redactor((Redaction(pattern=r"[a-z]+@b[.]c", replacement="[mail]"),))
    message = json.dumps({"at_ms": 1.5, "text": json.dumps({"delta": "first\nanna@b.c"})})
    redacted, count = redact(message + "\n")
    assert count == 1
    assert json.loads(json.loads(redacted)["text"]) == {"delta": "first\n[mail]"}
