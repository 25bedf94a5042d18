"""SQLAlchemy's pool of connections for a database's URL, by either driver."""

import contextlib
import os
import ssl
import tempfile
from typing import Any

from sqlalchemy import URL, Engine, create_engine, event
from sqlalchemy.engine.interfaces import DBAPIConnection

from litellm_sqlalchemy.prisma_client.database_url import DatabaseURL, DatabaseURLError
from litellm_sqlalchemy.prisma_client.raw_sql import Driver
from litellm_sqlalchemy.prisma_client.values import JSONText

APPLICATION_NAME = "litellm-prisma"
FOR_EVER_SECONDS = 10.0**9  # what a pool takes for no limit


def server(url: DatabaseURL) -> str:
    """Name the server, for messages.

    Args:
        url: Which.
    """
    return ",".join(f"{host}:{port}" for host, port in url.hosts)


def pool_size(url: DatabaseURL) -> int:
    """Say how many connections there are at most: by default Prisma's two for each processor, and one.

    Args:
        url: Which may say it; 0: no limit.
    """
    return url.connection_limit if url.connection_limit is not None else 2 * (os.cpu_count() or 1) + 1


def make_engine(url: DatabaseURL, driver: Driver) -> Engine:
    """Make the pool; it connects when it is used.

    Args:
        url: Where the database is.
        driver: By which it is reached.

    Raises:
        DatabaseURLError: A certificate that it names cannot be read.
    """
    # Not create_async_engine, which imports the ORM: whoever takes a connection brings the greenlet that it takes.
    engine = create_engine(
        URL.create("postgresql+asyncpg" if driver == "asyncpg" else "postgresql+psycopg_async"),
        connect_args=_asyncpg_arguments(url) if driver == "asyncpg" else _psycopg_arguments(url),
        json_deserializer=_json,
        hide_parameters=True,  # which may be secrets, and would be in errors
        pool_size=pool_size(url),
        max_overflow=0,
        pool_timeout=FOR_EVER_SECONDS if url.pool_timeout is None else url.pool_timeout,
        pool_recycle=url.max_connection_lifetime or -1,
        pool_reset_on_return=None,  # who has had a connection leaves it without a transaction
        pool_use_lifo=True,  # those that are not needed become idle, and old
        # psycopg does not notice that a connection is closed before it uses it; asyncpg does.
        pool_pre_ping=driver == "psycopg",
    )
    if driver == "asyncpg":  # SQLAlchemy's codec for JSON, in the place that it has for others
        engine.dialect.setup_asyncpg_jsonb_codec = _take_json_as_text  # type: ignore[attr-defined]
        event.listen(engine, "do_connect", _CurrentCertificates(url))
    else:
        event.listen(engine, "connect", _set_time_zone)
    return engine


def _set_time_zone(connection: DBAPIConnection, _record: object) -> None:
    """Set what libpq has no parameter for, and pgbouncer before 1.20 takes no `options` for; pgbouncer keeps it."""
    cursor = connection.cursor()
    cursor.execute("SET TimeZone TO 'UTC'")
    cursor.close()


async def _take_json_as_text(connection: Any) -> None:
    """Have asyncpg give JSON as a text: whoever makes rows of many reads it in parts, and the event loop goes on."""
    native = connection.driver_connection
    await native.set_type_codec("jsonb", schema="pg_catalog", encoder=str, decoder=JSONText, format="text")


def _json(text: str | bytes) -> JSONText:
    return JSONText(text if isinstance(text, str) else text.decode())


def _settings(url: DatabaseURL) -> dict[str, str]:
    settings = {"application_name": url.application_name or APPLICATION_NAME}
    if url.schema != "public":
        settings["search_path"] = '"' + url.schema.replace('"', '""') + '"'
    return settings


def _asyncpg_arguments(url: DatabaseURL) -> dict[str, Any]:
    if url.channel_binding == "require":
        raise DatabaseURLError(
            "The driver asyncpg cannot bind the password's proof to the TLS connection: leave channel_binding=require "
            "out of the database's URL (sslmode=verify-full keeps others from coming between all the same), or set "
            "PRISMA_CLIENT_DRIVER=psycopg"
        )
    hosts, ports = zip(*url.hosts, strict=True)
    arguments: dict[str, Any] = {
        "host": list(hosts),
        "port": list(ports),
        "user": url.user or None,
        "password": url.password,
        "database": url.database,
        "timeout": url.connect_timeout or FOR_EVER_SECONDS,
        "server_settings": {"TimeZone": "UTC"} | _settings(url) | ({"options": url.options} if url.options else {}),
        "statement_cache_size": 0 if url.pgbouncer else url.statement_cache_size,
        "prepared_statement_cache_size": 0 if url.pgbouncer else url.statement_cache_size,
    }
    if url.target_session_attrs != "any":
        arguments["target_session_attrs"] = url.target_session_attrs
    if url.pgbouncer:  # without a name, a statement leaves nothing in a session that others get next
        arguments["prepared_statement_name_func"] = str
    return arguments


