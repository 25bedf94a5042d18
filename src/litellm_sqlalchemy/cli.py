"""The command `litellm-sqlalchemy`: the drain's service, and what a person asks of it."""

import contextlib
import importlib.metadata
import json
import logging
import os
import signal
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, NoReturn

import psycopg2.extensions
import typer
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from litellm_sqlalchemy import database
from litellm_sqlalchemy.ledger import exporter, locks
from litellm_sqlalchemy.ledger.drain import Drain
from litellm_sqlalchemy.ledger.exporter import DrainMetrics
from litellm_sqlalchemy.ledger.metrics import Metrics
from litellm_sqlalchemy.ledger.policy import Redactor
from litellm_sqlalchemy.ledger.rows import RowMaker
from litellm_sqlalchemy.ledger.spool import Spool, SpoolError
from litellm_sqlalchemy.settings import CaptureSettings, DrainSettings, load

NOT_USABLE = 1  # exit code: spool or database; wrong settings have 2

app = typer.Typer(
    help="The ledger of LiteLLM's exchanges. Settings come from environment variables LEDGER_*.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


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


@app.command()
def status() -> None:
    """Print as JSON how much waits in the spool.

    records: not yet in the database; oldest_age_seconds: of the oldest of them, null if there is none; rejected: set
    aside because PostgreSQL refuses them; bytes: the spool's size.
    """
    settings = load(CaptureSettings)
    if not settings.spool_path.exists():  # who asks may be root: the file would be root's
        _fail(f"there is no spool {settings.spool_path}: it is made when the gateway or the drain starts")
    with contextlib.closing(_open_spool(settings)) as spool:
        found = spool.status()
    oldest = found.oldest_received_at
    report: dict[str, Any] = {
        "records": found.records,
        "oldest_age_seconds": None if oldest is None else round(time.time() - oldest / 1e6, 3),
        "rejected": found.rejected,
        "bytes": found.bytes,
    }
    typer.echo(json.dumps(report))


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
    engine = _engine(settings, "check-database")
    try:
        with engine.connect() as connection:
            answer = {
                "driver": f"psycopg2 {importlib.metadata.version('psycopg2-binary')}",
                "libpq": str(psycopg2.extensions.libpq_version()),
                **connection.execute(CHECK).mappings().one(),
            }
    except DBAPIError as error:
        _fail(
            f"the query failed: {database.one_line(error)}"
            if database.sqlstate(error)
            else database.explain_no_connection(error, engine.url)
        )
    if as_json:
        typer.echo(json.dumps(answer))
    else:
        for name, value in answer.items():
            typer.echo(f"{name + ':':16}{value}")


def _open_spool(settings: CaptureSettings) -> Spool:
    try:
        return Spool(settings.spool_path)
    except SpoolError as error:
        _fail(str(error))


def _engine(settings: DrainSettings, application_name: str) -> Engine:
    return database.engine(
        host=settings.database_host,
        port=settings.database_port,
        database=settings.database_name,
        user=settings.database_user,
        password=settings.database_password.get_secret_value(),
        sslmode=settings.database_sslmode,
        application_name=application_name,
    )


def _fail(message: str) -> NoReturn:
    typer.echo(f"litellm-sqlalchemy: {message}", err=True)
    raise typer.Exit(NOT_USABLE)


if __name__ == "__main__":
    app()
