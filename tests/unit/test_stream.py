"""Streamed answers put together: the same as the endpoint answers without streaming."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from litellm_sqlalchemy.ledger.stream import assemble, events
from tests.fix_bodies import OBJECTS, VALUES, sse


def chunk(delta: dict[str, Any], finish: str | None = None, index: int = 0) -> dict[str, Any]:
    return {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [{"index": index, "delta": delta, "finish_reason": finish}],
    }


def test_chat() -> None:
    usage = {"prompt_tokens": 2, "completion_tokens": 2, "total_tokens": 4}
    answer = assemble(
        [
            chunk({"role": "assistant", "content": ""}),
            chunk({"content": "Par"}),
            chunk({"content": "is", "reasoning_content": "Fr"}),
            chunk({"content": None, "reasoning_content": "ance"}),
            chunk({}, "stop"),
            {**chunk({}), "choices": [], "usage": usage},
        ]
    )
    message = {"role": "assistant", "content": "Paris", "reasoning_content": "France"}
    assert answer == {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "usage": usage,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
    }


def test_choices_and_tool_calls_that_come_mixed() -> None:
    def call(index: int, **function: str) -> dict[str, Any]:
        return {"tool_calls": [{"index": index, "function": function}]}

    answer = assemble(
        [
            chunk({"content": "b"}, index=1),
            chunk(
                {
                    "tool_calls": [
                        {"index": 0, "id": "t0", "type": "function", "function": {"name": "f", "arguments": ""}}
                    ]
                }
            ),
            chunk(call(0, arguments='{"a"')),
            chunk(
                {
                    "tool_calls": [
                        {"index": 1, "id": "t1", "type": "function", "function": {"name": "g", "arguments": "{"}}
                    ]
                }
            ),
            chunk(call(0, arguments=":1}")),
            chunk(call(1, arguments="}")),
            chunk({"content": "B"}, "stop", index=1),
            chunk({}, "tool_calls"),
        ]
    )
    assert answer is not None
    first, second = answer["choices"]
    assert [c["function"] for c in first["message"]["tool_calls"]] == [
        {"name": "f", "arguments": '{"a":1}'},
        {"name": "g", "arguments": "{}"},
    ]
    assert first["finish_reason"] == "tool_calls"
    assert second == {"index": 1, "message": {"content": "bB"}, "finish_reason": "stop"}


def test_completions() -> None:
    part = {"id": "c", "object": "text_completion", "model": "m"}
    assert assemble(
        [
            {**part, "choices": [{"index": 0, "text": "Par", "finish_reason": None}]},
            {**part, "choices": [{"index": 0, "text": "is", "finish_reason": "stop"}]},
        ]
    ) == {**part, "choices": [{"index": 0, "text": "Paris", "finish_reason": "stop"}]}


def test_responses() -> None:
    done = {"id": "r", "status": "completed", "output": [{"type": "message"}]}
    assert (
        assemble(
            [
                {"type": "response.created", "response": {"id": "r", "status": "in_progress"}},
                {"type": "response.output_text.delta", "delta": "Paris"},
                {"type": "response.completed", "response": done},
            ]
        )
        == done
    )
    # Broken off: the last that is known of it.
    assert assemble([{"type": "response.created", "response": {"id": "r"}}]) == {"id": "r"}
    said = [{"type": "response.output_text.delta", "delta": piece} for piece in ("Par", "is")]
    assert assemble(said) == {"output_text": "Paris"}
    created = {"type": "response.created", "response": {"id": "r"}}
    assert assemble([created, *said]) == {"id": "r", "output_text": "Paris"}
    assert assemble([{"type": "response.created"}]) is None


def test_messages() -> None:
    def block(index: int, kind: str, **fields: Any) -> dict[str, Any]:
        return {"type": f"content_block_{kind}", "index": index, **fields}

    stream = [
        {
            "type": "message_start",
            "message": {"id": "m", "role": "assistant", "content": [], "usage": {"input_tokens": 3}},
        },
        block(0, "start", content_block={"type": "text", "text": ""}),
        {"type": "ping"},
        block(0, "delta", delta={"type": "text_delta", "text": "Par"}),
        block(0, "delta", delta={"type": "text_delta", "text": "is"}),
        block(0, "stop"),
        block(1, "start", content_block={"type": "tool_use", "id": "t", "name": "f", "input": {}}),
        block(1, "delta", delta={"type": "input_json_delta", "partial_json": '{"a"'}),
        block(1, "delta", delta={"type": "input_json_delta", "partial_json": ": 1}"}),
        block(1, "stop"),
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 5}},
        {"type": "message_stop"},
    ]
    tool = {"type": "tool_use", "id": "t", "name": "f"}
    assert assemble(stream) == {
        "id": "m",
        "role": "assistant",
        "content": [{"type": "text", "text": "Paris"}, {**tool, "input": {"a": 1}}],
        "usage": {"input_tokens": 3, "output_tokens": 5},
        "stop_reason": "tool_use",
    }
    broken_off = assemble(stream[:8])
    assert broken_off is not None
    assert broken_off["content"][1] == {**tool, "input": {}, "partial_json": '{"a"'}


def test_generated_content() -> None:
    def part(text: str, **fields: Any) -> dict[str, Any]:
        return {
            "candidates": [{"content": {"role": "model", "parts": [{"text": text}]}, **fields}],
            "modelVersion": "g",
        }

    assert assemble([part("Par"), {**part("is", finishReason="STOP"), "usageMetadata": {"totalTokenCount": 4}}]) == {
        "candidates": [
            {"content": {"role": "model", "parts": [{"text": "Par"}, {"text": "is"}]}, "finishReason": "STOP"}
        ],
        "modelVersion": "g",
        "usageMetadata": {"totalTokenCount": 4},
    }


def test_what_is_not_known_is_left_out() -> None:
    assert assemble([]) is None
    assert assemble([{"anything": 1}]) is None
    assert assemble([{"error": {"message": "no"}}]) is None


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_events(end: str) -> None:
    lines = ["event: x", 'data: {"a": 1}', "", ": comment", 'data:{"b":', "data: 2}", "id: 7", "", "data: [DONE]", ""]
    assert list(events(end.join([*lines, 'data: {"c": 3}']))) == [{"a": 1}, {"b": 2}, {"c": 3}]


@given(st.lists(OBJECTS, max_size=6))
@example([{"type": "response.completed"}, {"type": []}])
def test_any_stream_is_put_together_without_harm(stream: list[dict[str, Any]]) -> None:
    before = json.dumps(stream)
    assemble(stream)
    assert json.dumps(stream) == before


@given(st.lists(st.dictionaries(st.text(), VALUES), max_size=6))
@example([{"least": -(1 << 63) - 1, "most": 1 << 64}])
def test_every_object_of_a_stream_is_read(stream: list[dict[str, Any]]) -> None:
    assert json.dumps(list(events(sse(*stream).decode()))) == json.dumps(stream)


@given(st.lists(st.text(), min_size=1))
def test_text_is_the_same_however_it_was_cut(pieces: list[str]) -> None:
    answer = assemble([chunk({"content": piece}) for piece in pieces])
    assert answer is not None
    assert answer["choices"][0]["message"]["content"] == "".join(pieces)


def test_many_pieces() -> None:
    answer = assemble([chunk({"content": "x"}) for _ in range(50_000)])
    assert answer is not None
    assert answer["choices"][0]["message"]["content"] == "x" * 50_000
