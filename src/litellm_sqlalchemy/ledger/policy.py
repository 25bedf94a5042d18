"""What of an exchange may reach the database: capture policies, and redactions of texts."""

import fnmatch
import json
import time
from collections.abc import Iterable, Sequence
from typing import Annotated, Literal

import regex
from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints

Capture = Literal["full", "metadata", "none"]
STRICTEST: tuple[Capture, ...] = ("none", "metadata", "full")

REDACTION_SECONDS = 1.0  # for all patterns on one text: a pattern that backtracks without end must not stop the drain
JSON_STRING = regex.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"', regex.DOTALL)
LARGEST_GROWTH = 8 << 20  # characters by which replacements may make one text longer


class Policy(BaseModel):
    """What is stored of the exchanges that it matches; of several policies the first that matches decides.

    Attributes:
        capture: full; metadata: sizes, hashes, tokens and outcome, no bodies; none: nothing at all.
        models: Patterns (fnmatch) of the model that the client asks for; without the list any model matches, and none.
        keys: SHA-256 hashes, in hexadecimal, of the keys that clients present: the token of LiteLLM's key table;
            without the list any key matches, and none.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    capture: Capture
    models: tuple[Annotated[str, StringConstraints(min_length=1)], ...] | None = None
    keys: tuple[Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")], ...] | None = None

    def matches(self, model: str | None, key_hash: str | None) -> bool:
        """Say whether it is about an exchange.

        Args:
            model: That the client asks for.
            key_hash: Of the key that the client presents.
        """
        return (
            self.models is None
            or (model is not None and any(fnmatch.fnmatchcase(model, pattern) for pattern in self.models))
        ) and (self.keys is None or key_hash in self.keys)


def decide(policies: Sequence[Policy], model: str | None, key_hash: str | None) -> Capture:
    """Say what is stored of an exchange; what no policy is about is stored in full.

    Args:
        policies: The first that matches decides.
        model: That the client asks for.
        key_hash: Of the key that the client presents.
    """
    return next((policy.capture for policy in policies if policy.matches(model, key_hash)), "full")


def strictest(policies: Sequence[Policy], models: Iterable[str], key_hash: str | None, *, may_be_any: bool) -> Capture:
    """Say what is stored of an exchange whose model is named in several places, or cannot be read.

    Args:
        policies: As of `decide`, for each of the models.
        models: All that the client may have asked for.
        key_hash: Of the key that the client presents.
        may_be_any: Whether it may have asked for one that is not among these: then any policy about a model counts.
    """
    found = {decide(policies, model, key_hash) for model in models} or {decide(policies, None, key_hash)}
    if may_be_any:
        found |= {
            policy.capture for policy in policies if policy.models and (policy.keys is None or key_hash in policy.keys)
        }
    return min(found, key=STRICTEST.index)


def _pattern(text: str) -> str:
    try:
        found = regex.compile(text).search("", timeout=REDACTION_SECONDS)
    except regex.error as error:
        raise ValueError(f"is not a regular expression: {error}") from None
    if found:
        raise ValueError("matches the empty text, so it would match everywhere: say what must be there at least once")
    return text


class Redaction(BaseModel):
    """Something that texts are not to have when they reach the database.

    Attributes:
        pattern: Regular expression (Python's syntax, as the module `regex` reads it) of what is replaced.
        replacement: What stands there instead, as it is: no part of what was found can be put back, and nothing that
            would break the JSON which it comes into.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    pattern: Annotated[str, StringConstraints(min_length=1), AfterValidator(_pattern)]
    replacement: Annotated[str, StringConstraints(max_length=1_000, pattern=r'^[^"\\\x00-\x1f]*$')]


class NotRedactedError(Exception):
    """A text could not be redacted, so it must not be stored; the message says why."""


class Redactor:
    """Applies redactions: to the strings of JSON as they are without escapes, and to the whole text as it is written.

    Args:
        redactions: In the order in which they are applied.
    """

    def __init__(self, redactions: Sequence[Redaction] = ()) -> None:
        self._redactions = [(regex.compile(redaction.pattern), redaction.replacement) for redaction in redactions]

    def __bool__(self) -> bool:
        """Say whether there are any."""
        return bool(self._redactions)

    def __call__(self, text: str) -> tuple[str, int]:
        """Redact a text.

        Args:
            text: Any.

        Returns:
            The text as it may be stored, and how many pieces of it were replaced.

        Raises:
            NotRedactedError: It takes too long, or makes the text too large.
        """
        give_up = time.monotonic() + REDACTION_SECONDS
        replaced = growth = 0

        def redact(text: str) -> str:
            nonlocal replaced, growth
            for pattern, replacement in self._redactions:

                def replace(found: regex.Match[str], replacement: str = replacement) -> str:
                    nonlocal replaced, growth
                    if found.start() == found.end():  # a place between characters: there is nothing to be replaced
                        return ""
                    replaced += 1
                    growth += len(replacement) - (found.end() - found.start())
                    if growth > LARGEST_GROWTH:
                        raise NotRedactedError(f"replacements make the text longer by more than {LARGEST_GROWTH}")
                    return replacement

                try:
                    text = pattern.sub(replace, text, timeout=max(give_up - time.monotonic(), 0.001))
                except TimeoutError:
                    raise NotRedactedError(
                        f"pattern {pattern.pattern!r} takes longer than {REDACTION_SECONDS} s"
                    ) from None
            return text

        too_long = NotRedactedError(f"to look behind its escapes takes longer than {REDACTION_SECONDS} s")

        def redact_string(found: regex.Match[str]) -> str:
            """Redact a string of JSON; it stays as it is written if there is nothing to be replaced."""
            if time.monotonic() > give_up:
                raise too_long
            written: str = found[0]
            before = replaced
            try:
                redacted = redact_all(json.loads(written)) if "\\" in written else ""
            except ValueError:  # it was no JSON
                return written
            return written if replaced == before else json.dumps(redacted, ensure_ascii=not redacted.isprintable())

        def redact_all(text: str) -> str:
            """Redact a text, what its strings have behind escapes first; JSON within a string has more of them."""
            if "\\" in text:
                try:
                    text = JSON_STRING.sub(redact_string, text, timeout=max(give_up - time.monotonic(), 0.001))
                except TimeoutError:
                    raise too_long from None
            return redact(text)

        return redact_all(text), replaced
