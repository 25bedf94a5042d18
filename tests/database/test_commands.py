"""`litellm-sqlalchemy ledger …` as a person types it, on a database that the real drain has filled."""

import base64
import contextlib
import datetime as dt
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow.parquet as pq
import pytest

from litellm_sqlalchemy.ledger import upkeep
from litellm_sqlalchemy.ledger.drain import Drain
from litellm_sqlalchemy.ledger.spool import Kind, Record, Spool
from litellm_sqlalchemy.ledger.uuid7 import uuid7
from tests.fix_bodies import sse
from tests.fix_postgres import (
    LEDGER_PASSWORD,
    MAINTENANCE_PASSWORD,
    OWNER_PASSWORD,
    READER_PASSWORD,
    Cluster,
    Database,
)
from tests.fix_server import wait_for
from tests.ports import free_port

KEY_HASH = "0123456789abcdef" * 4
HEADERS = {"content-type": "application/json"}
REQUEST: dict[str, Any] = {
    "method": "POST",
    "path": "/v1/chat/completions",
    "query": None,
    "key_hash": KEY_HASH,
    "client": "192.0.2.7",
    "headers": HEADERS,
    "complete": True,
    "worker": None,
    "scheme": "http",
}
RESPONSE: dict[str, Any] = {
    "status": 200,
    "outcome": "completed",
    "error": None,
    "headers": HEADERS,
    "key_hash": KEY_HASH,
    "time_to_first_byte_ms": 12.5,
    "duration_ms": 1500.25,
}
USAGE = {"key_alias": "alias-of-the-key", "team": "team-1", "total_tokens": 59, "cost": 0.000123}


def half(kind: Kind, exchange: UUID, body: bytes | None = b"{}", **facts: Any) -> Record:
    """A part of an exchange, as the gateway spools it."""
    known = {"request": REQUEST, "response": RESPONSE, "usage": USAGE}[kind]
    found = {"call_id": str(exchange), **known, "size": len(body or b""), **facts}
    received_at = (exchange.int >> 80) * 1000 + 123
    return Record(kind=kind, exchange=exchange, received_at=received_at, facts=json.dumps(found), body=body)


