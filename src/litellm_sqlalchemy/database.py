"""Connections to PostgreSQL, as db_init.py, the drain and `check-database` make them: SQLAlchemy over psycopg2."""

import contextlib
import select
import socket
from dataclasses import asdict

import psycopg2
import psycopg2.extensions
from sqlalchemy import URL, Engine, create_engine
from sqlalchemy.exc import DBAPIError

from litellm_sqlalchemy.tls import TLS

CONNECT_TIMEOUT_SECONDS = 5


def engine(*, host: str, port: int, database: str, user: str, password: str, tls: TLS, application_name: str) -> Engine:
    """Make an engine that holds at most one connection and finds out within seconds that its server is gone.

    Args:
        host: PostgreSQL's address.
        port: Its port.
        database: Database to connect to.
        user: Role to connect as.
        password: The role's password.
        tls: How the two sides prove who they are.
        application_name: What pg_stat_activity shows.
    """
    url = URL.create("postgresql+psycopg2", user, password, host, port, database)
    return create_engine(
        url,
        pool_size=1,
        pool_pre_ping=True,
        pool_recycle=3600,  # seconds: temporary tables that live for months would hold back vacuum's freezing
        max_overflow=0,
        hide_parameters=True,  # an error must not carry bodies into the log
        connect_args={
            **asdict(tls),
            "channel_binding": tls.channel_binding,
            "application_name": application_name,
            "connect_timeout": CONNECT_TIMEOUT_SECONDS,
            "keepalives_idle": 10,  # seconds
            "keepalives_interval": 5,  # seconds
            "keepalives_count": 3,
            "tcp_user_timeout": 20_000,  # milliseconds that sent data may stay unacknowledged
        },
    )


def make_interruptible() -> None:
    """Let Ctrl-C end queries at once, in all of the process: psycopg2 waits for their answers first. COPY cannot be."""
    psycopg2.extensions.set_wait_callback(_wait)


def _wait(connection: psycopg2.extensions.connection) -> None:
    # Like this, libpq does not know of its connect_timeout.
    connecting = connection.status == psycopg2.extensions.STATUS_SETUP
    try:
        while (state := connection.poll()) != psycopg2.extensions.POLL_OK:
            files = ([connection], []) if state == psycopg2.extensions.POLL_READ else ([], [connection])
            if not any(select.select(*files, [], CONNECT_TIMEOUT_SECONDS if connecting else None)):
                raise psycopg2.OperationalError("timeout expired")
    except KeyboardInterrupt:
        with contextlib.suppress(psycopg2.Error):  # not connected yet
            connection.cancel()
        raise


ERRORS = (DBAPIError, psycopg2.Error)
"""What PostgreSQL may raise: SQLAlchemy's wrapper, or the driver's own error where it runs no statement (COPY)."""


def _cause(error: BaseException) -> BaseException:
    return error.orig if isinstance(error, DBAPIError) and error.orig is not None else error


def sqlstate(error: BaseException) -> str | None:
    """Give PostgreSQL's code of an error; None if it is not PostgreSQL's, for example without a connection.

    Args:
        error: One of `ERRORS`.
    """
    code: str | None = getattr(_cause(error), "pgcode", None)
    return code


def one_line(error: BaseException) -> str:
    """Say in one line what PostgreSQL, its driver or the system said.

    Args:
        error: What was raised; of SQLAlchemy's wrappers the driver's own error is told, and of PostgreSQL's errors only
            the message: their details and context have pieces of rows, which are what users wrote.
    """
    cause = _cause(error)
    message = getattr(getattr(cause, "diag", None), "message_primary", None) or str(cause)
    return " ".join(message.split()) or type(cause).__name__


def explain_no_connection(error: Exception, url: URL) -> str:
    """Say in one line why there is no connection, and what to do about it.

    libpq gives no SQLSTATE for a connection that failed, and its texts are translated: so a connection without
    PostgreSQL tells the network's faults from PostgreSQL's refusals.

    Args:
        error: What the attempt raised.
        url: Where it was made to; its password is not repeated.
    """
    target = f"PostgreSQL at {url.host}:{url.port}"
    try:
        socket.create_connection((url.host or "", url.port or 5432), timeout=5).close()
    except OSError as problem:
        return (
            f"cannot reach {target}: {problem}. Check host and port, that PostgreSQL runs there "
            "(systemctl status postgresql) and listens on that address, and the firewalls between"
        )
    return (
        f"{target} refuses role {url.username} on database {url.database}: {one_line(error)}. Check the role, its "
        "password and its certificate, the database, pg_hba.conf and sslmode"
    )
