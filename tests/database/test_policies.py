"""What policies and redactions keep out of the database, what LiteLLM says of exchanges, and what is tried again."""

import hashlib
import json
import logging
import random
import string
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from litellm_sqlalchemy.ledger import policy as policy_module
from litellm_sqlalchemy.ledger.drain import Drain
from litellm_sqlalchemy.ledger.policy import Policy, Redaction, Redactor
from litellm_sqlalchemy.ledger.rows import RowMaker
from litellm_sqlalchemy.ledger.spool import Spool
from tests.fix_bodies import sse
from tests.fix_postgres import Database
from tests.fix_records import REQUEST, USAGE, new_id, pair, part, rejected

SECRET = "Überraschung@example.com"
MAIL = Redaction(pattern=r"[\w.]+@[\w.]+\w", replacement="[mail]")


@pytest.fixture
def spool(tmp_path: Path, opened: Callable[[Path], Spool]) -> Spool:
    return opened(tmp_path / "spool" / "spool.sqlite3")


@pytest.fixture
def new_drain(spool: Spool, ledger_database: Database) -> Iterator[Callable[..., Drain]]:
    engines = []

    def make(*policies: Policy, redactions: tuple[Redaction, ...] = ()) -> Drain:
        engines.append(ledger_database.engine())
        rows = RowMaker(policies, Redactor(redactions))
        return Drain(spool, engines[-1], batch_records=500, batch_bytes=1 << 24, rows=rows)

    yield make
    for engine in engines:
        engine.dispose()


def everything(database: Database) -> str:
    """All that is stored, as text."""
    return str(
        [database.rows(f"SELECT t::text FROM {table} t") for table in ("requests", "responses", "usages")]  # noqa: S608
    )


def asked(model: str) -> bytes:
    return json.dumps({"model": model, "messages": [{"content": SECRET}]}).encode()


ANSWER = json.dumps({"choices": [SECRET], "usage": {"prompt_tokens": 3, "completion_tokens": 4}}).encode()


def test_metadata_is_all_but_the_words(
    new_drain: Callable[..., Drain], spool: Spool, ledger_database: Database
) -> None:
    failed = json.dumps({"error": {"message": f"no such {SECRET}"}}).encode()
    spool.append(pair(new_id(), asked("secret-1"), ANSWER))
    exchange = new_id()
    spool.append([part("request", exchange, asked("secret-1")), part("response", exchange, failed, status=400)])
    new_drain(Policy(capture="metadata", models=("secret-*",))).run_once()
    assert "berraschung" not in everything(ledger_database)
    assert ledger_database.rows(
        "SELECT DISTINCT model, capture, body_size, encode(body_sha256, 'hex') AS hash, redactions FROM requests"
    ) == [
        {
            "model": "secret-1",
            "capture": "metadata",
            "body_size": len(asked("secret-1")),
            "hash": hashlib.sha256(asked("secret-1")).hexdigest(),
            "redactions": 0,
        }
    ]
    rows = ledger_database.rows(
        "SELECT outcome, total_tokens, error, capture, encode(body_sha256, 'hex') FROM responses ORDER BY outcome"
    )
    assert [tuple(row.values()) for row in rows] == [
        ("completed", 7, None, "metadata", hashlib.sha256(ANSWER).hexdigest()),
        ("error", None, None, "metadata", hashlib.sha256(failed).hexdigest()),
    ]


def test_of_none_nothing_is_stored(new_drain: Callable[..., Drain], spool: Spool, ledger_database: Database) -> None:
    hidden, shown, late = new_id(), new_id(), new_id()
    key = REQUEST["key_hash"]
    drain = new_drain(Policy(capture="full", models=("shown",)), Policy(capture="none", keys=(key,)))
    for exchange, model in ((hidden, "gpt"), (shown, "shown")):
        spool.append([*pair(exchange, asked(model), ANSWER), part("usage", exchange)])
    spool.append([part("request", late, asked("gpt"))])
    drain.run_once()
    spool.append([part("response", late, ANSWER)])
    drain.run_once()
    spool.append([part("usage", hidden), part("usage", late)])  # after everything
    drain.run_once()
    assert spool.status().records == spool.status().rejected == 0
    for table in ("requests", "responses", "usages"):
        assert ledger_database.rows(f"SELECT id FROM {table}") == [{"id": shown}]  # noqa: S608
    assert spool.open_exchanges() == {}


