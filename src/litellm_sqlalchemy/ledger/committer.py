"""The process beside each worker that writes the worker's records into the spool.

A process and not a thread, because a thread's fight with the worker for the interpreter costs the worker a seventh of
its throughput. `SpoolWriter` starts it, with a socket as its standard input: frames come in, each with a number, and
whatever has come is committed together; answers go out, each of which says what has become of all frames up to a
number. It ends when the worker has closed the socket, or is dead, and all that came is committed.
"""

import contextlib
import signal
import socket
import sqlite3
import struct
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, get_args

from litellm_sqlalchemy.ledger.spool import Kind, Record, Row, Spool, SpoolError, SpoolFullError

FRAME = struct.Struct("<QQI?")  # number; bytes that follow; records in them; whether nobody waits for them
RECORD = struct.Struct("<B16sqQq")  # kind, exchange, received_at, bytes of the facts, bytes of the body or -1
ANSWER = struct.Struct("<QBI")  # number, status, bytes of the text that follows
STORED, NOT_STORED, FULL = range(3)
KINDS: tuple[Kind, ...] = get_args(Kind)
CODES = {kind: code for code, kind in enumerate(KINDS)}
LAZY_SECONDS = 0.02  # for which records that nobody waits for may wait for others
LARGEST_COPY = 1 << 14  # bytes that are put together in one piece, which is cheaper than to send several
LARGEST_GROUP_BYTES = 4 << 20
CHUNK_BYTES = 1 << 18


class Frame(NamedTuple):
    """What one call of `SpoolWriter.append` sends."""

    number: int
    rows: list[Row]
    size: int
    lazily: bool


def pack(number: int, records: Sequence[Record], *, lazily: bool) -> list[bytes]:
    """Make a frame.

    Args:
        number: Its number.
        records: What is in it.
        lazily: Whether nobody waits for it.

    Returns:
        Its pieces, in order. Large bodies are not copied.

    Raises:
        struct.error: A number is out of range.
        UnicodeEncodeError: The facts are no text.
    """
    pieces: list[bytes] = []
    for record in records:
        facts, body = record.facts.encode(), record.body
        pieces += (
            RECORD.pack(
                CODES[record.kind],
                record.exchange.bytes,
                record.received_at,
                len(facts),
                -1 if body is None else len(body),
            ),
            facts,
            body or b"",
        )
    size = sum(map(len, pieces))
    head = FRAME.pack(number, size, len(records), lazily)
    return [b"".join((head, *pieces))] if size <= LARGEST_COPY else [head, *filter(None, pieces)]


def _unpack(data: memoryview, count: int) -> list[Row]:
    rows: list[Row] = []
    at = 0
    for _ in range(count):
        kind, exchange, received_at, facts_size, body_size = RECORD.unpack_from(data, at)
        facts = at + RECORD.size
        body = facts + facts_size
        at = body + max(body_size, 0)
        rows.append(
            (
                KINDS[kind],
                exchange,
                received_at,
                str(data[facts:body], "utf-8"),
                None if body_size < 0 else data[body:at] or b"",  # an empty view would become NULL
            )
        )
    return rows


