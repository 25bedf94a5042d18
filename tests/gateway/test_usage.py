"""What only LiteLLM's success events tell: tokens and cost, of streams too."""

import contextlib
import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import httpx
import pytest

from litellm_sqlalchemy.ledger.drain import Drain
from litellm_sqlalchemy.ledger.identity import Identity, current
from litellm_sqlalchemy.ledger.spool import Record, Spool
from litellm_sqlalchemy.ledger.usage import UsageHook, facts_of
from tests.fix_postgres import Database
from tests.fix_server import wait_for
from tests.gateway.fix_litellm import LiteLLM

QUESTION = [{"role": "user", "content": "Hi"}]


class Usages:
    """Drains, and finds the usages of an answer."""

    def __init__(self, drain: Drain, database: Database) -> None:
        self._drain = drain
        self._database = database

    def of(self, answer: httpx.Response) -> dict[str, Any]:
        """Give the one usage of an exchange, when it is there, with the columns of its response."""
        assert answer.status_code == 200
        assert answer.read()
        found: list[dict[str, Any]] = []

        def is_there() -> bool:
            while self._drain.run_once():
                pass
            rows = self._database.rows(
                "SELECT r.stream, a.call_id AS answer_call_id, a.cost AS answer_cost, u.* FROM usages u "
                "JOIN responses a USING (received_at, id) JOIN requests r USING (received_at, id)"
            )
            found[:] = [row for row in rows if row["answer_call_id"] == answer.headers["x-litellm-call-id"]]
            return bool(found)

        wait_for(is_there, "a usage")
        (row,) = found
        return row


@pytest.fixture
def usages(litellm: LiteLLM, ledger_database: Database) -> Iterator[Usages]:
    engine = ledger_database.engine()
    with contextlib.closing(Spool(litellm.spool)) as spool:
        yield Usages(Drain(spool, engine, batch_records=500, batch_bytes=1 << 24), ledger_database)
    engine.dispose()


@pytest.mark.parametrize("stream", [False, True])
def test_chat(litellm: LiteLLM, usages: Usages, stream: bool) -> None:
    question: dict[str, Any] = {"model": "talks", "messages": QUESTION, "user": "anna"}
    if stream:  # older releases count the tokens of a stream themselves, unless the upstream is to tell them
        question |= {"stream": True, "stream_options": {"include_usage": True}}
    row = usages.of(litellm.post("/v1/chat/completions", question))
    assert (row["stream"], row["model_group"], row["provider"]) == (stream, "talks", "openai")
    assert (row["prompt_tokens"], row["completion_tokens"], row["total_tokens"]) == (5, 2, 7)
    assert row["cost"] == Decimal("0.025")
    assert row["answer_cost"] == (None if stream else row["cost"])  # the answer of a stream does not say
    assert row["call_type"] == "acompletion"
    assert row["end_user"] == "anna"
    assert row["user_id"] == "default_user_id"  # the master key's


def test_streamed_messages(litellm: LiteLLM, usages: Usages) -> None:
    question = {"model": "talks", "max_tokens": 9, "stream": True, "messages": QUESTION}
    row = usages.of(litellm.post("/v1/messages", question))
    assert (row["prompt_tokens"], row["completion_tokens"], row["cost"]) == (5, 2, Decimal("0.025"))


@pytest.mark.parametrize("stream", [False, True])
def test_responses(litellm: LiteLLM, usages: Usages, stream: bool) -> None:
    row = usages.of(litellm.post("/v1/responses", {"model": "talks", "input": "Hi", "stream": stream}))
    assert (row["stream"], row["total_tokens"], row["cost"]) == (stream, 7, Decimal("0.025"))


def test_embeddings(litellm: LiteLLM, usages: Usages) -> None:
    row = usages.of(litellm.post("/v1/embeddings", {"model": "embeds", "input": "Hi"}))
    assert (row["prompt_tokens"], row["model_group"]) == (3, "embeds")


def test_a_path_that_is_passed_on(litellm: LiteLLM, usages: Usages) -> None:
    row = usages.of(litellm.post("/passed-on/anything", {"model": "m"}))
    assert row["call_type"] == "pass_through_endpoint"


# --- the hook by itself -----------------------------------------------------------------------------------------


class Kept:
    """As much of a ledger as the hook needs."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    def append_later(self, record: Record) -> None:
        if self.records:
            raise RuntimeError("no more room")
        self.records.append(record)


async def test_an_event_without_an_exchange_is_left_out() -> None:
    kept: Any = Kept()
    await UsageHook(kept).async_log_success_event({"standard_logging_object": {"call_type": "x"}}, None, None, None)
    assert kept.records == []


async def test_a_failure_is_only_told_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    kept: Any = Kept()
    hook, identity = UsageHook(kept), Identity.new()
    token = current.set(identity)
    try:
        for payload in ({"call_type": "x"}, {"call_type": "x"}, {"metadata": "no object"}, None):
            await hook.async_log_success_event({"standard_logging_object": payload}, None, None, None)
    finally:
        current.reset(token)
    (record,) = kept.records
    assert (record.kind, record.exchange, record.received_at) == ("usage", identity.id, identity.received_at)
    assert json.loads(record.facts)["call_type"] == "x"
    assert caplog.text.count("action=usage_not_recorded") == 2


def test_an_empty_object_has_no_facts_and_a_key_is_none() -> None:
    assert set(facts_of({}).values()) == {None}
    assert facts_of({"end_user": "sk-1234"})["end_user"] == "REDACTED"
