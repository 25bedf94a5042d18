"""Prisma's PostgreSQL connection URL, read into an immutable description.

The options are Prisma's (https://www.prisma.io/docs/orm/overview/databases/postgresql), with its defaults; others are
ignored, as Prisma does. Beyond Prisma there are libpq's lists of hosts, `target_session_attrs`, a client's certificate
in files of PEM (`sslcert` and `sslkey`), and `sslmode`s that verify: Prisma takes those for `prefer`, which is less
than what was asked for. Pure: text in, description out.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeVar, cast, get_args
from urllib.parse import unquote

from litellm_sqlalchemy.tls import SSLMode

SSLAccept = Literal["strict", "accept_invalid_certs"]
ChannelBinding = Literal["disable", "prefer", "require"]
SessionAttributes = Literal["any", "read-write", "read-only", "primary", "standby", "prefer-standby"]

PORT = 5432
EXAMPLE = "postgresql://USER:PASSWORD@HOST:5432/DATABASE"
ENCODE = (
    "In user, password and database write @ as %40, : as %3A, / as %2F, ? as %3F, # as %23, % as %25 "
    f"and a space as %20; the form is {EXAMPLE}"
)
SCHEME = re.compile(r"postgres(?:ql)?://")
VARIABLE = re.compile(r"\$\{\w+\}|\$\(\w+\)|(?:^|(?<=[/:@,]))\$[A-Z_][A-Z0-9_]*(?=$|[/:@,?])")
HOST = re.compile(
    r"(?:\[(?P<address>[0-9A-Fa-f:.]+(?:%[\w.-]+)?)\]|(?P<name>[^\s:@\[\]<>\\^|]*))(?::(?P<port>[0-9]{0,5}))?"
)
NUMBER = re.compile(r"\+?[0-9]{1,18}")
SETTING = re.compile(r"(?:-c\s*|--)(?P<name>[\w.-]+)=(?P<value>(?:\\.|[^\s\\])*)", re.DOTALL)
DURATION = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]*)?)\s*(?P<unit>us|ms|s|min|h|d|)")
SECONDS = {"us": 1e-6, "": 1e-3, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
ACCEPTING = {None, "accept_invalid_certs"}

T = TypeVar("T")


class DatabaseURLError(ValueError):
    """The database's URL is wrong: the message has the rule and the cure, and nothing of the URL, which has a password.

    Attributes:
        code: What Prisma calls it: P1012 if it is no URL of PostgreSQL at all, P1013 if something in it is malformed.
    """

    def __init__(self, message: str, code: Literal["P1012", "P1013"] = "P1013") -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseURL:
    """Where the database is and how to connect to it.

    Attributes:
        hosts: Addresses and ports, in the order in which they are tried; one that begins with / is the directory of a
            Unix socket.
        user: The role; empty if the URL has none.
        password: Its password.
        database: The database.
        schema: The database's schema.
        connection_limit: How many connections the pool has at most; None if the URL does not say, 0: without limit.
        pool_timeout: Seconds to wait for a connection of the pool; None: for ever.
        connect_timeout: Seconds that connecting may take; None: for ever.
        socket_timeout: Seconds that a query may take; None: for ever.
        max_connection_lifetime: Seconds after which a connection is replaced; None: never.
        max_idle_connection_lifetime: Seconds after which an idle connection is replaced; None: never.
        statement_cache_size: How many prepared statements a connection keeps; 0 behind pgbouncer.
        pgbouncer: Whether a transaction pooler is in between: nothing outlives a transaction. None: the URL does not
            say; false is for a pooler of sessions, or one that keeps prepared statements (pgbouncer since 1.21).
        sslmode: Whether the connection is encrypted, and with verify-ca and verify-full the certificate verified.
        sslaccept: Whether the server's certificate is verified where the connection is encrypted.
        sslrootcert: File of the certificates to verify the server's by (Prisma's sslcert, if there is no sslkey).
        sslcert: File of the client's certificate (PEM); None without sslkey.
        sslkey: File of its key (PEM).
        sslidentity: File of the client's certificate and key (PKCS 12).
        sslpassword: The password of that file, or of sslkey.
        channel_binding: Whether the password's proof is bound to the TLS connection.
        application_name: What pg_stat_activity shows.
        target_session_attrs: Which of the hosts will do.
        options: PostgreSQL's command-line options for the session, as they are sent.
    """

    hosts: tuple[tuple[str, int], ...]
    user: str = ""
    password: str | None = field(default=None, repr=False)
    database: str = "postgres"
    schema: str = "public"
    connection_limit: int | None = None
    pool_timeout: int | None = 10
    connect_timeout: int | None = 5
    socket_timeout: int | None = None
    max_connection_lifetime: int | None = None
    max_idle_connection_lifetime: int | None = 300
    statement_cache_size: int = 100
    pgbouncer: bool | None = None
    sslmode: SSLMode = "prefer"
    sslaccept: SSLAccept = "accept_invalid_certs"
    sslrootcert: str | None = None
    sslcert: str | None = None
    sslkey: str | None = None
    sslidentity: str | None = None
    sslpassword: str | None = field(default=None, repr=False)
    channel_binding: ChannelBinding = "prefer"
    application_name: str | None = None
    target_session_attrs: SessionAttributes = "any"
    options: str | None = None

    @property
    def settings(self) -> Mapping[str, str]:
        """PostgreSQL's settings that `options` has, by name: of `-c statement_timeout=5s` the value 5s."""
        found = SETTING.finditer(self.options or "")
        return {match["name"].replace("-", "_"): re.sub(r"\\(.)", r"\1", match["value"]) for match in found}

    @property
    def statement_timeout(self) -> float | None:
        """Seconds that PostgreSQL lets a statement take; None if `options` does not say, 0: for ever."""
        return _seconds(self.settings.get("statement_timeout"))

    @property
    def lock_timeout(self) -> float | None:
        """Seconds that PostgreSQL lets a statement wait for a lock; None if `options` does not say, 0: for ever."""
        return _seconds(self.settings.get("lock_timeout"))