class Ledger:
    """A spool, a drain and a database; and the command that is told of them as on a host."""

    def __init__(self, directory: Path, database: Database) -> None:
        self.path = directory / "spool" / "spool.sqlite3"
        self.spool = Spool(self.path)
        self.database = database
        self.engine = database.engine()
        self._drain: Drain | None = None
        # Who asks may only read: /usr/local/bin/litellm-sqlalchemy sees to that.
        self._users = {"ledger": ("litellm_reader_a", READER_PASSWORD), "drain": ("litellm_ledger_a", LEDGER_PASSWORD)}
        for command, (_, password) in self._users.items():
            (directory / command).mkdir()
            (directory / command / "ledger_database_password").write_text(password)
        self._credentials = directory

    def close(self) -> None:
        self.engine.dispose()
        self.spool.close()

    def spool_half(self, kind: Kind, exchange: UUID, body: bytes | None = b"{}", **facts: Any) -> None:
        self.spool.append([half(kind, exchange, body, **facts)])

    def spool_exchange(self, question: bytes = b"{}", answer: bytes = b"{}", ago: float = 1.0, **facts: Any) -> UUID:
        """Have an exchange in the spool, which began so many seconds ago; facts are the response's."""
        exchange = uuid7(int((time.time() - ago) * 1000))
        self.spool_half("request", exchange, question)
        self.spool_half("response", exchange, answer, **facts)
        return exchange

    def drain(self) -> None:
        drain = self._drain = self._drain or Drain(self.spool, self.engine, batch_records=500, batch_bytes=16 << 20)
        while drain.run_once():
            pass

    def start(self, *arguments: str, stderr: int = subprocess.PIPE, **environment: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            # A job in a shell's background hands down that it ignores Ctrl-C.
            ["env", "--default-signal=INT", sys.executable, "-m", "litellm_sqlalchemy.cli", *arguments],
            env={
                "PATH": os.environ["PATH"],
                "CREDENTIALS_DIRECTORY": str(self._credentials / arguments[0]),
                "LEDGER_SPOOL_PATH": str(self.path),
                **self.database.environment(),
                "LEDGER_DATABASE_USER": self._users[arguments[0]][0],
                **environment,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
        )

    def run(self, *arguments: str, code: int = 0, **environment: str) -> tuple[str, str]:
        """Run a command to its end; give standard output and standard error."""
        process = self.start(*arguments, stderr=subprocess.PIPE, **environment)
        out, err = (text.decode() for text in process.communicate())
        assert process.returncode == code, out + err
        assert not any(password in out + err for _, password in self._users.values())
        return out, err

    def fails(self, *arguments: str, code: int, **environment: str) -> str:
        """Run a command that fails; give its one line."""
        out, err = self.run(*arguments, code=code, **environment)
        assert out == ""
        assert err.count("\n") == 1
        return err

    @property
    def nowhere(self) -> dict[str, Any]:
        """The environment of a database that is not there."""
        return {**Database(Cluster("127.0.0.1", free_port()), "litellm_db").environment()}


@pytest.fixture
def ledger(tmp_path: Path, ledger_database: Database) -> Iterator[Ledger]:
    with contextlib.closing(Ledger(tmp_path, ledger_database)) as ledger:
        yield ledger


# --- status -----------------------------------------------------------------------------------------------------


def test_status_of_a_ledger_that_is_well(ledger: Ledger) -> None:
    ledger.spool_exchange()
    ledger.drain()
    out, _ = ledger.run("ledger", "status", "--json")
    found = json.loads(out)
    assert {name: found[name] for name in ("records", "oldest_age_seconds", "records_per_second", "rejected")} == {
        "records": 0,
        "oldest_age_seconds": None,
        "records_per_second": None,
        "rejected": 0,
    }
    assert (found["open"], found["alarm"], found["database_error"], found["attention"]) == (0, False, None, [])
    assert found["partitions"].keys() == {"requests", "responses", "usages"}
    for partitions in found["partitions"].values():
        assert partitions["default_rows"] == 0
        assert partitions["days_ahead"] > 1
    out, _ = ledger.run("ledger", "status")
    assert "waiting:    0 records" in out
    assert "database:   answers" in out
    assert "attention:  none" in out


def test_status_says_how_fast_the_spool_empties(ledger: Ledger) -> None:
    for _ in range(3):
        ledger.spool_exchange(ago=60)
    process = ledger.start("ledger", "status", "--json")
    out, err = process.communicate()
    assert process.returncode == 0, err
    found = json.loads(out)
    assert (found["records"], found["records_per_second"], found["catch_up_seconds"]) == (6, 0, None)
    assert found["oldest_age_seconds"] > 59


def test_status_wants_a_person(ledger: Ledger) -> None:
    ledger.spool_exchange(ago=3600)
    ledger.spool_half("request", uuid7(0), client=17)  # as no release writes it
    out, _ = ledger.run("ledger", "status", "--json", code=3)
    assert ["the oldest record has waited for" in problem for problem in json.loads(out)["attention"]] == [True]
    ledger.drain()
    ledger.database.cluster.execute(
        "INSERT INTO usages (received_at, id) VALUES ('1999-01-01', gen_random_uuid())", ledger.database.name
    )
    out, _ = ledger.run("ledger", "status", code=3, LEDGER_SPOOL_ALARM_RATIO="0.000001")
    attention = [line.removeprefix("attention:  ") for line in out.splitlines() if line.startswith("attention:")]
    assert attention[0].startswith("the spool has ")
    assert attention[1:] == [
        "1 records are set aside: PostgreSQL refuses them",
        "usages_default has rows: days without a partition of their own",
    ]
    for without in ({"LEDGER_SPOOL_ALARM_RATIO": "0"}, {"LEDGER_SPOOL_MAX_BYTES": "0"}):
        out, _ = ledger.run("ledger", "status", "--json", code=3, **without)
        assert not json.loads(out)["alarm"]


def test_status_without_a_database_says_what_it_knows(ledger: Ledger) -> None:
    ledger.spool_half("request", uuid7(int(time.time() * 1000)))
    out, err = ledger.run("ledger", "status", **ledger.nowhere)
    assert "1 records" in out
    assert "cannot be asked: cannot reach PostgreSQL at 127.0.0.1:" in out
    assert err == ""
    out, _ = ledger.run("ledger", "status", "--json", **ledger.nowhere)
    assert json.loads(out)["partitions"] is None


def test_status_counts_open_exchanges(ledger: Ledger) -> None:
    ledger.spool_half("request", uuid7(int(time.time() * 1000)))
    ledger.drain()
    out, _ = ledger.run("ledger", "status", "--json")
    assert json.loads(out)["open"] == 1


def test_commands_make_no_spool(ledger: Ledger, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere.sqlite3"
    for command in (["status"], ["replay"], ["wait", "--end-user=x"]):
        error = ledger.fails("ledger", *command, code=1, LEDGER_SPOOL_PATH=str(elsewhere))
        assert error.startswith(f"litellm-sqlalchemy: there is no spool {elsewhere}: ")
        assert not elsewhere.exists()


# --- tail -------------------------------------------------------------------------------------------------------


def read_lines(process: "subprocess.Popen[bytes]", count: int) -> list[str]:
    assert process.stdout
    return [process.stdout.readline().decode() for _ in range(count)]


def test_tail_shows_what_ends_from_now_on_until_interrupted(ledger: Ledger) -> None:
    before = ledger.spool_exchange()
    open_before = uuid7(int((time.time() - 600) * 1000))
    ledger.spool_half("request", open_before)
    ledger.drain()
    process = ledger.start("ledger", "tail")
    try:
        assert process.stderr
        assert process.stderr.readline().startswith(b"Following")
        # One that began long ago ends, one comes late, one is new; one is still open.
        ledger.spool_half("response", open_before, b'{"error": {"message": "it\\nbroke\\u001b[2J"}}', status=500)
        late = ledger.spool_exchange(ago=300, answer=b'{"model": "gpt-5", "usage": {"total_tokens": 59}}')
        ledger.spool_half("request", uuid7(int(time.time() * 1000)))
        ledger.drain()
        first = read_lines(process, 2)
        new = ledger.spool_exchange(ago=0)
        ledger.drain()
        second = read_lines(process, 1)
    finally:
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert (process.returncode, out, err) == (130, b"", b"")
    assert [str(exchange) in line for exchange, line in zip([open_before, late, new], first + second, strict=True)] == [
        True
    ] * 3
    assert "500 error" in first[0]
    assert "it broke" in first[0]
    assert "\x1b" not in first[0]
    assert "59 tokens" in first[1]
    assert str(before) not in "".join(first + second)


def test_tail_without_a_database_ends(ledger: Ledger) -> None:
    assert "cannot reach PostgreSQL" in ledger.fails("ledger", "tail", code=1, **ledger.nowhere)


# --- show -------------------------------------------------------------------------------------------------------


def test_show_puts_a_streamed_answer_together(ledger: Ledger) -> None:
    chunks = [
        {"object": "chat.completion.chunk", "model": "gpt-5", "choices": [{"index": 0, "delta": {"content": part}}]}
        for part in ("Par", "is \x1b[31m", "é")
    ]
    answer = sse(*chunks)
    exchange = ledger.spool_exchange(
        b'{"model": "gpt-5", "stream": true, "user": "anna"}',
        answer,
        headers={"content-type": "text/event-stream"},
    )
    ledger.spool_half("usage", exchange, None)
    other = ledger.spool_exchange()
    ledger.drain()
    out, err = ledger.run("ledger", "show", str(exchange))
    assert err == ""
    assert '"content": "Paris \\u001b[31mé"' in out
    assert "\x1b" not in out
    facts = dict(line.split(":", 1) for line in out.partition("\n\n")[0].splitlines())
    assert facts["id"].strip() == str(exchange)
    assert facts["outcome"].strip() == "completed"
    assert facts["end_user"].strip() == "anna"
    assert facts["key_alias"].strip() == "alias-of-the-key"
    assert Decimal(facts["cost"].strip()) == Decimal("0.000123")
    assert "content-type: text/event-stream" in out
    assert str(other) not in out
    process = ledger.start("ledger", "show", str(exchange), "--body=response")
    assert process.communicate() == (answer, b"")


def test_show_describes_bytes_and_writes_them_when_asked(ledger: Ledger) -> None:
    sound = bytes(range(256)) * 4
    exchange = ledger.spool_exchange(answer=sound, headers={"content-type": "audio/mpeg"})
    ledger.drain()
    out, _ = ledger.run("ledger", "show", str(exchange))
    assert "(1,024 bytes of audio/mpeg: --body writes them)" in out
    process = ledger.start("ledger", "show", str(exchange), "--body", "response")
    assert process.communicate() == (sound, b"")


def test_show_finds_by_call_id(ledger: Ledger) -> None:
    first, second = (uuid7(int((time.time() - ago) * 1000)) for ago in (86_400 * 3, 10))
    for exchange in (first, second):
        ledger.spool_half("request", exchange, call_id="my-call")
        ledger.spool_half("response", exchange, call_id="my-call")
    ledger.drain()
    out, err = ledger.run("ledger", "show", "my-call")
    assert str(second) in out
    assert err == f"litellm-sqlalchemy: this is the newest with that call id; the others: {first}\n"


def test_show_of_what_has_not_ended_or_is_not_kept(ledger: Ledger) -> None:
    exchange = uuid7(int(time.time() * 1000))
    ledger.spool_half("request", exchange, None, size=77)
    ledger.drain()
    out, _ = ledger.run("ledger", "show", str(exchange))
    assert "(77 bytes, not kept)" in out
    assert "--- response: none so far" in out
    for half in ("request", "response"):
        error = ledger.fails("ledger", "show", str(exchange), "--body", half, code=3)
        assert error == f"litellm-sqlalchemy: the {half} of {exchange} has no body in the database\n"


@pytest.mark.parametrize("wanted", ["no-such-call", "0199c0de-0000-7000-8000-000000000000", "x'; DROP TABLE requests;"])
def test_show_of_what_is_not_there(ledger: Ledger, wanted: str) -> None:
    assert f"no exchange with id or call id {wanted} is in" in ledger.fails("ledger", "show", wanted, code=3)


# --- export -----------------------------------------------------------------------------------------------------


def filled(ledger: Ledger) -> list[UUID]:
    """Exchanges of an hour and more ago, oldest first; the last one has not ended."""
    found = [
        ledger.spool_exchange(b'{"model": "a", "n": 1.10}', b'{"x": "\\u00fc", "y": 12345678901234567890}', ago=7200),
        ledger.spool_exchange(b"\0question", b"\xff\0answer", ago=5400),
        uuid7(int((time.time() - 3600) * 1000)),
    ]
    ledger.spool_half("usage", found[0], None)
    ledger.spool_half("request", found[2])
    ledger.spool_exchange(ago=86_400)
    ledger.drain()
    return found


def test_export_as_json_lines(ledger: Ledger) -> None:
    exchanges = filled(ledger)
    out, err = ledger.run("ledger", "export", "--since", "3h")
    rows = [json.loads(line, parse_float=Decimal) for line in out.splitlines()]
    assert [row["id"] for row in rows] == [str(exchange) for exchange in exchanges]
    first, second, third = rows
    assert first["request_body"] == {"model": "a", "n": Decimal("1.10")}
    assert first["response_body"] == {"x": "ü", "y": 12345678901234567890}
    assert first["response_body_text"] == '{"x": "\\u00fc", "y": 12345678901234567890}'
    assert first["usage_cost"] == Decimal("0.000123")
    assert first["request_client_address"] == "192.0.2.7"
    assert dt.datetime.fromisoformat(first["received_at"]).timestamp() == pytest.approx(time.time() - 7200, abs=60)
    assert base64.b64decode(second["request_body_bytes"]) == b"\0question"
    assert base64.b64decode(second["response_body_bytes"]) == b"\xff\0answer"
    assert (third["response_outcome"], third["response_duration_ms"], third["usage_cost"]) == (None, None, None)
    assert err == "3 exchanges exported\n"


def test_export_as_parquet_says_the_same(ledger: Ledger, tmp_path: Path) -> None:
    filled(ledger)
    out, _ = ledger.run("ledger", "export", "--since", "3h")
    lines = [json.loads(line) for line in out.splitlines()]
    file = tmp_path / "out.parquet"
    ledger.run("ledger", "export", "--since", "3h", "--format", "parquet", "--output", str(file))
    rows = pq.read_table(file).to_pylist()
    assert len(rows) == len(lines) == 3
    for row, line in zip(rows, lines, strict=True):
        assert row.keys() == line.keys()
        for name, value in line.items():
            found = row[name]
            if isinstance(found, bytes):
                found = base64.b64encode(found).decode()
            elif isinstance(found, dt.datetime):
                found = found.isoformat()
            elif isinstance(value, dict):
                found = json.loads(found)
            assert found == value, name


def test_export_is_bounded_by_its_times(ledger: Ledger) -> None:
    exchanges = filled(ledger)
    moment = dt.datetime.fromtimestamp((exchanges[1].int >> 80) / 1000 + 0.000123, dt.UTC)
    for since, until, expected in (
        (moment, moment + dt.timedelta(microseconds=1), [exchanges[1]]),
        (moment - dt.timedelta(hours=1), moment, [exchanges[0]]),
        (moment + dt.timedelta(microseconds=1), moment + dt.timedelta(hours=1), [exchanges[2]]),
    ):
        zone = dt.timezone(dt.timedelta(hours=2))  # and in UTC without saying so
        spans = [(since.astimezone(zone), until.astimezone(zone)), (since.replace(tzinfo=None), until)]
        for begin, end in spans:
            out, _ = ledger.run("ledger", "export", "--since", begin.isoformat(), "--until", end.isoformat())
            assert [json.loads(line)["id"] for line in out.splitlines()] == [str(exchange) for exchange in expected]


def test_export_of_many_and_large_comes_in_pieces(ledger: Ledger, tmp_path: Path) -> None:
    moment = int(time.time() * 1000) - 60_000
    exchanges = [uuid7(moment) for _ in range(2_300)]  # in one millisecond, so that only the id tells them apart
    ledger.spool.append(
        [half(kind, exchange, b"x" * 100) for exchange in exchanges for kind in ("request", "response")]
    )
    large = [ledger.spool_exchange(b"q" * (9 << 20), b"a" * (9 << 20), ago=30) for _ in range(3)]
    ledger.drain()
    file = tmp_path / "out.jsonl"
    ledger.run("ledger", "export", "--since", "1h", "--output", str(file))
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [row["id"] for row in rows] == sorted(map(str, exchanges)) + sorted(map(str, large))
    assert {len(row["response_body_text"]) for row in rows[-3:]} == {9 << 20}


def test_export_that_fails_leaves_nothing_and_spares_what_was_there(ledger: Ledger, tmp_path: Path) -> None:
    filled(ledger)
    directory = tmp_path / "exports"
    directory.mkdir()
    file = directory / "out.jsonl"
    file.write_text("of yesterday")
    ledger.database.cluster.execute("REVOKE SELECT ON responses FROM litellm_reader", ledger.database.name)
    error = ledger.run("ledger", "export", "--since", "3h", "--output", str(file), code=1)[1]
    assert "the query failed: permission denied for table responses" in error
    assert file.read_text() == "of yesterday"
    assert list(directory.iterdir()) == [file]


def test_export_to_where_it_cannot_write(ledger: Ledger, tmp_path: Path) -> None:
    filled(ledger)
    error = ledger.run("ledger", "export", "--since", "3h", "--output", str(tmp_path / "no" / "such"), code=1)[1]
    assert f"cannot write {tmp_path}/no/such: No such file or directory. Name a file" in error


def test_export_refuses_wrong_arguments(ledger: Ledger) -> None:
    for arguments, message in (
        (["--since", "yesterday"], "'yesterday' is neither a time"),
        (["--since", "1h", "--until", "2h"], "must be before --until"),
        (["--since", "1h", "--format", "parquet"], "Parquet needs --output FILE"),
        (["--since", "1h", "--format", "xml"], "xml"),
        ([], "--since"),
    ):
        out, err = ledger.run("ledger", "export", *arguments, code=2)
        assert message in " ".join(err.replace("│", " ").split())
        assert out == ""


def test_export_stops_when_nobody_reads(ledger: Ledger) -> None:
    for _ in range(50):
        ledger.spool_exchange(b"x" * 100_000, b"y" * 100_000)
    ledger.drain()
    with ledger.start("ledger", "export", "--since", "1h") as process:
        assert process.stdout
        assert process.stderr
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_ctrl_c_ends_what_waits_and_leaves_nothing(ledger: Ledger, tmp_path: Path) -> None:
    directory = tmp_path / "exports"
    directory.mkdir()
    waits = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'ledger-%%' AND wait_event_type = 'Lock'"
    execute = ledger.database.cluster.execute
    owner = ledger.database.engine("litellm_owner", OWNER_PASSWORD)
    with owner.connect() as connection:
        connection.exec_driver_sql("LOCK TABLE requests IN ACCESS EXCLUSIVE MODE")
        for command in (["tail"], ["export", "--since", "1h", "--output", str(directory / "out.jsonl")]):
            process = ledger.start("ledger", *command)
            wait_for(lambda: execute(waits, "postgres", {}) == [(1,)], f"{command} waits for the lock")
            process.send_signal(signal.SIGINT)
            out, err = process.communicate()
            assert (process.returncode, out) == (130, b"")
            assert b"Traceback" not in err
            wait_for(lambda: execute(waits, "postgres", {}) == [(0,)], f"PostgreSQL has given {command} up")
    owner.dispose()
    assert list(directory.iterdir()) == []


def test_export_shows_how_far_it_is_on_a_terminal(ledger: Ledger) -> None:
    filled(ledger)
    terminal, end = os.openpty()
    process = ledger.start("ledger", "export", "--since", "3h", stderr=end)
    os.close(end)
    shown = b""
    with contextlib.suppress(OSError):  # EIO: the other end is closed
        while data := os.read(terminal, 65_536):
            shown += data
    os.close(terminal)
    out, _ = process.communicate()
    assert process.returncode == 0
    assert len(out.splitlines()) == 3
    assert b"exporting" in shown
    assert b"100%" in shown
    assert shown.endswith(b"3 exchanges exported\r\n")


# --- replay and wait --------------------------------------------------------------------------------------------


@contextlib.contextmanager
def draining(ledger: Ledger) -> Iterator[None]:
    """The drain's service beside the command."""
    with ledger.start("drain", LEDGER_METRICS_PORT="0") as service:
        try:
            yield
        finally:
            service.send_signal(signal.SIGTERM)
            service.communicate()


def refuse(ledger: Ledger, *, refuse: bool) -> None:
    """Have the database refuse answers with status 299; or accept them."""
    action = "ADD CONSTRAINT refused CHECK (status <> 299)" if refuse else "DROP CONSTRAINT refused"
    ledger.database.cluster.execute(f"ALTER TABLE responses {action}", ledger.database.name)


def test_replay(ledger: Ledger) -> None:
    refuse(ledger, refuse=True)
    exchanges = [ledger.spool_exchange(status=status) for status in (299, 299, 200)]
    ledger.drain()
    out, _ = ledger.run("ledger", "set-aside")
    listed = out.splitlines()
    assert len(listed) == ledger.spool.status().rejected == 2
    for line, exchange in zip(listed, exchanges, strict=False):
        assert f" response {exchange} 23514: " in line
        assert 'constraint "refused"' in line
    with draining(ledger):
        out, err = ledger.run("ledger", "replay", code=3)
        assert (out, err) == ("0 stored, 2 set aside again, 0 still waiting for the drain\n", "")
        refuse(ledger, refuse=False)
        out, err = ledger.run("ledger", "replay")
        assert (out, err) == ("2 stored, 0 set aside again, 0 still waiting for the drain\n", "")
        out, err = ledger.run("ledger", "replay")
        assert (out, err) == ("0 stored, 0 set aside again, 0 still waiting for the drain\n", "")
    found = ledger.database.rows("SELECT id FROM requests JOIN responses USING (received_at, id) ORDER BY id")
    assert [row["id"] for row in found] == sorted(exchanges)


def test_set_aside_for_which_nothing_can_be_done(ledger: Ledger, tmp_path: Path) -> None:
    refuse(ledger, refuse=True)
    exchange = ledger.spool_exchange(answer=b"\0answer", status=299)
    ledger.drain()
    file = tmp_path / "set-aside.jsonl"
    missing = tmp_path / "missing" / "set-aside.jsonl"
    error = ledger.fails("ledger", "set-aside", "--move-to", str(missing), code=1)
    assert f"cannot write {missing}: No such file or directory; nothing is moved" in error
    assert ledger.spool.status().rejected == 1
    out, _ = ledger.run("ledger", "set-aside", "--move-to", str(file))
    assert out == f"1 records moved to {file}\n"
    assert ledger.spool.status().rejected == 0
    assert file.stat().st_mode & 0o777 == 0o600
    (line,) = file.read_text().splitlines()
    moved = json.loads(line)
    assert (moved["kind"], moved["exchange"]) == ("response", str(exchange))
    assert json.loads(moved["facts"])["status"] == 299
    assert moved["reason"].startswith("23514: ")
    assert base64.b64decode(moved["body_base64"]) == b"\0answer"
    error = ledger.fails("ledger", "set-aside", "--move-to", str(file), code=1)
    assert "File exists; nothing is moved" in error
    assert file.read_text() == f"{line}\n"


def forget(ledger: Ledger, name: str) -> dict[str, int]:
    """Do what playbooks/forget.yml does on the database's host."""
    engine = ledger.database.engine("litellm_maintenance", MAINTENANCE_PASSWORD)
    with engine.begin() as connection:
        removed = connection.exec_driver_sql("SELECT * FROM forget_end_user(%s)", (name,)).all()
    engine.dispose()
    return {row.table_name: row.rows_removed for row in removed}


def test_wait_and_forget(ledger: Ledger) -> None:
    asked = b'{"user": "anna"}'
    kept = [ledger.spool_exchange(b'{"user": "bert"}'), ledger.spool_exchange(b'{"text": "anna"}')]
    for ago in (1, 86_400 * 2):
        ledger.spool_exchange(asked, ago=ago)
    ledger.spool_half("usage", ledger.spool_exchange(), None, end_user="anna")
    ledger.drain()
    ledger.spool_exchange(asked)  # still in the spool
    with draining(ledger):
        assert ledger.run("ledger", "wait", "--end-user", "anna") == ("", "")
    assert forget(ledger, "anna") == {"requests": 4, "responses": 4, "usages": 1}
    for table in ("requests", "responses"):
        rows = ledger.database.rows(f"SELECT id FROM {table} ORDER BY id")  # noqa: S608 - names of tables
        assert [row["id"] for row in rows] == sorted(kept)
    assert forget(ledger, "anna") == {"requests": 0, "responses": 0, "usages": 0}


def test_wait_for_nobody(ledger: Ledger) -> None:
    assert "--end-user is empty" in ledger.fails("ledger", "wait", "--end-user", "", code=2)


def test_wait_says_what_may_be_theirs_and_is_not_in_the_database(ledger: Ledger) -> None:
    refuse(ledger, refuse=True)
    ledger.spool_exchange(b'{"user": "anna"}', status=299)
    ledger.drain()
    error = ledger.fails("ledger", "wait", "--end-user", "anna", code=3)
    assert "1 records are set aside in the spool, and some may be theirs: ledger replay, then try again" in error


@pytest.mark.parametrize("state", ["in the spool", "open"])
def test_wait_does_not_take_what_is_on_its_way_for_stored(
    ledger: Ledger, state: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Patience is a minute: the command's module is called with less."""
    ledger.spool_exchange(b'{"user": "anna"}')
    ledger.drain()
    ledger.spool_half("request", uuid7(int(time.time() * 1000)), b'{"user": "anna"}')
    if state == "open":
        ledger.drain()
    monkeypatch.setattr(upkeep, "PATIENCE_SECONDS", 0.0)
    problem = {
        "in the spool": "1 records of before still wait in the spool",
        "open": "1 of their exchanges have not come to their end",
    }[state]
    reader = ledger.database.engine("litellm_reader_a", READER_PASSWORD)
    with pytest.raises(upkeep.StillWaitingError, match=problem):
        upkeep.wait_for_spool(ledger.spool, reader, "anna")
    if state == "open":
        upkeep.wait_for_spool(ledger.spool, reader, "bert")
    reader.dispose()


# --- all --------------------------------------------------------------------------------------------------------


def test_help_has_the_exit_codes_and_every_command_is_in_the_runbook(ledger: Ledger) -> None:
    out, _ = ledger.run("ledger", "--help", COLUMNS="200")
    assert "3 not found" in out
    runbook = Path("RUNBOOK.md").read_text()
    for command in ("status", "tail", "show", "set-aside", "replay", "export", "wait"):
        assert command in out
        assert f"litellm-sqlalchemy ledger {command}" in runbook
