"""How a worker writes into the spool: through a process of its own (`committer`), without threads.

A record goes to that process in one write, and one callback reads what has become of all that went before. Until it is
known to be durable it is kept here, for the next process if that one dies.
"""

import asyncio
import errno
import fcntl
import itertools
import logging
import os
import select
import socket
import struct
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from uuid import uuid4

from litellm_sqlalchemy.ledger import committer
from litellm_sqlalchemy.ledger.committer import ANSWER, FULL, STORED
from litellm_sqlalchemy.ledger.spool import Record, SpoolError, SpoolFullError, make_private

LONGEST_STALL_SECONDS = 15  # without any progress; longer than SQLite waits for another writer
MOST_DEATHS = 3  # of one process after the other, none of which has stored anything
PIECES_AT_ONCE = 64  # of a backlog
LARGEST_ANSWERS_BYTES = 1 << 16
# Large blocks go back to the system as soon as they are free. Nothing else: the gateway's secrets are not its business.
ENVIRONMENT = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}

logger = logging.getLogger(__name__)


class _Sent(NamedTuple):
    """What is not known to be durable."""

    number: int
    future: asyncio.Future[None]
    pieces: list[bytes]


class SpoolWriter:
    """Appends from an event loop. Made, used and closed in its thread.

    Args:
        path: The SQLite file.
        max_bytes: Limit of the spool, as of `Spool`.

    Raises:
        SpoolError: As `Spool`; but not if there is only no room: that may change, and is tried again.
    """

    def __init__(self, path: Path, max_bytes: int = 0) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._numbers = itertools.count(1)
        self._sent: deque[_Sent] = deque()
        self._unsent: deque[bytes | memoryview] = deque()  # what the socket does not take yet
        self._answers = b""  # the beginning of one that has not come to its end
        self._lock: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket  # to the process, as long as there is one
        self._deaths = 0
        self._progress = 0.0  # when there was some, by the loop's clock
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False
        self.worker = uuid4().hex
        """Who writes: as long as `workers/<worker>.lock` beside the spool is locked, more may come."""
        self.failed = False
        """Whether the last write failed."""
        self._lock_path = path.parent / "workers" / f"{self.worker}.lock"
        try:
            self._start()
            self._wait_until_open()
        except SpoolFullError as error:
            self._fail(error)
        except BaseException:
            self._closed = True
            self._stop()
            raise

    def append(self, *records: Record, lazily: bool = False) -> asyncio.Future[None]:
        """Send records to the spool.

        Args:
            records: What to store, in order, all or none. None at all: only try whether the disk takes a write.
            lazily: Nobody waits for it: it may wait a moment for records that somebody waits for. Even so it
                outlives this process.

        Returns:
            A future that is done when they are durable, or has a SpoolError when they are not stored. Records
            appended earlier are durable by then, or failed.
        """
        future = self._loop.create_future()
        if self._closed:
            _tell(future, SpoolError("the spool is closed: the gateway is stopping"))
            return future
        number = next(self._numbers)
        try:
            pieces = committer.pack(number, records, lazily=lazily)
        except (struct.error, ValueError) as error:
            _tell(future, SpoolError(f"a record cannot be stored: {error}"))
            return future
        if not self._sent:
            self._progress = self._loop.time()
            self._timer = self._timer or self._loop.call_later(LONGEST_STALL_SECONDS, self._look_for_stall)
        self._sent.append(_Sent(number, future, pieces))
        if self._process is None:
            self._restart()
        else:
            self._send(pieces)
        return future

    def wait(self, future: asyncio.Future[None], seconds: float) -> None:
        """Wait for what `append` gave. Blocks the loop meanwhile.

        Args:
            future: What is waited for.
            seconds: How long at most.
        """
        give_up = self._loop.time() + seconds
        while not future.done() and self._process is not None and (left := give_up - self._loop.time()) > 0:
            poll = select.poll()
            poll.register(self._socket, select.POLLIN)
            if poll.poll(left * 1e3):
                self._read()

    def close(self) -> None:
        """Wait until what was appended is durable, or has failed, then stop. Blocks the loop meanwhile.

        Raises:
            RuntimeError: This is not the loop's thread.
        """
        if threading.get_ident() != self._thread:
            raise RuntimeError("a spool's writer is closed in the thread of its loop")
        self._closed = True
        while self._sent and self._process is not None:
            poll = select.poll()
            poll.register(self._socket, select.POLLIN | (select.POLLOUT if self._unsent else 0))
            seconds = max(0.0, self._progress + LONGEST_STALL_SECONDS - self._loop.time())
            events = poll.poll(seconds * 1e3)
            if not events:
                self._look_for_stall()
            for _, event in events:
                if event & select.POLLOUT:
                    self._send_more()
                if event & ~select.POLLOUT:
                    self._read()
        self._stop()

    def _start(self) -> None:
        """Start the process.

        Raises:
            SpoolError: It cannot be started.
        """
        try:
            lock = self._hold_lock()
            ours, theirs = socket.socketpair()
            with theirs:
                try:
                    self._process = subprocess.Popen(  # noqa: S603 - no one else's words are in it
                        [sys.executable, "-I", "-m", committer.__name__, str(self._path), str(self._max_bytes)],
                        stdin=theirs.fileno(),
                        pass_fds=[lock],
                        env=ENVIRONMENT,
                    )
                except BaseException:
                    ours.close()
                    raise
        except OSError as error:
            full = error.errno in {errno.ENOSPC, errno.EDQUOT}
            raise (SpoolFullError if full else SpoolError)(
                f"cannot start the process that writes the spool {self._path}: {error}"
            ) from error
        self._socket = ours

    def _hold_lock(self) -> int:
        """Lock this worker's file. The process inherits the lock: it is free when both are gone."""
        if self._lock is not None:
            return self._lock
        make_private(self._path.parent)
        self._lock_path.parent.mkdir(mode=0o700, exist_ok=True)
        new = self._lock_path.with_suffix(".new")  # the drain removes what has its name and is not locked
        lock = os.open(new, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            new.rename(self._lock_path)
        except BaseException:
            os.close(lock)
            raise
        self._lock = lock
        return lock

    def _wait_until_open(self) -> None:
        """Wait for the first answer of the first process: whether it could open the spool.

        Raises:
            SpoolError: It could not, or there is no answer.
        """
        self._socket.settimeout(LONGEST_STALL_SECONDS)
        try:
            with self._socket.makefile("rb") as answers:
                _, status, size = ANSWER.unpack(answers.read(ANSWER.size))
                text = answers.read(size).decode()
        except (OSError, struct.error) as error:
            raise SpoolError(
                f"the process that writes the spool {self._path} did not start, or ended at once (see the journal)"
            ) from error
        self._listen()
        if status != STORED:
            raise _error(status, text)

    def _listen(self) -> None:
        self._socket.setblocking(False)
        self._loop.add_reader(self._socket, self._read)

    def _restart(self) -> None:
        """Start a process, and send it what is not known to be durable."""
        try:
            self._start()
        except SpoolError as error:
            self._fail(error)
            return
        self._listen()
        self._unsent.extend(piece for sent in self._sent for piece in sent.pieces)
        self._send_more()

    def _send(self, pieces: list[bytes]) -> None:
        if self._unsent:
            self._unsent.extend(pieces)
            return
        sent = self._try_to_send(pieces)
        if sent < sum(map(len, pieces)):
            self._unsent.extend(pieces)
            self._forget(sent)
            self._loop.add_writer(self._socket, self._send_more)

    def _send_more(self) -> None:
        sent = self._try_to_send(list(itertools.islice(self._unsent, PIECES_AT_ONCE)))
        if sent:
            self._progress = self._loop.time()
            self._forget(sent)
        if self._unsent:
            self._loop.add_writer(self._socket, self._send_more)
        else:
            self._loop.remove_writer(self._socket)

    def _try_to_send(self, pieces: Sequence[bytes | memoryview]) -> int:
        try:
            return self._socket.sendmsg(pieces)
        except OSError:  # the socket is full; or the process is dead, which `_read` finds out
            return 0

    def _forget(self, sent: int) -> None:
        """Forget the first bytes of what is to be sent."""
        while sent:
            piece = self._unsent.popleft()
            if len(piece) > sent:
                self._unsent.appendleft(memoryview(piece)[sent:])
                return
            sent -= len(piece)

    def _read(self) -> None:
        """Tell whoever waits what has become of their records."""
        try:
            received = self._socket.recv(LARGEST_ANSWERS_BYTES)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        if not received:
            self._bury()
            return
        data, at = self._answers + received, 0
        while len(data) - at >= ANSWER.size:
            number, status, size = ANSWER.unpack_from(data, at)
            text = at + ANSWER.size
            if text + size > len(data):
                break
            at = text + size
            self._settle(number, None if status == STORED else _error(status, data[text:at].decode()))
        self._answers = data[at:]

    def _settle(self, number: int, problem: SpoolError | None) -> None:
        """All up to a number are stored; but not the one of that number if there is a problem."""
        while self._sent and self._sent[0].number <= number:
            sent = self._sent.popleft()
            _tell(sent.future, problem if sent.number == number else None)
        if number or problem:  # 0: the spool is open, which says nothing of writing
            self._note(problem)
        if number:
            self._deaths = 0
            self._progress = self._loop.time()

    def _fail(self, problem: SpoolError) -> None:
        """Tell everybody who waits that their records are not stored."""
        for sent in self._sent:
            _tell(sent.future, problem)
        self._sent.clear()
        self._unsent.clear()
        self._note(problem)

    def _note(self, problem: SpoolError | None) -> None:
        if problem is not None and not self.failed:
            logger.error("action=spool_failed: %s", problem)
        elif problem is None and self.failed:
            logger.warning("action=spool_recovered: %s takes records again", self._path)
        self.failed = problem is not None

    def _look_for_stall(self) -> None:
        self._timer = None
        if not self._sent:
            return
        left = self._progress + LONGEST_STALL_SECONDS - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look_for_stall)
            return
        self._fail(SpoolError(f"the spool {self._path} has taken no write for {LONGEST_STALL_SECONDS:g} seconds"))
        if self._process is not None:  # a new one is started when it is gone, so that there is never more than one
            self._process.kill()

    def _bury(self) -> None:
        """The process is dead: start another one, unless that has been to no avail."""
        status = self._disconnect(1)
        if self._closed and not self._sent:
            return
        self._deaths += 1
        logger.warning("action=spool_writer_ended: exit status %s", status)
        if self._deaths < MOST_DEATHS:
            self._restart()
        else:
            self._fail(
                SpoolError(
                    f"the process that writes the spool {self._path} has ended {self._deaths} times without having "
                    f"stored anything, the last time with exit status {status} (see the journal)"
                )
            )

    def _disconnect(self, seconds: float) -> int | None:
        """Close the connection, and wait for the end of the process.

        Args:
            seconds: After these it is killed.

        Returns:
            Its exit status; None if there was no process.
        """
        if self._process is None:
            return None
        self._loop.remove_reader(self._socket)
        self._loop.remove_writer(self._socket)
        self._socket.close()
        self._unsent.clear()
        self._answers = b""
        process, self._process = self._process, None
        with process:
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                process.kill()
        return process.returncode

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._disconnect(LONGEST_STALL_SECONDS)
        if self._lock is not None:
            self._lock_path.unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None


def _error(status: int, text: str) -> SpoolError:
    return SpoolFullError(text) if status == FULL else SpoolError(text)


def _tell(future: asyncio.Future[None], problem: SpoolError | None) -> None:
    if future.done():  # its waiter was cancelled
        return
    if problem is None:
        future.set_result(None)
    else:
        future.set_exception(problem)
        future.exception()  # whoever awaits it gets it; if nobody does, asyncio need not complain