def test_the_decision_is_the_one_at_the_request(
    new_drain: Callable[..., Drain], spool: Spool, ledger_database: Database
) -> None:
    first, second = new_id(), new_id()
    spool.append([part("request", first, asked("gpt"))])
    new_drain(Policy(capture="metadata")).run_once()
    spool.append([part("request", second, asked("gpt"))])
    new_drain().run_once()
    spool.append([part("response", exchange, ANSWER) for exchange in (first, second)])
    new_drain(Policy(capture="none")).run_once()
    rows = ledger_database.rows("SELECT id, capture, body_text IS NOT NULL AS kept FROM responses")
    assert {row["id"]: (row["capture"], row["kept"]) for row in rows} == {
        first: ("metadata", False),
        second: ("full", True),
    }


def test_what_the_gateway_kept_no_body_of_has_no_hash(
    new_drain: Callable[..., Drain], spool: Spool, ledger_database: Database
) -> None:
    exchange = new_id()
    spool.append([part("request", exchange), part("response", exchange)])
    new_drain().run_once()
    for table in ("requests", "responses"):
        assert ledger_database.rows(f"SELECT capture, body_sha256 FROM {table}") == [  # noqa: S608
            {"capture": "metadata", "body_sha256": None}
        ]


def test_a_websocket_s_model_is_the_one_of_its_address(
    new_drain: Callable[..., Drain], spool: Spool, ledger_database: Database
) -> None:
    lines = b'{"at_ms": 1.5, "text": "{}"}\n{"at_ms": 2.5, "bytes": "AA=="}\n'
    for model in ("secret", "shown"):
        exchange = new_id()
        spool.append(
            [
                part("request", exchange, lines, scheme="websocket", method="WEBSOCKET", model=model),
                part("response", exchange, lines, status=101),
            ]
        )
    new_drain(Policy(capture="none", models=("secret",))).run_once()
    assert ledger_database.rows(
        "SELECT r.model, method, r.body_text, status, outcome FROM requests r JOIN responses s USING (received_at, id)"
    ) == [{"model": "shown", "method": "WEBSOCKET", "body_text": lines.decode(), "status": 101, "outcome": "completed"}]


FORM = {"content-type": "application/x-www-form-urlencoded"}
MULTIPART = {"content-type": "multipart/form-data; boundary=b"}


@pytest.mark.parametrize(
    ("body", "facts"),
    [
        (b'{"model": "secret", "metadata": {"a": NaN}, "messages": "Ueberraschung"}', {}),
        (b"model=secret&prompt=Ueberraschung", {"headers": FORM}),
        (b"prompt=Ueberraschung&%6dodel=sec%72et", {"headers": FORM}),
        (
            b'--b\r\nContent-Disposition: form-data; name="model"; x=y\r\n\r\nsecret\r\n--b\r\n'
            b'Content-Disposition: form-data; name="prompt"\r\n\r\nUeberraschung\r\n--b--\r\n',
            {"headers": MULTIPART},
        ),
        (b'{"model": "other", "messages": "Ueberraschung"}', {"model": "secret"}),  # of the query
        (b'{"model": "other", "messages": "Ueberraschung"}', {"path": "/engines/secret/chat/completions"}),
        (b'{"model": "secret", "messages": "Ueberraschung"', {}),  # cannot be read: it may be any
    ],
    ids=["NaN", "form", "escaped form", "multipart", "query", "path", "no JSON"],
)
def test_no_way_of_naming_the_model_evades_a_policy(
    new_drain: Callable[..., Drain], spool: Spool, ledger_database: Database, body: bytes, facts: dict[str, Any]
) -> None:
    spool.append([part("request", exchange := new_id(), body, **facts), part("response", exchange, ANSWER)])
    spool.append(pair(shown := new_id(), asked("other"), ANSWER))
    new_drain(Policy(capture="none", models=("secret",))).run_once()
    assert ledger_database.rows("SELECT id FROM requests") == [{"id": shown}]
    assert spool.status().rejected == 0