def parse_url(text: str) -> DatabaseURL:
    """Read a connection URL.

    Args:
        text: The URL, such as DATABASE_URL has it.

    Returns:
        What it says, and Prisma's defaults for the rest.

    Raises:
        DatabaseURLError: It is malformed.
    """
    # As browsers do, and so Prisma's parser: a line's end that came with the URL from a file is not part of it.
    text = re.sub(r"[\t\r\n]", "", text).strip()
    if not text:
        raise DatabaseURLError(f"The database's URL is empty: give it one of the form {EXAMPLE}", "P1012")
    if text[0] in "'\"":
        raise DatabaseURLError("The database's URL begins with a quote: remove the quotes around it", "P1012")
    if VARIABLE.search(text):
        raise DatabaseURLError(
            "The database's URL has a variable's name in it, which nothing has expanded: write its value there, have a "
            "shell expand it, or write %24 for a $ that is meant as such",
            "P1013" if SCHEME.match(text) else "P1012",
        )
    if not (scheme := SCHEME.match(text)):
        raise DatabaseURLError(
            f"The database's URL must start with the protocol postgresql:// or postgres://: its form is {EXAMPLE}",
            "P1012",
        )
    rest, hash_sign, _ = text[scheme.end() :].partition("#")
    if hash_sign:
        raise DatabaseURLError(f"The database's URL has a # that is not encoded. {ENCODE}")
    rest, _, query = rest.partition("?")
    authority, _, path = rest.partition("/")
    userinfo, _, addresses = authority.rpartition("@")
    user, colon, password = userinfo.partition(":")
    if "@" in path or "/" in path.removesuffix("/"):
        raise DatabaseURLError(
            f"The database's URL has a / or an @ that is not encoded, in its password or its database. {ENCODE}"
        )
    options = _options(query)
    hosts = tuple(_host(address) for address in addresses.split(","))
    if socket := options.text("host"):
        hosts = ((socket, hosts[0][1]),)
    binding = options.text("channel_binding")
    pgbouncer = {"true": True, "false": False, None: None}[options.choice("pgbouncer", ("true", "false"))]
    return DatabaseURL(
        hosts=hosts,
        user=_decoded(user),
        password=_decoded(password) if colon and password else None,
        database=_decoded(path.removesuffix("/")) or "postgres",
        schema=options.text("schema") or "public",
        connection_limit=options.number("connection_limit", None),
        pool_timeout=options.number("pool_timeout", 10) or None,
        connect_timeout=options.number("connect_timeout", 5) or None,
        socket_timeout=options.number("socket_timeout", None) or None,
        max_connection_lifetime=options.number("max_connection_lifetime", None) or None,
        max_idle_connection_lifetime=options.number("max_idle_connection_lifetime", 300) or None,
        statement_cache_size=0 if pgbouncer else options.number("statement_cache_size", 100),
        pgbouncer=pgbouncer,
        sslmode=_sslmode(options),
        # Of values that it does not know, Prisma makes these.
        sslaccept="accept_invalid_certs" if options.text("sslaccept") in ACCEPTING else "strict",
        **_certificates(options),
        sslidentity=options.text("sslidentity"),
        sslpassword=options.text("sslpassword"),
        channel_binding=cast("ChannelBinding", binding) if binding in get_args(ChannelBinding) else "prefer",
        application_name=options.text("application_name"),
        target_session_attrs=cast(
            "SessionAttributes", options.choice("target_session_attrs", get_args(SessionAttributes)) or "any"
        ),
        options=options.text("options"),
    )


