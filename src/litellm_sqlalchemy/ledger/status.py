"""How the ledger is: what waits in the spool and how fast it goes, what is set aside, whether there are partitions."""

import dataclasses
import time
from dataclasses import dataclass

from sqlalchemy import Connection, text

from litellm_sqlalchemy.ledger.spool import Spool, SpoolStatus

LOOK_SECONDS = 1.0  # between the two looks that the speed is taken from
LONG_WAITING_SECONDS = 900
MOST_COUNTED_ROWS = 10_000
PARTITIONED = ("requests", "responses", "usages")

DAYS_AHEAD = text("""
SELECT coalesce(max(extract(epoch FROM upper_bound::timestamptz - now()) / 86400), 0)::float8
  FROM pg_inherits
  JOIN pg_class ON pg_class.oid = inhrelid
  CROSS JOIN LATERAL substring(pg_get_expr(relpartbound, pg_class.oid) FROM 'TO \\(''([^'']+)''\\)') AS upper_bound
 WHERE inhparent = to_regclass(:table)
""")
DEFAULT_ROWS = "SELECT count(*) FROM (SELECT 1 FROM {table}_default LIMIT :most) AS found"


@dataclass(frozen=True, slots=True, kw_only=True)
class Partitions:
    """A table's partitions.

    Attributes:
        days_ahead: Days from now on for which there are partitions.
        default_rows: Rows in the default partition, counted up to 10,000: none should be there.
    """

    days_ahead: float
    default_rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What `ledger status` reports.

    Attributes:
        records: Records in the spool, not yet in the database.
        oldest_age_seconds: Since the request of the oldest of them arrived; None if there is none.
        records_per_second: How much faster the spool empties than it fills; negative: it grows. None if nothing waits.
        catch_up_seconds: Until it is empty at that speed, to the order of magnitude; None if it does not shrink.
        rejected: Records set aside because PostgreSQL refuses them.
        open: Exchanges whose requests are in the database and whose responses have not come.
        bytes: Size of the spool.
        limit_bytes: The largest it may get, by its setting or because its disk has no more.
        alarm: Whether it has reached the part of that from which on there is an alarm.
        database_error: Why the database could not be asked; None if it was.
        partitions: By table; None if the database could not be asked.
        attention: What wants a person, in words; empty if all is well.
    """

    records: int
    oldest_age_seconds: float | None
    records_per_second: float | None
    catch_up_seconds: float | None
    rejected: int
    open: int
    bytes: int
    limit_bytes: int
    alarm: bool
    database_error: str | None = None
    partitions: dict[str, Partitions] | None = None
    attention: tuple[str, ...] = ()


def spool_status(spool: Spool, max_bytes: int, alarm_ratio: float) -> Status:
    """Look at the spool; twice, if something waits there.

    Args:
        spool: Where.
        max_bytes: The largest it may get; 0: as large as the disk.
        alarm_ratio: Part of that from which on there is an alarm; 0: none.
    """
    found = spool.status()
    speed = catch_up = None
    if found.records:
        speed, found = _speed(spool, found)
        catch_up = found.records / speed if speed > 0 else None
    oldest = found.oldest_received_at
    return Status(
        records=found.records,
        oldest_age_seconds=None if oldest is None else round(time.time() - oldest / 1e6, 3),
        records_per_second=None if speed is None else round(speed, 1),
        catch_up_seconds=None if catch_up is None else round(catch_up, 1),
        rejected=found.rejected,
        open=len(spool.open_exchanges()),
        bytes=found.bytes,
        limit_bytes=found.limit(max_bytes),
        alarm=found.is_filling(max_bytes, alarm_ratio),
    )


def _speed(spool: Spool, before: SpoolStatus) -> tuple[float, SpoolStatus]:
    began = time.monotonic()
    time.sleep(LOOK_SECONDS)
    after = spool.status()
    return (before.records - after.records) / (time.monotonic() - began), after


def partitions(connection: Connection) -> dict[str, Partitions]:
    """Look at the tables' partitions.

    Args:
        connection: To the database.
    """
    found = {}
    for table in PARTITIONED:
        default_rows = text(DEFAULT_ROWS.format(table=table))
        found[table] = Partitions(
            days_ahead=round(connection.execute(DAYS_AHEAD, {"table": table}).scalar_one(), 2),
            default_rows=connection.execute(default_rows, {"most": MOST_COUNTED_ROWS}).scalar_one(),
        )
    return found


def with_attention(status: Status) -> Status:
    """Add what wants a person.

    Args:
        status: With all that is known.
    """
    found = []
    if status.alarm:
        found.append(f"the spool has {_size(status.bytes)} of the {_size(status.limit_bytes)} that it may have")
    if (status.oldest_age_seconds or 0) > LONG_WAITING_SECONDS:
        found.append(f"the oldest record has waited for {_time(status.oldest_age_seconds or 0)}")
    if status.rejected:
        found.append(f"{status.rejected:,} records are set aside: PostgreSQL refuses them")
    for table, has in (status.partitions or {}).items():
        if has.default_rows:
            found.append(f"{table}_default has rows: days without a partition of their own")
        if has.days_ahead < 1:
            found.append(f"{table} has no partition for the coming day")
    return dataclasses.replace(status, attention=tuple(found))


def lines(status: Status) -> list[str]:
    """Write a status for a person.

    Args:
        status: What was found.
    """
    waiting = f"{status.records:,} records"
    if status.oldest_age_seconds is not None:
        waiting += f", the oldest for {_time(status.oldest_age_seconds)}"
    speed = "nothing waits"
    if status.records_per_second is not None:
        direction = "shrinks" if status.records_per_second > 0 else "grows"
        speed = f"{direction} by {abs(status.records_per_second):,.0f} records/s"
        if status.catch_up_seconds is not None:
            speed += f", empty in about {_time(status.catch_up_seconds)}"
    table = {
        "waiting": waiting,
        "speed": speed,
        "set aside": f"{status.rejected:,} records",
        "open": f"{status.open:,} exchanges without their end so far",
        "spool": f"{_size(status.bytes)} of {_size(status.limit_bytes)}",
        "database": f"cannot be asked: {status.database_error}" if status.database_error else "answers",
    }
    for name, has in (status.partitions or {}).items():
        table[name] = f"days ahead {has.days_ahead:.1f}, rows in the default partition {has.default_rows:,}"
    return [f"{name + ':':12}{value}" for name, value in table.items()] + [
        f"attention:  {problem}" for problem in status.attention or ("none",)
    ]


def _size(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024 or unit == "GiB":
            break
        count /= 1024
    return f"{count:,.0f} {unit}" if unit == "bytes" else f"{count:,.1f} {unit}"


def _time(seconds: float) -> str:
    for unit, length in (("days", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:,.0f} {unit}"
    return f"{seconds:,.1f} s"
