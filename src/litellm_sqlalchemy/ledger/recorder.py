"""Makes a worker's records durable, and knows what becomes of an answer whose record cannot be."""

import asyncio
import dataclasses
import itertools
import logging
import time
from collections import deque
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from litellm_sqlalchemy.ledger import metrics
from litellm_sqlalchemy.ledger.journal import Journal, left_behind
from litellm_sqlalchemy.ledger.spool import Record, SpoolError
from litellm_sqlalchemy.ledger.writer import SpoolWriter

LONGEST_HOLD_SECONDS = 5.0  # of an answer that may go out unrecorded: a disk may also hang
ALONE_SECONDS = 0.002  # for which the loop waits for the disk: several commits of a fast one
LAST_RECORDS_SECONDS = 5.0  # at shutdown
RETRY_SECONDS = 1.0
RETRIED_AT_ONCE = 100
MOST_OWED = 5_000  # records without bodies, some kilobytes each
LOG_SECONDS = 10.0

log = logging.getLogger("litellm_sqlalchemy.ledger")


class Recorder:
    """What all exchanges of a worker share.

    Args:
        writer: The spool's.
        measured: Where the exchanges are counted.
        journals: Directory of the WebSockets' journals.
        serve_unrecorded: Whether an answer goes out although it cannot be recorded.
    """

    def __init__(
        self, writer: SpoolWriter, measured: metrics.Metrics, journals: Path, *, serve_unrecorded: bool
    ) -> None:
        self._writer = writer
        self.metrics = measured
        self.journals = journals
        self.serve_unrecorded = serve_unrecorded
        self._tasks: set[asyncio.Task[Any]] = set()
        self._owed: deque[Record] = deque()
        self._are_left_behind = True  # journals, perhaps, by workers before this one
        self._retrying = asyncio.ensure_future(self._retry())
        self._unrecorded = 0  # since the last line in the log
        self._logged = float("-inf")

    @property
    def worker(self) -> str:
        """Name of the worker's lock file."""
        return self._writer.worker

    def append(self, *records: Record, lazily: bool = False) -> asyncio.Future[None]:
        """Append records to the spool (`SpoolWriter.append`).

        Args:
            records: What to store.
            lazily: Whether nobody waits for it.
        """
        return self._writer.append(*records, lazily=lazily)

    async def is_refusing(self) -> bool:
        """Say whether to refuse a request at once, before the model is asked for an answer that nobody will get."""
        if self.serve_unrecorded or not self._writer.failed:
            return False
        try:
            await self._writer.append()  # the last write failed: does the disk take one now?
        except SpoolError:
            return True
        return False

    async def hold(self, storing: Coroutine[Any, Any, None], *sent: asyncio.Future[None]) -> None:
        """Wait while a record is made durable, also when who waits is cancelled: that is told when it is.

        If no other exchange is open that would be kept waiting, the loop waits for the disk as well: else what LiteLLM
        does after an answer, which takes longer than most disks, would come before the answer's end.

        Args:
            storing: What makes it durable.
            sent: What `append` has given for it already, in that order.

        Raises:
            SpoolError: What it raised.
            CancelledError: Who waits was cancelled; the record is durable, or takes too long.
        """
        began = time.perf_counter()
        if sent and len(self._tasks) == 1:
            self._writer.wait(sent[-1], ALONE_SECONDS)
        try:
            if sent and all(one.done() and one.exception() is None for one in sent):  # then it waits for nothing
                await storing
                return
            await self.finish_work(storing, LONGEST_HOLD_SECONDS if self.serve_unrecorded else None)
        finally:
            self.metrics.observe(metrics.HELD_SECONDS, time.perf_counter() - began)

    async def finish_work(self, work: Coroutine[Any, Any, None], seconds: float | None = None) -> None:
        """Do work, and wait for its end although who waits is cancelled.

        Args:
            work: For example the storing of a record. It is done to its end in any case.
            seconds: How long it is waited for at most.

        Raises:
            Exception: What it raised.
            CancelledError: Who waits was cancelled meanwhile.
        """
        task = self.to_the_end(work)
        give_up = None if seconds is None else time.monotonic() + seconds
        cancelled: asyncio.CancelledError | None = None
        while not task.done() and (give_up is None or time.monotonic() < give_up):
            try:
                await asyncio.wait({task}, timeout=give_up and give_up - time.monotonic())
            except asyncio.CancelledError as error:
                cancelled = error
        if task.done():
            task.result()
        if cancelled is not None:
            raise cancelled

    def to_the_end(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start work that nobody's leaving ends; the shutdown waits for it.

        Args:
            work: For example the storing of a record.
        """
        task = asyncio.ensure_future(work)
        self.is_open(task)
        return task

    def is_open(self, task: asyncio.Task[Any]) -> None:
        """Let the shutdown wait for a task.

        Args:
            task: For example that of an exchange.
        """
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def unrecorded(self, reason: SpoolError) -> None:
        """Count an answer that goes out without a record, and say so in the log.

        Args:
            reason: Why there is none.
        """
        self.metrics.add(metrics.UNRECORDED)
        self._unrecorded += 1
        if time.monotonic() - self._logged >= LOG_SECONDS:
            self._log_unrecorded(reason)

    def _log_unrecorded(self, reason: SpoolError | None) -> None:
        log.error(
            "action=unrecorded count=%d reason=%s (answers served without a record, as LEDGER_ON_SPOOL_FAILURE=serve "
            "has it)",
            self._unrecorded,
            reason or "as before",
        )
        self._unrecorded, self._logged = 0, time.monotonic()

    def owe(self, *records: Record) -> None:
        """Store records later that could not be stored, without their bodies: as soon as there is room.

        A wrong outcome in the ledger would be worse than a missing body: a request without response counts as
        interrupted. If too many are owed, these are given up.

        Args:
            records: An exchange's.
        """
        if len(self._owed) + len(records) > MOST_OWED:
            return
        self._owed.extend(dataclasses.replace(record, body=None) for record in records)
        self._retry_soon()

    async def spool(self, journal: Journal) -> None:
        """Store what a journal has, and remove it.

        Args:
            journal: Of a WebSocket's session, or part of it.

        Raises:
            SpoolError: It is not stored.
        """
        try:
            records = await asyncio.to_thread(journal.records)
        except OSError as error:
            raise SpoolError(f"cannot read a journal in {self.journals}: {error}") from error
        await self._writer.append(*records)
        await asyncio.to_thread(journal.remove)

    def leave(self, journal: Journal) -> None:
        """Let a journal be spooled later that could not be.

        Args:
            journal: It is on disk; nobody uses it any more.
        """
        journal.release()
        self._are_left_behind = True
        self._retry_soon()

    def _retry_soon(self) -> None:
        if self._retrying.done():
            self._retrying = asyncio.ensure_future(self._retry())

    async def _retry(self) -> None:
        while self._owed or self._are_left_behind:
            await asyncio.sleep(RETRY_SECONDS)
            if not self._owed or await self._pay_some():
                await self._spool_left_behind()

    async def _spool_left_behind(self) -> None:
        self._are_left_behind = False
        try:
            for journal in left_behind(self.journals):
                await self._spool_left(journal)
        except (SpoolError, OSError):
            self._are_left_behind = True

    async def _spool_left(self, journal: Journal) -> None:
        try:
            await self.spool(journal)
        except (ValueError, LookupError, TypeError):
            log.exception("action=set_aside file=%s (a WebSocket's journal that cannot be read)", journal.set_aside())
        except BaseException:
            journal.release()
            self._are_left_behind = True
            raise

    async def _pay_some(self) -> bool:
        some = tuple(itertools.islice(self._owed, RETRIED_AT_ONCE))
        try:
            await self._writer.append(*some)
        except SpoolError:
            return False
        for _ in some:
            self._owed.popleft()
        return True

    async def finish(self) -> None:
        """Let open exchanges come to their records: what the server has cancelled says so there."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=LAST_RECORDS_SECONDS)

    async def close(self) -> None:
        """Store what is owed, if that is possible, then close the spool."""
        self._retrying.cancel()
        while self._owed and await self._pay_some():
            pass
        if self._owed:
            log.error("action=given_up count=%d (records that the spool did not take)", len(self._owed))
        if self._unrecorded:
            self._log_unrecorded(None)
        self._writer.close()
        self.metrics.close()