KNOWN = frozenset(
    {
        *("host", "schema", "connection_limit", "pool_timeout", "connect_timeout", "socket_timeout", "pgbouncer"),
        *("max_connection_lifetime", "max_idle_connection_lifetime", "statement_cache_size", "options"),
        *("sslmode", "sslaccept", "sslcert", "sslrootcert", "sslkey", "sslidentity", "sslpassword", "channel_binding"),
        *("application_name", "target_session_attrs"),
    }
)


class _Options:
    """What follows the URL's question mark: as in Prisma, the last of several of a name counts."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = values

    def text(self, name: str) -> str | None:
        return self._values.get(name) or None

    def number(self, name: str, default: T) -> int | T:
        value = self._values.get(name)
        if value is None:
            return default
        if not NUMBER.fullmatch(value):
            raise DatabaseURLError(f"The option {name} of the database's URL must be a whole number, such as {name}=10")
        return int(value)

    def choice(self, name: str, values: tuple[str, ...]) -> str | None:
        value = self._values.get(name)
        if value is not None and value not in values:
            raise DatabaseURLError(f"The option {name} of the database's URL must be one of {', '.join(values)}")
        return value


def _options(query: str) -> _Options:
    values: dict[str, str] = {}
    for part in query.split("&"):
        name, _, value = part.partition("=")
        if name not in KNOWN and "@" in part:
            raise DatabaseURLError(
                f"The database's URL has a ? or an @ that is not encoded, before its options. {ENCODE}"
            )
        values[name] = _printable(unquote(value.replace("+", " ")))
    return _Options(values)


def _sslmode(options: _Options) -> SSLMode:
    if options.text("sslmode") in {None, "allow"}:
        return "prefer"
    return cast("SSLMode", options.choice("sslmode", get_args(SSLMode)))


def _certificates(options: _Options) -> dict[str, str | None]:
    """Tell the two meanings of sslcert apart: with libpq's sslkey it is the client's, in Prisma what to verify by."""
    root, cert, key = (options.text(name) for name in ("sslrootcert", "sslcert", "sslkey"))
    if key is None:
        return {"sslrootcert": root or cert}
    if cert is None or options.text("sslidentity"):
        raise DatabaseURLError(
            "The option sslkey of the database's URL needs sslcert beside it, the file of the client's certificate, "
            "and no sslidentity: two files of PEM (sslcert, sslkey) or one of PKCS 12 (sslidentity)"
        )
    return {"sslrootcert": root, "sslcert": cert, "sslkey": key}


def _host(text: str) -> tuple[str, int]:
    match = HOST.fullmatch(text)
    if match is None or (match["port"] and not 0 < int(match["port"]) < 65536):
        raise DatabaseURLError(
            "The database's URL has a host or a port that cannot be read: a port is a number up to 65535, an "
            f"address of IPv6 stands in brackets as in [::1]:5432, several hosts have commas between. {ENCODE}"
        )
    return match["address"] or _decoded(match["name"]) or "localhost", int(match["port"] or PORT)


def _decoded(text: str) -> str:
    try:
        return _printable(unquote(text, errors="strict"))
    except UnicodeDecodeError:
        return text  # as Prisma: then it was not meant as an encoding


def _printable(text: str) -> str:
    if "\0" in text:
        raise DatabaseURLError("The database's URL has a %00: PostgreSQL knows no text with that character")
    return text


def _seconds(duration: str | None) -> float | None:
    match = DURATION.fullmatch((duration or "").strip("' "))
    return float(match["number"]) * SECONDS[match["unit"]] if match else None