def test_an_end_user_s_name_may_be_of_any_length(
    new_drain: Callable[..., Drain], spool: Spool, ledger_database: Database
) -> None:
    name = "".join(random.Random(1).choices(string.ascii_letters, k=8_000))  # as none can be compressed
    exchange = new_id()
    spool.append([*pair(exchange, json.dumps({"user": name}).encode(), ANSWER), part("usage", exchange, end_user=name)])
    new_drain().run_once()
    assert spool.status().rejected == 0
    assert ledger_database.rows("SELECT end_user FROM requests") == [{"end_user": name[:256]}]
    removed = ledger_database.cluster.execute(
        "SELECT * FROM forget_end_user(%(name)s)", ledger_database.name, {"name": name[:256]}
    )
    assert removed == [("requests", 1), ("responses", 1), ("usages", 1)]


def test_a_request_that_came_twice_is_open_no_longer(new_drain: Callable[..., Drain], spool: Spool) -> None:
    """As its worker sends it again when the process that writes the spool dies."""
    drain, exchange = new_drain(), new_id()
    spool.append([part("request", exchange, asked("gpt"))])
    drain.run_once()
    spool.append(pair(exchange, asked("gpt"), ANSWER))
    drain.run_once()
    assert spool.open_exchanges() == {}


# --- redactions -------------------------------------------------------------------------------------------------


def stored(database: Database, table: str) -> dict[str, Any]:
    (row,) = database.rows(
        f"SELECT body, body_text, body_bytes, redactions, capture, body_sha256 FROM {table}"  # noqa: S608
    )
    return row


@pytest.mark.parametrize(
    ("body", "text", "count"),
    [
        (f'{{"a": "{SECRET}", "n": 1.10}}', '{"a": "[mail]", "n": 1.10}', 1),
        ('{"a": "\\u00dcberraschung\\u0040example.com", "b": "x@y.z"}', '{"a": "[mail]", "b": "[mail]"}', 2),
        ('{"a": "see\\nAb.c@example.com", "b": "\\/\\n"}', '{"a": "see\\n[mail]", "b": "\\/\\n"}', 1),
        (f"not json: {SECRET}, {SECRET}", "not json: [mail], [mail]", 2),
        ('{"a": "nothing"}', '{"a": "nothing"}', 0),
    ],
)
def test_a_request_is_redacted(
    new_drain: Callable[..., Drain], spool: Spool, ledger_database: Database, body: str, text: str, count: int
) -> None:
    spool.append([part("request", new_id(), body.encode())])
    new_drain(redactions=(MAIL,)).run_once()
    row = stored(ledger_database, "requests")
    assert (row["body_text"], row["redactions"], row["capture"]) == (text, count, "full")
    assert bytes(row["body_sha256"]) == hashlib.sha256(body.encode()).digest()
    assert row["body"] == (json.loads(text) if text.startswith("{") else None)


def test_a_body_that_is_no_json_any_more_has_no_jsonb(
    new_drain: Callable[..., Drain], spool: Spool, ledger_database: Database
) -> None:
    spool.append([part("request", new_id(), b'{"number": 12345678}')])
    new_drain(redactions=(Redaction(pattern=r"\d{8}", replacement="<n>"),)).run_once()
    row = stored(ledger_database, "requests")
    assert (row["body"], row["body_text"], row["redactions"]) == (None, '{"number": <n>}', 1)


def test_users_queries_and_errors_are_redacted_too(
    new_drain: Callable[..., Drain], spool: Spool, ledger_database: Database
) -> None:
    exchange = new_id()
    failed = json.dumps({"error": {"message": f"no such {SECRET}"}}).encode()
    headers = {"x-litellm-end-user-id": "anna@example.com"}
    spool.append(
        [
            part("request", exchange, b"{}", query="to=a@b.cd", headers=headers),
            part("response", exchange, failed, status=500),
            part("usage", exchange, end_user="anna@example.com"),
        ]
    )
    new_drain(redactions=(MAIL,)).run_once()
    assert ledger_database.rows("SELECT query, end_user, redactions FROM requests") == [
        {"query": "to=[mail]", "end_user": "[mail]", "redactions": 1}
    ]
    assert ledger_database.rows("SELECT error FROM responses") == [{"error": "no such [mail]"}]
    assert "@" not in everything(ledger_database)