def _psycopg_arguments(url: DatabaseURL) -> dict[str, Any]:
    hosts, ports = zip(*url.hosts, strict=True)
    options = [f"-c {name}={_escaped(value)}" for name, value in _settings(url).items() if name != "application_name"]
    sslmode: str = url.sslmode
    if url.sslaccept == "strict" and sslmode in {"prefer", "require"}:
        sslmode = "verify-full"
    arguments: dict[str, Any] = {
        "host": ",".join(hosts),
        "port": ",".join(map(str, ports)),
        "user": url.user or None,
        "password": url.password,
        "dbname": url.database,
        "connect_timeout": url.connect_timeout or 0,
        "application_name": url.application_name or APPLICATION_NAME,
        "options": " ".join([*options, *filter(None, [url.options])]) or None,
        "sslmode": sslmode,
        "sslrootcert": url.sslrootcert,
        "sslcert": url.sslcert,
        "sslkey": url.sslkey,
        "sslpassword": url.sslpassword,
        "channel_binding": url.channel_binding,
        "target_session_attrs": url.target_session_attrs,
        "autocommit": True,
        "prepare_threshold": None if url.pgbouncer or not url.statement_cache_size else 5,
    }
    if url.sslidentity:
        raise DatabaseURLError("sslidentity of the database's URL needs the driver asyncpg: unset PRISMA_CLIENT_DRIVER")
    return {name: value for name, value in arguments.items() if value is not None or name == "prepare_threshold"}


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace(" ", "\\ ")


class _CurrentCertificates:
    """Gives each new connection the certificates that are in the files now: they are renewed while the process runs.

    Args:
        url: What names the files.

    Raises:
        DatabaseURLError: One cannot be read.
    """

    def __init__(self, url: DatabaseURL) -> None:
        self._url = url
        self._stamps = self._look()
        self._ssl = _ssl(url)

    def __call__(self, _dialect: object, _record: object, _arguments: object, parameters: dict[str, Any]) -> None:
        if (stamps := self._look()) != self._stamps:
            # A file that is being replaced may not fit the others yet: with the next connection it does.
            with contextlib.suppress(DatabaseURLError):
                self._ssl, self._stamps = _ssl(self._url), stamps
        parameters["ssl"] = self._ssl

    def _look(self) -> list[tuple[str, int, int]]:
        stamps = []
        for file in filter(None, (self._url.sslrootcert, self._url.sslcert, self._url.sslkey, self._url.sslidentity)):
            with contextlib.suppress(OSError):
                found = os.stat(file)  # noqa: PTH116 - a Path for each, with each connection
                stamps.append((file, found.st_mtime_ns, found.st_ino))
        return stamps


def _ssl(url: DatabaseURL) -> ssl.SSLContext | str | bool:
    """Make what asyncpg takes for `ssl`."""
    if url.sslmode == "disable":
        return False
    verifies = url.sslaccept == "strict" or url.sslmode in {"verify-ca", "verify-full"}
    if url.sslmode == "prefer" and not verifies and not url.sslidentity and not url.sslkey:
        return "prefer"
    try:
        context = ssl.create_default_context(cafile=url.sslrootcert)
        if url.sslcert:
            context.load_cert_chain(url.sslcert, url.sslkey, url.sslpassword or "")
        if url.sslidentity:
            _load_identity(context, url.sslidentity, url.sslpassword)
    except (OSError, ssl.SSLError, ValueError) as error:
        raise DatabaseURLError(
            f"A certificate that the database's URL names cannot be read ({type(error).__name__}): sslrootcert, "
            "sslcert and sslkey must be files of PEM that this user may read, sslidentity one of PKCS 12; sslpassword "
            "must open what is encrypted"
        ) from None
    context.check_hostname = verifies and url.sslmode != "verify-ca"
    context.verify_mode = ssl.CERT_REQUIRED if verifies else ssl.CERT_NONE
    return context


def _load_identity(context: ssl.SSLContext, file: str, password: str | None) -> None:
    """Load a client's certificate and key; Python's ssl takes them from a file of PEM alone."""
    # Here, as few have one and each import takes memory.
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.serialization import pkcs12  # noqa: PLC0415

    with open(file, "rb") as archive:  # noqa: PTH123
        key, certificate, more = pkcs12.load_key_and_certificates(
            archive.read(), password.encode() if password else None
        )
    if key is None or certificate is None:
        raise ValueError("no key or no certificate in it")
    with tempfile.NamedTemporaryFile(suffix=".pem") as pem:  # readable by its owner only
        pem.write(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        for one in (certificate, *more):
            pem.write(one.public_bytes(serialization.Encoding.PEM))
        pem.flush()
        context.load_cert_chain(pem.name)
