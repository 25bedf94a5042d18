"""What passes on a WebSocket, on disk as it passes.

A session may last for hours, and its end may be the end of its worker: so it is not kept in memory. Each message is
written to the session's journal before it is passed on. At the end the journal becomes the exchange's two records in
the spool, and is removed. A journal that nobody holds any more was left by a worker that died, or by a spool that took
no records: whoever finds it spools it.

The first line is JSON: what the records will have if nothing else is written. Each further line has one letter before
its JSON: c for a message of the client, s for one of the server, e for the end.
"""

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

from litellm_sqlalchemy.ledger.identity import Identity
from litellm_sqlalchemy.ledger.spool import Record

Facts = dict[str, Any]


class Journal:
    """A journal file that this process holds.

    Args:
        path: The file.
        descriptor: Of the file, locked.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor
        self._ending: Facts | None = None
        self.size = 0
        """Bytes that were written."""

    @classmethod
    def create(cls, directory: Path, identity: Identity, request: Facts, response: Facts, *, keep: bool) -> "Journal":
        """Begin one.

        Args:
            directory: Where journals are; it is made if it is not there.
            identity: The exchange's.
            request: Facts of the request's record, if the worker dies.
            response: Facts of the response's record, if the worker dies.
            keep: Whether the records have bodies.

        Raises:
            OSError: The disk does not take it.
        """
        directory.mkdir(mode=0o700, exist_ok=True)
        path = directory / f"{identity.id.hex}.jsonl"
        unlocked = path.with_suffix(".new")  # not to be found before it is locked
        descriptor = os.open(unlocked, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        journal = cls(path, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            head = {"exchange": identity.id.hex, "received_at": identity.received_at, "keep": keep}
            journal._write(json.dumps({**head, "request": request, "response": response}).encode())
            unlocked.rename(path)
        except BaseException:
            unlocked.unlink(missing_ok=True)
            os.close(descriptor)
            raise
        return journal

    def sync(self) -> None:
        """Let what is written survive a power cut.

        Raises:
            OSError: The disk does not take it.
        """
        os.fsync(self._descriptor)
        directory = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def write(self, side: bytes, line: bytes) -> None:
        """Write a message.

        Args:
            side: c or s: who sent it.
            line: JSON without newline.

        Raises:
            OSError: The disk does not take it.
        """
        self._write(side + line)

    def end(self, request: Facts, response: Facts) -> None:
        """Write what the records will have. `records` knows it also if the disk does not take it.

        Args:
            request: Facts of the request's record.
            response: Facts of the response's record.
        """
        self._ending = {"request": request, "response": response}
        with contextlib.suppress(OSError):
            self._write(b"e" + json.dumps(self._ending).encode())

    def _write(self, line: bytes) -> None:
        written = os.write(self._descriptor, line + b"\n")
        if written <= len(line):
            os.ftruncate(self._descriptor, os.fstat(self._descriptor).st_size - written)
            raise OSError(f"{written} of {len(line) + 1} bytes were written")
        self.size += written

    def records(self) -> tuple[Record, Record]:
        """Make the request's and the response's record of what is written.

        Raises:
            OSError: It cannot be read.
            ValueError: It is damaged.
        """
        content = os.pread(self._descriptor, os.fstat(self._descriptor).st_size, 0)
        head, *lines = content.split(b"\n")[:-1]  # behind the last newline is what a dying worker left half written
        facts = json.loads(head)
        asked = [line[1:] for line in lines if line[:1] == b"c"]
        answered = [line[1:] for line in lines if line[:1] == b"s"]
        bodies = [b"".join(message + b"\n" for message in messages) for messages in (asked, answered)]
        identity = Identity(UUID(hex=facts["exchange"]), facts["received_at"])
        if self._ending is not None:
            facts |= self._ending
        elif lines and lines[-1][:1] == b"e":
            facts |= json.loads(lines[-1][1:])
        else:
            facts["request"]["size"], facts["response"]["size"] = map(len, bodies)
            if lines:  # as far as is known, it lasted until its last message
                facts["response"]["duration_ms"] = json.loads(lines[-1][1:])["at_ms"]
        request, response = (body if facts["keep"] else None for body in bodies)
        return (
            identity.record("request", facts["request"], request),
            identity.record("response", facts["response"], response),
        )

    def remove(self) -> None:
        """Forget it: the spool has it."""
        self._path.unlink(missing_ok=True)
        self.release()

    def release(self) -> None:
        """Leave it to whoever finds it."""
        os.close(self._descriptor)

    def set_aside(self) -> Path:
        """Let nobody find it again; gives its new name."""
        name = self._path.rename(self._path.with_suffix(".damaged"))
        self.release()
        return name


def left_behind(directory: Path) -> Iterator[Journal]:
    """Find the journals that nobody holds, and hold each.

    Args:
        directory: Where journals are.
    """
    for path in sorted(directory.glob("*.jsonl")):
        with contextlib.suppress(FileNotFoundError):  # another worker was faster
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.stat()  # locked after another one has removed it?
            except (BlockingIOError, FileNotFoundError):
                os.close(descriptor)
                continue
            yield Journal(path, descriptor)
