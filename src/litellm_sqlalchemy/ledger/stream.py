"""Streamed answers put together into the shape of answers that are not streamed.

Pure functions over what anybody may have sent: what is not understood is left out, nothing is raised.
"""

import contextlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import orjson

Json = Any
Fields = dict[str, Json]

MANY_DIGITS = re.compile(r"[0-9]{19}")  # of an integer that orjson may read as a float


def events(text: str) -> Iterator[Fields]:
    """Read the JSON objects of a stream of server-sent events (WHATWG HTML, section 9.2).

    Args:
        text: The whole body.
    """
    data: list[str] = []
    for line in [*text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), ""]:
        if line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
        elif not line and data:
            event = _load("\n".join(data))
            data = []
            if isinstance(event, dict):
                yield event


def _load(text: str) -> Json:
    if text == "[DONE]":
        return None
    with contextlib.suppress(orjson.JSONDecodeError):
        if not MANY_DIGITS.search(text):
            return orjson.loads(text)
    try:  # half a surrogate pair, the other half of which is in the next event
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def assemble(stream: Sequence[Fields]) -> Fields | None:
    """Put an answer together.

    Args:
        stream: The events' objects, in order.

    Returns:
        The answer as the endpoint gives it without streaming; None if the kind of stream is not known.
    """
    for event in stream:
        for is_kind, put_together in _KINDS:
            if is_kind(event):
                try:
                    return put_together(stream)
                except RecursionError:  # nested deeper than anybody reads
                    return None
    return None


def _fields(value: Json) -> Fields:
    return value if isinstance(value, dict) else {}


def _items(value: Json) -> list[Fields]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _number(value: Json) -> int:
    return value if isinstance(value, int) else 0


class _Text:
    """A text that is still growing: thousands of pieces, joined once at the end."""

    def __init__(self, *pieces: str) -> None:
        self.pieces = list(pieces)


class _Calls(list[Fields]):
    """Tool calls that are still growing, thousands perhaps: found by their index."""

    def __init__(self) -> None:
        super().__init__()
        self._by_index: dict[str, Fields] = {}

    def of(self, part: Fields) -> Fields:
        """Give the call that a part belongs to."""
        index = repr(part.get("index"))
        if index not in self._by_index:
            self._by_index[index] = {}
            self.append(self._by_index[index])
        return self._by_index[index]


def _joined(value: Json) -> Json:
    """Give a value with its texts as they are in the end."""
    if isinstance(value, _Text):
        return "".join(value.pieces)
    if isinstance(value, dict):
        return {name: _joined(inner) for name, inner in value.items()}
    return [_joined(inner) for inner in value] if isinstance(value, list) else value


def _merge(into: Fields, delta: Fields) -> None:
    """Add a delta to what is there: text and lists are appended, objects and tool calls merged, the rest replaces."""
    for name, value in delta.items():
        there = into.get(name)
        if value is None:
            into.setdefault(name, None)
        elif name in _APPENDED and isinstance(value, str):
            if isinstance(there, _Text):
                there.pieces.append(value)
            else:
                into[name] = _Text(value)
        elif isinstance(value, dict):
            into[name] = there if isinstance(there, dict) else {}
            _merge(into[name], value)
        elif name == "tool_calls" and isinstance(value, list):
            into[name] = calls = there if isinstance(there, _Calls) else _Calls()
            for part in _items(value):
                _merge(calls.of(part), part)
        elif isinstance(value, list):
            into[name] = there if isinstance(there, list) else []
            into[name].extend(value)
        else:
            into[name] = value


_APPENDED = frozenset(
    {
        *("content", "text", "refusal", "reasoning_content", "reasoning", "arguments", "thinking", "partial_json"),
        "transcript",
    }
)


def _chat_or_text(stream: Sequence[Fields]) -> Fields:
    """OpenAI's chat completions (`delta` becomes `message`) and completions (`text`)."""
    answer: Fields = {}
    choices: dict[int, Fields] = {}
    for event in stream:
        if "choices" not in event:
            continue
        answer.update({n: v for n, v in event.items() if n != "choices" and (v is not None or n not in answer)})
        for part in _items(event["choices"]):
            choice = choices.setdefault(_number(part.get("index")), {})
            renamed = {("message" if name == "delta" else name): value for name, value in part.items()}
            _merge(choice, renamed)
    if answer.get("object") == "chat.completion.chunk":
        answer["object"] = "chat.completion"
    answer["choices"] = [_joined(choices[index]) for index in sorted(choices)]
    return answer


_RESPONSE_ENDS = ("response.completed", "response.failed", "response.incomplete")  # no set: of what comes, any type


def _responses(stream: Sequence[Fields]) -> Fields | None:
    """OpenAI's responses: the last event that has the response has all of it."""
    found = [event["response"] for event in stream if isinstance(event.get("response"), dict)]
    if not stream or stream[-1].get("type") in _RESPONSE_ENDS:
        return found[-1] if found else None
    said = "".join(event["delta"] for event in stream if isinstance(event.get("delta"), str))
    # Broken off: as far as it came.
    return {**(found[-1] if found else {}), **({"output_text": said} if said else {})} or None


def _messages(stream: Sequence[Fields]) -> Fields:
    """Anthropic's messages."""
    answer: Fields = {}
    blocks: dict[int, Fields] = {}
    for event in stream:
        kind = event.get("type")
        if kind == "message_start":
            answer.update(_fields(event.get("message")))
        elif kind == "content_block_start":
            _merge(blocks.setdefault(_number(event.get("index")), {}), _fields(event.get("content_block")))
        elif kind == "content_block_delta":
            delta = {name: value for name, value in _fields(event.get("delta")).items() if name != "type"}
            _merge(blocks.setdefault(_number(event.get("index")), {}), delta)
        elif kind == "message_delta":
            answer.update(_fields(event.get("delta")))
            answer["usage"] = {**_fields(answer.get("usage")), **_fields(event.get("usage"))}
    answer["content"] = [_joined(blocks[index]) for index in sorted(blocks)]
    for block in answer["content"]:
        with contextlib.suppress(TypeError, ValueError, RecursionError):  # broken off: the pieces stay as they are
            if "partial_json" in block:  # a tool's input
                block["input"] = json.loads(block["partial_json"])
                del block["partial_json"]
    return answer


def _generated(stream: Sequence[Fields]) -> Fields:
    """Google's generateContent: the parts of each candidate, in order."""
    answer: Fields = {}
    candidates: dict[int, Fields] = {}
    for event in stream:
        answer.update(event)
        for part in _items(event.get("candidates")):
            candidate = candidates.setdefault(_number(part.get("index")), {"content": {"parts": []}})
            content = candidate["content"]
            content["parts"].extend(_items(_fields(part.get("content")).get("parts")))
            content.update({n: v for n, v in _fields(part.get("content")).items() if n != "parts"})
            candidate.update({n: v for n, v in part.items() if n != "content"})
    answer["candidates"] = [candidates[index] for index in sorted(candidates)]
    return answer


_KINDS: tuple[tuple[Callable[[Fields], bool], Callable[[Sequence[Fields]], Fields | None]], ...] = (
    (lambda event: isinstance(event.get("choices"), list), _chat_or_text),
    (lambda event: str(event.get("type")).startswith("response."), _responses),
    (lambda event: event.get("type") == "message_start", _messages),
    (lambda event: isinstance(event.get("candidates"), list), _generated),
)