def test_a_stream_is_redacted_also_where_it_comes_in_pieces(
    new_drain: Callable[..., Drain], spool: Spool, ledger_database: Database
) -> None:
    exchange = new_id()
    pieces = ("write to Über", "raschung@exam", "ple.com now")
    stream = sse(*({"object": "chat.completion.chunk", "choices": [{"delta": {"content": c}}]} for c in pieces))
    facts = {"headers": {"content-type": "text/event-stream"}}
    spool.append([part("request", exchange), part("response", exchange, stream, **facts)])
    new_drain(redactions=(MAIL,)).run_once()
    row = stored(ledger_database, "responses")
    assert row["body"]["choices"][0]["message"]["content"] == "write to [mail] now"
    assert row["body_text"] is None
    assert row["body_bytes"] is None
    assert row["redactions"] >= 1
    assert "raschung" not in everything(ledger_database)


NUL_STREAM = sse(
    *({"choices": [{"index": 0, "delta": {"content": c}}]} for c in ("anna.smi", "th@exa", "mple.org", "\0"))
)


def put_redacted_stream(new_drain: Callable[..., Drain], spool: Spool, events: bytes, redaction: Redaction) -> None:
    exchange = new_id()
    answer = part("response", exchange, events, headers={"content-type": "text/event-stream"})
    spool.append([part("request", exchange, b"{}"), answer])
    new_drain(redactions=(redaction,)).run_once()


def test_a_stream_with_what_jsonb_does_not_take_is_kept_as_it_came(
    new_drain: Callable[..., Drain], spool: Spool, ledger_database: Database
) -> None:
    put_redacted_stream(new_drain, spool, NUL_STREAM, Redaction(pattern="nobody", replacement="x"))
    row = stored(ledger_database, "responses")
    assert (row["capture"], row["body"], row["redactions"]) == ("full", None, 0)
    assert row["body_text"].encode() == NUL_STREAM


def test_a_stream_with_what_jsonb_does_not_take_is_redacted(
    new_drain: Callable[..., Drain], spool: Spool, ledger_database: Database
) -> None:
    put_redacted_stream(new_drain, spool, NUL_STREAM, MAIL)
    row = stored(ledger_database, "responses")
    assert (row["capture"], row["body"], row["redactions"]) == ("full", None, 1)
    assert json.loads(row["body_text"])["choices"][0]["message"]["content"] == "[mail]\0"
    assert "smi" not in everything(ledger_database)


def test_a_stream_that_cannot_be_put_together_is_left_out(
    new_drain: Callable[..., Drain], spool: Spool, ledger_database: Database
) -> None:
    put_redacted_stream(new_drain, spool, sse({"unknown": "anna.smi"}, {"unknown": "th@example.org"}), MAIL)
    row = stored(ledger_database, "responses")
    assert (row["capture"], row["body"], row["body_text"], row["body_bytes"]) == ("metadata", None, None, None)


def test_what_is_no_text_is_left_alone(
    new_drain: Callable[..., Drain], spool: Spool, ledger_database: Database
) -> None:
    body = b"\xff\0a@b.cd"
    spool.append([part("request", new_id(), body)])
    new_drain(redactions=(MAIL,)).run_once()
    row = stored(ledger_database, "requests")
    assert (bytes(row["body_bytes"]), row["redactions"]) == (body, 0)


