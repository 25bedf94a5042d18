"""Bodies that somebody may send, as hypothesis makes them."""

import json

from hypothesis import strategies as st

NAMES = st.sampled_from(
    [
        *("choices", "delta", "message", "index", "content", "tool_calls", "function", "arguments", "usage", "model"),
        *("object", "type", "error", "detail", "response", "content_block", "partial_json", "text", "candidates"),
        *("parts", "user", "metadata", "user_id", "stream", "usageMetadata", "prompt_tokens", "total_tokens"),
    ]
)
KINDS = st.sampled_from(
    [
        *("message_start", "content_block_start", "content_block_delta", "message_delta", "chat.completion.chunk"),
        *("response.completed", "response.failed", "text_completion"),
    ]
)
# Half surrogate pairs and NUL are what JSON may have and PostgreSQL may not.
STRINGS = st.text(st.characters(codec=None), max_size=8) | KINDS | st.sampled_from(["\0", "\ud800", "\\u0000"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | STRINGS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES | STRINGS, inner, max_size=6),
    max_leaves=25,
)
OBJECTS = st.dictionaries(NAMES, VALUES, max_size=8)


def sse(*events: object) -> bytes:
    """A stream of server-sent events, as OpenAI ends it."""
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events) + b"data: [DONE]\n\n"


BODIES = st.one_of(
    st.binary(),
    st.text().map(str.encode),
    VALUES.map(lambda value: json.dumps(value).encode()),
    VALUES.map(lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")),
    st.lists(OBJECTS | VALUES, max_size=5).map(lambda events: sse(*events)),
)
