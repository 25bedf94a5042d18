"""The command `litellm-sqlalchemy`: the drain's service, the doctor, and what a person asks of the ledger.

Thin: what a command does is in the module that it calls.
"""

import contextlib
import dataclasses
import datetime as dt
import importlib.metadata
import json
import logging
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn

import psycopg2.extensions
import typer
from sqlalchemy import Engine, text

from litellm_sqlalchemy import database
from litellm_sqlalchemy.ledger import exchanges, exporter, locks, upkeep
from litellm_sqlalchemy.ledger import status as ledger_status
from litellm_sqlalchemy.ledger.drain import Drain
from litellm_sqlalchemy.ledger.exporter import DrainMetrics
from litellm_sqlalchemy.ledger.metrics import Metrics
from litellm_sqlalchemy.ledger.policy import Redactor
from litellm_sqlalchemy.ledger.rows import RowMaker
from litellm_sqlalchemy.ledger.spool import Spool, SpoolError
from litellm_sqlalchemy.settings import CaptureSettings, DrainSettings, load

COULD_NOT = PROBLEM = 1  # exit code: database, spool or file; what the doctor found
WRONG = 2  # arguments or settings
NOT_FOUND = ATTENTION = 3
PROGRESS_SECONDS = 10.0
FOLLOWING = "Following what ends from now on; Ctrl-C ends this."
EXIT_CODES = """
Exit codes: 0 done; 1 it could not be done (database, spool, file), or (doctor) there is a problem; 2 wrong arguments or
settings; 3 not found, or (status, replay, wait) something wants a person; 130 interrupted by Ctrl-C.
"""

app = typer.Typer(
    help="The ledger of LiteLLM's exchanges (settings: environment variables LEDGER_*), and what LiteLLM needs.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
ledger = typer.Typer(help="Look into the ledger, and look after it.", epilog=EXIT_CODES, no_args_is_help=True)
app.add_typer(ledger, name="ledger")


@app.command()
def drain() -> None:
    """Move what the gateway has spooled into the database, until SIGTERM."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    settings = load(DrainSettings)
    spool = _open_spool(settings)
    if (lock := locks.take(settings.spool_path.parent / locks.DRAIN)) is None:
        _fail(f"another drain is at work on {settings.spool_path}: stop that one first, or let it do the work")
    service = Drain(
        spool,
        _engine(settings, "ledger-drain"),
        batch_records=settings.batch_records,
        batch_bytes=settings.batch_bytes,
        rows=RowMaker(settings.policies, Redactor(settings.redactions)),
        metrics=DrainMetrics(Metrics(settings.metrics_directory), settings.spool_max_bytes, settings.spool_alarm_ratio),
    )
    sys.setswitchinterval(0.0005)  # seconds: the thread that stores must not wait for the one that makes rows
    # Signals are waited for, not handled: a handler that sets an event may find its lock held by what it interrupts.
    stopping = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, stopping)  # before there are threads: they take it over
    if settings.metrics_directory is not None and settings.metrics_port:
        exporter.serve(settings.metrics_directory, settings.metrics_port)
    with ThreadPoolExecutor(max_workers=1) as pool:
        running = pool.submit(service.run)
        running.add_done_callback(lambda _: os.kill(os.getpid(), signal.SIGTERM))
        signal.sigwait(stopping)
        service.stop()
        running.result()
    os.close(lock)


CHECK = text("""
SELECT current_setting('server_version') AS server,
       host(inet_server_addr()) || ':' || inet_server_port() AS address,
       host(inet_client_addr()) AS client_address,
       current_user AS user,
       current_database() AS database,
       CASE WHEN ssl THEN version || ', ' || cipher ELSE 'none' END AS tls,
       (SELECT count(*) FROM requests) AS requests,
       (SELECT count(*) FROM responses) AS responses
FROM pg_stat_ssl WHERE pid = pg_backend_pid()
""")


@app.command("check-database")
def check_database(
    *, as_json: Annotated[bool, typer.Option("--json", help="print JSON instead of lines")] = False
) -> None:
    """Connect as the drain does and print what answers: versions, address, user, TLS, the tables' rows."""
    settings = load(DrainSettings)
    with _database(settings, "check-database") as engine, engine.connect() as connection:
        answer = {
            "driver": f"psycopg2 {importlib.metadata.version('psycopg2-binary')}",
            "libpq": str(psycopg2.extensions.libpq_version()),
            **connection.execute(CHECK).mappings().one(),
        }
    if as_json:
        typer.echo(json.dumps(answer))
    else:
        for name, value in answer.items():
            typer.echo(f"{name + ':':16}{value}")


@app.command()
def doctor(*, as_json: Annotated[bool, typer.Option("--json", help="print JSON instead of lines")] = False) -> None:
    """Say whether LiteLLM finds here all that it needs to run without Prisma, and what to do about what it does not.

    Looks at what is installed, at DATABASE_URL (and DATABASE_URL_READ_REPLICA), and at the database; changes nothing.
    Ends with 1 if there is a problem. A warning is nothing that LiteLLM would stop at.
    """
    from litellm_sqlalchemy.doctor import examine  # noqa: PLC0415 - nobody else needs what it needs

    findings = []
    for finding in examine(os.environ):
        findings.append(finding)
        if not as_json:
            typer.echo(finding.lines())
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(finding) for finding in findings]))
    if any(finding.level == "problem" for finding in findings):
        raise typer.Exit(PROBLEM)


