"""What a person has done with the ledger: records that were set aside tried again, an end user's exchanges awaited."""

import base64
import errno
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine, text

from litellm_sqlalchemy.ledger.rows import LONGEST_END_USER
from litellm_sqlalchemy.ledger.spool import Spool
from litellm_sqlalchemy.ledger.whole_file import whole_file

PATIENCE_SECONDS = 60.0  # for the drain to get as far as it is waited for
LOOK_SECONDS = 0.1

OPEN_OF_USER = text("""
SELECT id FROM requests
 WHERE end_user = :name AND id = ANY(CAST(:open AS uuid[])) AND received_at >= to_timestamp(:since)
""")


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What became of records that had been set aside.

    Attributes:
        stored: Records that are in the database now.
        waiting: Records that the drain has not come to yet.
        rejected: Records that PostgreSQL refuses again.
    """

    stored: int
    waiting: int
    rejected: int


def replay(spool: Spool) -> Replayed:
    """Put records that were set aside back into the spool, and wait for what the drain makes of them.

    Args:
        spool: Where they are.
    """
    places = spool.replay()
    give_up = time.monotonic() + PATIENCE_SECONDS
    while (found := spool.outcome(places))[0] and time.monotonic() < give_up:
        time.sleep(LOOK_SECONDS)
    waiting, rejected = found
    return Replayed(stored=len(places) - waiting - rejected, waiting=waiting, rejected=rejected)


def move_set_aside(spool: Spool, file: Path) -> int:
    """Move records that were set aside out of the spool, into a file of JSON Lines.

    Args:
        spool: Where they are.
        file: It must not be there.

    Returns:
        How many there were.

    Raises:
        OSError: The file cannot be written; the records are where they were.
    """
    count = last = 0
    if file.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(file))
    with whole_file(file) as written:
        for record, rejected_at, reason in spool.rejected():
            line = {
                "rejected_at": rejected_at,
                "reason": reason,
                "kind": record.kind,
                "exchange": str(record.exchange),
                "received_at_microseconds": record.received_at,
                "facts": record.facts,
                "body_base64": None if record.body is None else base64.b64encode(record.body).decode(),
            }
            written.write(json.dumps(line).encode() + b"\n")
            count, last = count + 1, record.sequence
    spool.forget_rejected(last)
    return count


class StillWaitingError(Exception):
    """Something of the end user may still be on its way into the database; the message says what."""


def wait_for_spool(spool: Spool, engine: Engine, name: str) -> None:
    """Wait until all that an end user has asked so far is in the database, and answered.

    Removed before that, a request would leave its response behind.

    Args:
        spool: What is on its way.
        engine: The database.
        name: The end user.

    Raises:
        StillWaitingError: It did not come within a minute.
    """
    places = range(1, spool.last_sequence() + 1)
    give_up = time.monotonic() + PATIENCE_SECONDS
    while problem := _what_waits(spool, engine, name, places):
        if time.monotonic() > give_up:
            raise StillWaitingError(problem)
        time.sleep(LOOK_SECONDS)


def _what_waits(spool: Spool, engine: Engine, name: str, places: range) -> str | None:
    waiting, _ = spool.outcome(places)
    if waiting:
        return f"{waiting:,} records of before still wait in the spool, and some may be theirs"
    opened = spool.open_exchanges()
    if not opened:
        return None
    since = min(exchange.received_at for exchange in opened.values()) / 1e6
    with engine.connect() as connection:
        ids = [exchange.hex() for exchange in opened]
        theirs = connection.execute(OPEN_OF_USER, {"name": name[:LONGEST_END_USER], "open": ids, "since": since}).all()
    return f"{len(theirs):,} of their exchanges have not come to their end" if theirs else None