class _Receiver:
    """Takes frames from the socket."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._chunk = memoryview(bytearray(CHUNK_BYTES))
        self._rest = memoryview(b"")  # the beginning of a frame that has not come to its end

    @property
    def missing(self) -> int:
        """How many bytes of a frame that has begun have not come; 0 if that is not known yet."""
        if len(self._rest) < FRAME.size:
            return 0
        size: int = FRAME.unpack_from(self._rest)[1]
        return FRAME.size + size - len(self._rest)

    def receive(self, seconds: float | None) -> list[Frame] | None:
        """Wait for more.

        Args:
            seconds: How long; None: as long as it takes.

        Returns:
            The frames that are complete now; None at the end.

        Raises:
            TimeoutError: Nothing came.
        """
        self._connection.settimeout(seconds)
        try:
            data = self._receive_large() if self.missing > CHUNK_BYTES else self._receive_some()
        except ConnectionResetError:  # the worker died before it had read all answers
            return None
        if data is None:
            return None
        self._rest = memoryview(data)
        return self._complete()

    def _receive_some(self) -> bytes | None:
        size = self._connection.recv_into(self._chunk)
        return b"".join((self._rest, self._chunk[:size])) if size else None

    def _receive_large(self) -> bytearray | None:
        """Receive all of one frame where it stays, so that it is not twice in memory."""
        size = len(self._rest)
        data = bytearray(size + self.missing)
        data[:size] = self._rest
        view = memoryview(data)
        while size < len(data):
            more = self._connection.recv_into(view[size:])
            if not more:
                return None
            size += more
        return data

    def _complete(self) -> list[Frame]:
        frames = []
        data, at = self._rest, 0
        while len(data) - at >= FRAME.size:
            number, size, count, lazily = FRAME.unpack_from(data, at)
            end = at + FRAME.size + size
            if end > len(data):
                break
            frames.append(Frame(number, _unpack(data[at + FRAME.size : end], count), size, lazily))
            at = end
        self._rest = data[at:] if at < len(data) else memoryview(b"")  # an empty part would keep all of it in memory
        return frames


class Committer:
    """Commits what comes.

    Args:
        connection: To the worker.
        path: The spool's file.
        max_bytes: Its limit, as of `Spool`.
    """

    def __init__(self, connection: socket.socket, path: Path, max_bytes: int) -> None:
        self._connection = connection
        self._path = path
        self._max_bytes = max_bytes
        self._spool: Spool | None = None

    def run(self) -> None:
        """Work until the worker has closed the connection, or is dead, and everything that came is committed."""
        try:
            self._opened()
        except SpoolError as error:
            self._answer(0, error)
        else:
            self._answer(0, None)
        receiver = _Receiver(self._connection)
        waiting: list[Frame] = []
        deadline = 0.0
        ended = False
        while not ended:
            try:
                frames = receiver.receive(max(deadline - time.monotonic(), 0.0001) if waiting else None)
            except TimeoutError:
                self._commit(waiting)
                waiting = []
                continue
            if frames and not waiting:
                deadline = time.monotonic() + LAZY_SECONDS
            ended = frames is None
            waiting += frames or ()
            del frames  # else they are in memory until the next come
            if waiting and (
                ended
                or receiver.missing > CHUNK_BYTES  # which may take long
                or not all(frame.lazily for frame in waiting)
                or sum(frame.size for frame in waiting) >= LARGEST_GROUP_BYTES
                or time.monotonic() >= deadline
            ):
                self._commit(waiting)
                waiting = []
        if self._spool is not None:
            self._spool.close()

    def _commit(self, frames: list[Frame]) -> None:
        problem = self._store(frames)
        if problem is None:
            self._answer(frames[-1].number, None)
            return
        alike = len(frames) == 1 or _is_of_all(problem)
        for frame in frames:
            self._answer(frame.number, problem if alike else self._store([frame]))

    def _store(self, frames: list[Frame]) -> SpoolError | None:
        try:
            self._opened().insert([row for frame in frames for row in frame.rows])
        except SpoolError as error:
            return error
        except Exception as error:  # noqa: BLE001 - whatever it is: somebody waits for an answer
            return SpoolError(f"cannot write to the spool: {type(error).__name__}: {error}")
        return None

    def _opened(self) -> Spool:
        """Open the spool, unless it is open: what was in the way of that may be gone now."""
        if self._spool is None:
            self._spool = Spool(self._path, self._max_bytes)
        return self._spool

    def _answer(self, number: int, problem: SpoolError | None) -> None:
        text = str(problem or "").encode(errors="replace")
        status = STORED if problem is None else FULL if isinstance(problem, SpoolFullError) else NOT_STORED
        self._connection.settimeout(None)
        with contextlib.suppress(OSError):  # the worker is dead; what it has sent is still to be committed
            self._connection.sendall(ANSWER.pack(number, status, len(text)) + text)


def _is_of_all(problem: SpoolError) -> bool:
    """Say whether the others cannot be stored either; it may be that only one is too large, say."""
    return isinstance(problem.__cause__, sqlite3.OperationalError | OSError) and not isinstance(problem, SpoolFullError)


def main() -> None:
    """Serve the worker at the other end of the standard input. Arguments: the spool's path, its limit in bytes."""
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):  # the worker says when to stop, by its end
        signal.signal(number, signal.SIG_IGN)
    with socket.socket(fileno=sys.stdin.fileno()) as connection:
        Committer(connection, Path(sys.argv[1]), int(sys.argv[2])).run()


if __name__ == "__main__":
    main()