# --- ledger -----------------------------------------------------------------------------------------------------


@ledger.callback()
def interruptible() -> None:
    """Have Ctrl-C end any of these commands at once."""
    database.make_interruptible()
    # Where Ctrl-C meets the pool at its work, that logs it, and raises it as well.
    logging.getLogger("sqlalchemy.pool").addHandler(logging.NullHandler())


@ledger.command()
def status(*, as_json: Annotated[bool, typer.Option("--json", help="print JSON instead of lines")] = False) -> None:
    """Say what waits in the spool and how fast it goes, what is set aside, and whether there are partitions.

    Ends with 3 if something wants a person: the spool's alarm, records set aside or waiting for more than 15 minutes,
    rows in a default partition, no partition for the coming day.
    """
    settings = load(DrainSettings)
    with _spool(settings) as spool:
        found = ledger_status.spool_status(spool, settings.spool_max_bytes, settings.spool_alarm_ratio)
    engine = _engine(settings, "ledger-status")
    try:
        with engine.connect() as connection:
            found = dataclasses.replace(found, partitions=ledger_status.partitions(connection))
    except database.ERRORS as error:
        found = dataclasses.replace(found, database_error=_explain(error, engine))
    found = ledger_status.with_attention(found)
    if as_json:
        typer.echo(json.dumps(dataclasses.asdict(found)))
    else:
        typer.echo("\n".join(ledger_status.lines(found)))
    if found.attention:
        raise typer.Exit(ATTENTION)


@ledger.command()
def tail() -> None:
    """Print a line for each exchange that ends, as soon as it is in the database, until Ctrl-C.

    No texts: `ledger show` has them. An exchange that began more than 15 minutes ago is shown only if this has seen
    it begin: after an outage, what the drain brings in late is for `ledger export`.
    """
    settings = load(DrainSettings)
    with _database(settings, "ledger-tail") as engine:
        for exchange in exchanges.follow(engine, lambda: typer.echo(FOLLOWING, err=True)):
            typer.echo(exchanges.line(exchange))


class Half(StrEnum):
    """A half of an exchange."""

    REQUEST = "request"
    RESPONSE = "response"


@ledger.command()
def show(
    identifier: Annotated[str, typer.Argument(metavar="ID", help="an exchange's id, or x-litellm-call-id")],
    *,
    body: Annotated[
        Half | None, typer.Option(help="write only this body, byte for byte as it is stored, to standard output")
    ] = None,
) -> None:
    """Show one exchange: who, what, how long, headers and bodies; a streamed answer put together."""
    settings = load(DrainSettings)
    with _database(settings, "ledger-show") as engine, engine.connect() as connection:
        found = exchanges.find(connection, identifier)
        if not found:
            _fail(
                f"no exchange with id or call id {identifier} is in the database; it may still be in the spool "
                "(ledger status), or older than what is kept",
                NOT_FOUND,
            )
        if len(found) > 1:
            others = ", ".join(str(other["id"]) for other in found[1:])
            typer.echo(f"litellm-sqlalchemy: this is the newest with that call id; the others: {others}", err=True)
        if body is None:
            typer.echo("\n".join(exchanges.report(connection, found[0])))
            return
        row = exchanges.half(connection, found[0], body)
        content = None if row is None else exchanges.raw_body(row)
    if content is None:
        _fail(f"the {body} of {identifier} has no body in the database", NOT_FOUND)
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()


