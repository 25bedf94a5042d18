"""Exchanges in the database as a person asks for them: one by its id, or each as it comes.

Times are written into the queries as literals, so that PostgreSQL opens the partitions of these times and no others.
"""

import datetime as dt
import decimal
import json
import time
from collections.abc import Callable, Iterator
from uuid import UUID

from sqlalchemy import Connection, Engine, RowMapping, text

from litellm_sqlalchemy.ledger import stream

# How far back `follow` looks for exchanges that came late: LiteLLM gives a provider ten minutes, uploads and the drain
# take some time as well. One that `follow` has seen begin is waited for longer.
LOOK_BACK = dt.timedelta(minutes=15)
LONGEST_WAIT = dt.timedelta(days=1)
PAUSE_SECONDS = 1.0
FIND = text("SELECT * FROM exchange(:wanted) ORDER BY received_at DESC, id DESC")
SUMMARY = text("SELECT * FROM exchanges WHERE received_at = :received_at AND id = :id")
HALF = "SELECT * FROM {table} WHERE received_at = :received_at AND id = :id"
HALVES = {"request": text(HALF.format(table="requests")), "response": text(HALF.format(table="responses"))}
RECENT = text("""
SELECT q.received_at, q.id, a.id IS NOT NULL AS ended
  FROM requests q
  LEFT JOIN responses a ON a.received_at = q.received_at AND a.id = q.id AND a.received_at >= :since
 WHERE q.received_at >= :since
""")

Key = tuple[dt.datetime, UUID]


def find(connection: Connection, wanted: str) -> list[RowMapping]:
    """Find exchanges.

    Args:
        connection: To the database.
        wanted: An exchange's id or a call id.

    Returns:
        Rows of the view `exchanges`, newest first; several only if a client has used a call id several times.
    """
    return [*connection.execute(FIND, {"wanted": wanted}).mappings()]


def half(connection: Connection, exchange: RowMapping, kind: str) -> RowMapping | None:
    """Read all of an exchange's request or response.

    Args:
        connection: To the database.
        exchange: One that was found.
        kind: `request` or `response`.

    Returns:
        The row; None if there is no such half (yet).
    """
    key = {name: exchange[name] for name in ("received_at", "id")}
    return connection.execute(HALVES[kind], key).mappings().one_or_none()


def follow(engine: Engine, begun: Callable[[], None]) -> Iterator[RowMapping]:
    """Give each exchange that ends from now on, as soon as it is in the database; never returns.

    Args:
        engine: The database.
        begun: Called when "now" is: from there on nothing that ends is missed.
    """
    ended: dict[Key, bool] = {}
    started = False
    while True:
        now = dt.datetime.now(dt.UTC)
        open_since = (key[0] for key, has_ended in ended.items() if not has_ended)
        since = max(min([now - LOOK_BACK, *open_since]), now - LONGEST_WAIT)
        with engine.connect() as connection:
            recent: dict[Key, bool] = {(row[0], row[1]): row[2] for row in connection.execute(RECENT, {"since": since})}
            if started:
                for key in sorted(key for key, has_ended in recent.items() if has_ended and not ended.get(key)):
                    yield connection.execute(SUMMARY, {"received_at": key[0], "id": key[1]}).mappings().one()
        if not started:
            begun()
        ended, started = recent, True
        time.sleep(PAUSE_SECONDS)


# --- for a person's eyes ----------------------------------------------------------------------------------------


def visible(value: str) -> str:
    """Write what anybody may have sent so that it cannot steer a terminal.

    Args:
        value: Text; its lines and tabs stay.
    """
    if value.isprintable():
        return value
    return "".join(
        character if character.isprintable() or character in "\n\t" else ascii(character)[1:-1] for character in value
    )


def line(exchange: RowMapping) -> str:
    """Write an exchange in one line: no texts, but who asked what of whom, and how it ended.

    Args:
        exchange: A row of the view `exchanges`.
    """
    who = [exchange[name] for name in ("key_alias", "team", "end_user") if exchange[name]]
    parts = [
        _written(exchange["received_at"]),
        str(exchange["id"]),
        f"{exchange['status'] or '-':>3} {exchange['outcome'] or 'open'}",
        "-" if exchange["duration_ms"] is None else f"{exchange['duration_ms']:,.0f} ms",
        f"{exchange['method']} {exchange['path']}",
        exchange["model"] or "-",
        "-" if exchange["total_tokens"] is None else f"{exchange['total_tokens']:,} tokens",
        "-" if exchange["cost"] is None else f"${exchange['cost']:f}",
        "/".join(who) or (exchange["key_hash"] or "no key")[:12],
    ]
    if exchange["error"]:
        parts.append(" ".join(exchange["error"].split())[:200])
    return visible("  ".join(parts))


def raw_body(row: RowMapping) -> bytes | None:
    """Give a body exactly as it is stored.

    Args:
        row: A row of `requests` or `responses`.

    Returns:
        The bytes; None if the body is not kept.
    """
    if row["body_text"] is not None:
        return str(row["body_text"]).encode()
    return None if row["body_bytes"] is None else bytes(row["body_bytes"])


def readable_body(row: RowMapping) -> str:
    """Give a body as a person reads it: JSON laid out, a streamed answer put together, binary bytes only described.

    Args:
        row: A row of `requests` or `responses`.
    """
    document, plain = row["body"], row["body_text"]
    if document is None and plain is not None and (row["content_type"] or "").startswith("text/event-stream"):
        document = stream.assemble(list(stream.events(plain)))  # too large for jsonb, or with a NUL in it
    if document is not None:
        return visible(json.dumps(document, ensure_ascii=False, indent=2))
    if plain is not None:
        return visible(plain)
    if row["body_bytes"] is not None:
        return f"({len(row['body_bytes']):,} bytes of {row['content_type'] or 'unknown type'}: --body writes them)"
    return f"({row['body_size']:,} bytes, not kept)" if row["body_size"] else "(none)"


def report(connection: Connection, exchange: RowMapping) -> list[str]:
    """Write all of an exchange for a person.

    Args:
        connection: To the database.
        exchange: One that was found.
    """
    facts = {name: value for name, value in exchange.items() if name not in {"question", "answer"}}
    written = [f"{name + ':':24}{visible(_written(value))}" for name, value in facts.items() if value is not None]
    for kind in HALVES:
        row = half(connection, exchange, kind)
        if row is None:
            written += ["", f"--- {kind}: none so far"]
            continue
        headers = [visible(f"{name}: {value}") for name, value in sorted(row["headers"].items())]
        written += ["", f"--- {kind}: headers", *headers, "", f"--- {kind}: body", readable_body(row)]
    return written


def _written(value: object) -> str:
    if isinstance(value, dt.datetime):
        return value.astimezone(dt.UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + "Z"
    return f"{value:f}" if isinstance(value, decimal.Decimal) else str(value)