@pytest.mark.parametrize(
    ("redaction", "reason"),
    [
        (Redaction(pattern="(?:a|a)+b", replacement="x"), "takes longer than 0.05 s"),
        (Redaction(pattern="a", replacement="x" * 1_000), "replacements make the text longer by more than 1000"),
    ],
)
def test_a_body_that_cannot_be_redacted_is_left_out(
    new_drain: Callable[..., Drain],
    spool: Spool,
    ledger_database: Database,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    redaction: Redaction,
    reason: str,
) -> None:
    monkeypatch.setattr(policy_module, "REDACTION_SECONDS", 0.05)
    monkeypatch.setattr(policy_module, "LARGEST_GROWTH", 1_000)
    exchange = new_id()
    body = json.dumps({"model": "gpt", "text": "a" * 40}).encode()
    spool.append([*pair(exchange, body, body), *pair(new_id(), b"1", b"2")])
    with caplog.at_level(logging.WARNING):
        new_drain(redactions=(redaction,)).run_once()
    for table in ("requests", "responses"):
        rows = ledger_database.rows(
            f"SELECT capture, model, body_text, body, redactions FROM {table} ORDER BY capture DESC"  # noqa: S608
        )
        assert [tuple(row.values()) for row in rows] == [
            ("metadata", "gpt", None, None, 0),
            ("full", None, *rest(table)),
        ]
    assert caplog.text.count("action=body_left_out") == 2
    assert reason in caplog.text


def rest(table: str) -> tuple[str, int, int]:
    return ("1", 1, 0) if table == "requests" else ("2", 2, 0)


# --- usages -----------------------------------------------------------------------------------------------------


def test_the_first_usage_of_an_exchange_is_stored(
    new_drain: Callable[..., Drain], spool: Spool, ledger_database: Database
) -> None:
    exchange = new_id()
    spool.append([*pair(exchange), part("usage", exchange), part("usage", exchange, model="second")])
    drain = new_drain()
    drain.run_once()
    spool.append([part("usage", exchange, model="third")])
    drain.run_once()
    (row,) = ledger_database.rows("SELECT * FROM usages")
    del row["received_at"]
    assert {**row, "cost": float(row["cost"])} == {"id": exchange, **USAGE}  # type: ignore[arg-type]


def test_a_usage_may_say_nothing(new_drain: Callable[..., Drain], spool: Spool, ledger_database: Database) -> None:
    exchange = new_id()
    nothing = dict.fromkeys(("call_type", "cost", "cache_hit", "total_tokens", "end_user", "model", "provider"))
    spool.append([*pair(exchange), part("usage", exchange, **nothing)])
    new_drain().run_once()
    assert ledger_database.rows("SELECT cost, cache_hit, total_tokens, model FROM usages") == [
        {"cost": None, "cache_hit": None, "total_tokens": None, "model": None}
    ]


# --- replay -----------------------------------------------------------------------------------------------------


def test_what_was_set_aside_can_be_tried_again(
    new_drain: Callable[..., Drain], spool: Spool, ledger_database: Database
) -> None:
    execute = ledger_database.cluster.execute
    execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'not this one' USING ERRCODE = '22000'; END $$; "
        "CREATE TRIGGER refuse BEFORE INSERT ON requests "
        "FOR EACH ROW WHEN (new.body_text LIKE '%poison%') EXECUTE FUNCTION refuse()",
        ledger_database.name,
    )
    drain = new_drain(Policy(capture="metadata", models=("m",)))
    poisoned = new_id()
    spool.append([*pair(new_id()), *pair(poisoned, b'"poison"', ANSWER), *pair(new_id())])
    spool.append([part("request", new_id(), outcome=1, size="many")])
    drain.run_once()
    assert [kind for kind, _ in rejected(spool)] == ["request", "response", "request"]
    assert ledger_database.rows("SELECT count(*) FROM responses") == [{"count": 2}]

    execute("DROP TRIGGER refuse ON requests", ledger_database.name)
    places = spool.replay()
    assert (len(places), spool.outcome(places)) == (3, (3, 0))
    drain.run_once()
    assert spool.outcome(places) == (0, 1)
    assert [kind for kind, _ in rejected(spool)] == ["request"]
    assert ledger_database.rows("SELECT count(*) FROM requests JOIN responses USING (received_at, id)") == [
        {"count": 3}
    ]
    assert spool.replay() == range(places.stop, places.stop + 1)
    assert spool.replay() == range(places.stop + 1, places.stop + 1)
    assert spool.outcome(range(0)) == (0, 0)