class Format(StrEnum):
    """A format of `export`."""

    JSONL = "jsonl"
    PARQUET = "parquet"


def _moment(value: str) -> dt.datetime:
    ago = re.fullmatch(r"([0-9]+)([smhd])", value)
    if ago:
        unit = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}[ago[2]]
        return dt.datetime.now(dt.UTC) - dt.timedelta(**{unit: int(ago[1])})
    try:
        found = dt.datetime.fromisoformat(value)
    except ValueError:
        raise typer.BadParameter(
            f"{value!r} is neither a time (2026-11-28, 2026-11-28T01:30:00Z) nor a time ago (90s, 30m, 2h, 3d)"
        ) from None
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)


@ledger.command()
def export(
    since: Annotated[
        dt.datetime,
        typer.Option(
            parser=_moment, metavar="TIME", help="from here on: ISO 8601 (UTC unless it says) or ago (2h, 3d)"
        ),
    ],
    until: Annotated[
        dt.datetime | None, typer.Option(parser=_moment, metavar="TIME", help="up to here, itself not included [now]")
    ] = None,
    output_format: Annotated[
        Format, typer.Option("--format", help="JSON Lines, or Apache Parquet for analysis")
    ] = Format.JSONL,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="appears when it is complete [standard output, jsonl only]")
    ] = None,
) -> None:
    """Write the exchanges whose requests arrived in a span of time, with all that the ledger has of them."""
    from litellm_sqlalchemy.ledger import export as ledger_export  # noqa: PLC0415 - nobody else needs what it needs

    end = until or dt.datetime.now(dt.UTC)
    if since >= end:
        _fail(f"--since ({since.isoformat()}) must be before --until ({end.isoformat()})", WRONG)
    if output is None and output_format is Format.PARQUET:
        _fail("Parquet needs --output FILE: it cannot be written to standard output", WRONG)
    settings = load(DrainSettings)
    try:
        with _database(settings, "ledger-export") as engine, _progress(since, end) as advance:
            for count, reached in ledger_export.export(
                engine, since, end, ledger_export.FORMATS[output_format], output
            ):
                advance(count, reached)
    except BrokenPipeError:
        raise  # whoever read has had enough: typer ends without a word
    except OSError as error:
        _fail(
            f"cannot write {output or 'standard output'}: {error.strerror}. Name a file in a directory with room that "
            "the user of this command may write"
        )


@ledger.command("set-aside")
def set_aside(
    *,
    move_to: Annotated[
        Path | None, typer.Option(metavar="FILE", help="write them to a new file as JSON Lines, and give them up")
    ] = None,
) -> None:
    """List the records that PostgreSQL has refused, and what it said.

    Those for which nothing can be done (its request is not in the database any more, say) can be moved to a file:
    then nobody is alarmed any longer, and the file has all of them, bodies included.
    """
    with _spool(load(CaptureSettings)) as spool:
        if move_to is None:
            for record, rejected_at, reason in spool.rejected():
                moment = dt.datetime.fromtimestamp(rejected_at, dt.UTC)
                typer.echo(f"{moment:%Y-%m-%d %H:%M:%S} {record.kind:8} {record.exchange} {reason}")
            return
        try:
            count = upkeep.move_set_aside(spool, move_to)
        except OSError as error:
            _fail(
                f"cannot write {move_to}: {error.strerror}; nothing is moved. Name a file that is not there, in a "
                "directory with room that the user of this command may write"
            )
    typer.echo(f"{count:,} records moved to {move_to}")


@ledger.command()
def replay() -> None:
    """Have the drain try again what PostgreSQL has refused, and say what becomes of it within a minute.

    Ends with 3 if something is refused again: `ledger set-aside` says why.
    """
    with _spool(load(CaptureSettings)) as spool:
        done = upkeep.replay(spool)
    typer.echo(
        f"{done.stored:,} stored, {done.rejected:,} set aside again, {done.waiting:,} still waiting for the drain"
    )
    if done.rejected:
        raise typer.Exit(ATTENTION)


@ledger.command()
def wait(
    end_user: Annotated[str, typer.Option(metavar="NAME", help="as requests or LiteLLM name the end user")],
) -> None:
    """Wait for up to a minute until all that an end user has asked so far is in the database, and answered.

    Before they are forgotten, which is done on the database's host (playbooks/forget.yml). Ends with 3 if records are
    set aside, which may be theirs.
    """
    if not end_user:
        _fail("--end-user is empty: name the end user", WRONG)
    settings = load(DrainSettings)
    with _database(settings, "ledger-wait") as engine, _spool(settings) as spool:
        try:
            upkeep.wait_for_spool(spool, engine, end_user)
        except upkeep.StillWaitingError as problem:
            _fail(f"{problem}. See to it that the drain gets on (ledger status), and try again")
        rejected = spool.status().rejected
    if rejected:
        _fail(
            f"{rejected:,} records are set aside in the spool, and some may be theirs: ledger replay, then try again",
            ATTENTION,
        )


# --- what the commands share ------------------------------------------------------------------------------------


@contextlib.contextmanager
def _progress(since: dt.datetime, until: dt.datetime) -> Iterator[Callable[[int, dt.datetime], None]]:
    """Tell on standard error how far it is: a bar on a terminal, else a line now and then."""
    count, told = 0, time.monotonic()
    if sys.stderr.isatty():
        seconds = int((until - since).total_seconds())
        with typer.progressbar(length=seconds, file=sys.stderr, label="exporting") as bar:

            def advance(written: int, reached: dt.datetime) -> None:
                nonlocal count
                count = written
                bar.update(int((reached - since).total_seconds()) - bar.pos)

            yield advance
            bar.update(seconds - bar.pos)
    else:

        def advance(written: int, reached: dt.datetime) -> None:
            nonlocal count, told
            count = written
            if time.monotonic() - told >= PROGRESS_SECONDS:
                told = time.monotonic()
                typer.echo(f"{written:,} exchanges, up to {reached.astimezone(dt.UTC):%Y-%m-%d %H:%M:%S} UTC", err=True)

        yield advance
    typer.echo(f"{count:,} exchanges exported", err=True)


@contextlib.contextmanager
def _spool(settings: CaptureSettings) -> Iterator[Spool]:
    """Open the spool of the services; make none."""
    if not settings.spool_path.exists():  # who asks may be root: the file would be root's
        _fail(f"there is no spool {settings.spool_path}: it is made when the gateway or the drain starts")
    with contextlib.closing(_open_spool(settings)) as spool:
        yield spool


def _open_spool(settings: CaptureSettings) -> Spool:
    try:
        return Spool(settings.spool_path)
    except SpoolError as error:
        _fail(str(error))


@contextlib.contextmanager
def _database(settings: DrainSettings, application_name: str) -> Iterator[Engine]:
    """Use the database; end the command with what it says if it does not do what it is asked."""
    engine = _engine(settings, application_name)
    try:
        yield engine
    except database.ERRORS as error:
        _fail(_explain(error, engine))
    finally:
        engine.dispose()


def _explain(error: Exception, engine: Engine) -> str:
    if database.sqlstate(error):
        return f"the query failed: {database.one_line(error)}"
    return database.explain_no_connection(error, engine.url)


def _engine(settings: DrainSettings, application_name: str) -> Engine:
    return database.engine(
        host=settings.database_host,
        port=settings.database_port,
        database=settings.database_name,
        user=settings.database_user,
        password=settings.database_password.get_secret_value(),
        tls=settings.tls,
        application_name=application_name,
    )


def _fail(message: str, code: int = COULD_NOT) -> NoReturn:
    typer.echo(f"litellm-sqlalchemy: {message}", err=True)
    raise typer.Exit(code)


if __name__ == "__main__":
    app()
