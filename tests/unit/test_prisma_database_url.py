"""Prisma's connection URLs: what they say, and that no error repeats any of it."""

import dataclasses
import re
import string
from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from litellm_sqlalchemy.prisma_client.database_url import DatabaseURL, DatabaseURLError, parse_url

PASSWORD = "5ecret-0f-the-tests"
LOCAL = "postgresql://u:p@localhost/d"


def test_what_is_not_said_is_as_in_prisma() -> None:
    assert parse_url("postgres://localhost") == DatabaseURL(
        hosts=(("localhost", 5432),),
        user="",
        password=None,
        database="postgres",
        schema="public",
        connection_limit=None,
        pool_timeout=10,
        connect_timeout=5,
        socket_timeout=None,
        max_connection_lifetime=None,
        max_idle_connection_lifetime=300,
        statement_cache_size=100,
        pgbouncer=None,
        sslmode="prefer",
        sslaccept="accept_invalid_certs",
        sslrootcert=None,
        sslcert=None,
        sslkey=None,
        sslidentity=None,
        sslpassword=None,
        channel_binding="prefer",
        application_name=None,
        target_session_attrs="any",
        options=None,
    )


@pytest.mark.parametrize(
    ("authority", "hosts"),
    [
        ("db.example:6432", (("db.example", 6432),)),
        ("10.0.0.1", (("10.0.0.1", 5432),)),
        ("[::1]:6432", (("::1", 6432),)),
        ("[fe80::1%eth0]", (("fe80::1%eth0", 5432),)),
        ("a:1,b,[::2]:3", (("a", 1), ("b", 5432), ("::2", 3))),
        ("%2Fvar%2Frun%2Fpostgresql", (("/var/run/postgresql", 5432),)),
        (":6432", (("localhost", 6432),)),
        ("", (("localhost", 5432),)),
    ],
)
def test_hosts(authority: str, hosts: tuple[tuple[str, int], ...]) -> None:
    assert parse_url(f"postgresql://u:p@{authority}/d").hosts == hosts


def test_a_unix_socket_is_named_by_an_option() -> None:
    url = parse_url("postgresql://u:p@localhost:6432/d?host=/var/run/postgresql")
    assert url.hosts == (("/var/run/postgresql", 6432),)


@pytest.mark.parametrize(
    ("option", "field", "value"),
    [
        ("schema=llm", "schema", "llm"),
        ("schema=", "schema", "public"),
        ("connection_limit=7", "connection_limit", 7),
        ("connection_limit=0", "connection_limit", 0),
        ("pool_timeout=0", "pool_timeout", None),
        ("pool_timeout=60", "pool_timeout", 60),
        ("connect_timeout=0", "connect_timeout", None),
        ("socket_timeout=30", "socket_timeout", 30),
        ("max_connection_lifetime=600", "max_connection_lifetime", 600),
        ("max_idle_connection_lifetime=0", "max_idle_connection_lifetime", None),
        ("statement_cache_size=5", "statement_cache_size", 5),
        ("pgbouncer=true", "pgbouncer", True),
        ("pgbouncer=false", "pgbouncer", False),
        ("pgbouncer=true", "statement_cache_size", 0),
        ("sslmode=require", "sslmode", "require"),
        ("sslmode=verify-full", "sslmode", "verify-full"),
        ("sslmode=allow", "sslmode", "prefer"),
        ("sslaccept=strict", "sslaccept", "strict"),
        ("sslaccept=accept_invalid_certs", "sslaccept", "accept_invalid_certs"),
        ("sslaccept=anything", "sslaccept", "strict"),
        ("sslcert=/etc/ca.pem", "sslrootcert", "/etc/ca.pem"),
        ("sslcert=/etc/ca.pem", "sslcert", None),
        ("sslcert=/etc/client.pem&sslrootcert=/etc/ca.pem", "sslrootcert", "/etc/ca.pem"),
        ("sslrootcert=/etc/ca.pem&sslcert=/etc/me.crt&sslkey=/etc/me.key", "sslrootcert", "/etc/ca.pem"),
        ("sslrootcert=/etc/ca.pem&sslcert=/etc/me.crt&sslkey=/etc/me.key", "sslcert", "/etc/me.crt"),
        ("sslcert=/etc/me.crt&sslkey=/etc/me.key", "sslkey", "/etc/me.key"),
        ("sslcert=/etc/me.crt&sslkey=/etc/me.key", "sslrootcert", None),
        ("sslidentity=/etc/me.p12", "sslidentity", "/etc/me.p12"),
        ("sslpassword=p%40ss+word", "sslpassword", "p@ss word"),
        ("sslpassword=p@ss", "sslpassword", "p@ss"),
        ("channel_binding=require", "channel_binding", "require"),
        ("channel_binding=anything", "channel_binding", "prefer"),
        ("application_name=litellm%20proxy", "application_name", "litellm proxy"),
        ("target_session_attrs=read-write", "target_session_attrs", "read-write"),
        ("options=-c%20statement_timeout%3D5000", "options", "-c statement_timeout=5000"),
        ("connection_limit=7&connection_limit=8", "connection_limit", 8),
        ("sslcrl=x&hostaddr=1.2.3.4&foo&=&", "connection_limit", None),
    ],
)
def test_options(option: str, field: str, value: object) -> None:
    assert getattr(parse_url(f"{LOCAL}?{option}"), field) == value


@pytest.mark.parametrize(
    ("options", "settings", "statement_timeout", "lock_timeout"),
    [
        ("-c statement_timeout=5000 -c lock_timeout=2s", {"statement_timeout": "5000", "lock_timeout": "2s"}, 5, 2),
        ("--statement-timeout=1min", {"statement_timeout": "1min"}, 60, None),
        ("-cstatement_timeout=0", {"statement_timeout": "0"}, 0, None),
        (
            r"-c search_path=a,\ b -c statement_timeout=1.5s",
            {"search_path": "a, b", "statement_timeout": "1.5s"},
            1.5,
            None,
        ),
        ("endpoint=ep-cool", {}, None, None),
    ],
)
def test_settings_of_the_session(
    options: str, settings: dict[str, str], statement_timeout: float | None, lock_timeout: float | None
) -> None:
    url = parse_url(f"{LOCAL}?options={quote(options)}")
    assert url.options == options
    assert url.settings == settings
    assert url.statement_timeout == statement_timeout
    assert url.lock_timeout == lock_timeout


@pytest.mark.parametrize(
    ("userinfo", "user", "password"),
    [
        ("u:p%40ss%2Fw%3Ard%23", "u", "p@ss/w:rd#"),
        ("u:p@ss", "u", "p@ss"),  # as Prisma: the last @ counts
        ("u:p:ss", "u", "p:ss"),
        ("u:p ss", "u", "p ss"),
        ("u:p+ss", "u", "p+ss"),
        ("u:100%", "u", "100%"),
        ("u:%FF", "u", "%FF"),  # as Prisma: no UTF-8, so not meant as an encoding
        ("u:$ecret", "u", "$ecret"),
        ("u%40example", "u@example", None),
        ("u:", "u", None),
    ],
)
def test_users_and_passwords(userinfo: str, user: str, password: str | None) -> None:
    url = parse_url(f" postgresql://{userinfo}@h/d\n")
    assert (url.user, url.password) == (user, password)
    assert url.hosts == (("h", 5432),)


@pytest.mark.parametrize(
    ("text", "code", "cure"),
    [
        ("", "P1012", "empty"),
        (" \n", "P1012", "empty"),
        (f"u:{PASSWORD}@h/d", "P1012", "must start with the protocol postgresql://"),
        (f"mysql://u:{PASSWORD}@h/d", "P1012", "must start with the protocol postgresql://"),
        (f"postgresql:/u:{PASSWORD}@h/d", "P1012", "must start with the protocol postgresql://"),
        (f'"postgresql://u:{PASSWORD}@h/d"', "P1012", "remove the quotes"),
        ("$DATABASE_URL", "P1012", "variable"),
        (f"postgresql://u:{PASSWORD}@${{HOST}}/d", "P1013", "variable"),
        (f"postgresql://u:{PASSWORD}@$(HOST)/d", "P1013", "variable"),
        ("postgresql://u:$DB_PASSWORD@h/d", "P1013", "%24"),
        (f"postgresql://u:{PASSWORD}@$HOST:5432/d", "P1013", "variable"),
        (f"postgresql://u:#{PASSWORD}@h/d", "P1013", "# as %23"),
        (f"postgresql://u:/{PASSWORD}@h/d", "P1013", "/ as %2F"),
        (f"postgresql://u:@?{PASSWORD}@h/d", "P1013", "? as %3F"),
        (f"postgresql://u:?{PASSWORD}@h/d", "P1013", "? as %3F"),
        (f"postgresql://u:{PASSWORD}@h:port/d", "P1013", "a port is a number"),
        (f"postgresql://u:{PASSWORD}@h:65536/d", "P1013", "a port is a number"),
        (f"postgresql://u:{PASSWORD}@h:0/d", "P1013", "a port is a number"),
        (f"postgresql://u:{PASSWORD}@::1/d", "P1013", "in brackets"),
        (f"postgresql://u:{PASSWORD}@h h/d", "P1013", "a host or a port"),
        (f"postgresql://u:{PASSWORD}@h/d%00", "P1013", "%00"),
        (f"postgresql://u:{PASSWORD}%00@h/d", "P1013", "%00"),
        (f"postgresql://u:{PASSWORD}@h/d?connection_limit={PASSWORD}", "P1013", "connection_limit=10"),
        (f"postgresql://u:{PASSWORD}@h/d?pool_timeout=-1", "P1013", "pool_timeout=10"),
        (f"postgresql://u:{PASSWORD}@h/d?connect_timeout=", "P1013", "connect_timeout=10"),
        (f"postgresql://u:{PASSWORD}@h/d?pgbouncer={PASSWORD}", "P1013", "true, false"),
        (f"postgresql://u:{PASSWORD}@h/d?sslmode={PASSWORD}", "P1013", "verify-full"),
        (f"postgresql://u:{PASSWORD}@h/d?sslkey={PASSWORD}", "P1013", "sslcert beside it"),
        (f"postgresql://u:{PASSWORD}@h/d?sslkey=k&sslcert=c&sslidentity={PASSWORD}", "P1013", "no sslidentity"),
        (f"postgresql://u:{PASSWORD}@h/d?target_session_attrs={PASSWORD}", "P1013", "read-write"),
    ],
)
def test_what_is_malformed_is_told_without_the_password(text: str, code: str, cure: str) -> None:
    with pytest.raises(DatabaseURLError, match=re.escape(cure)) as told:
        parse_url(text)
    assert told.value.code == code
    assert PASSWORD not in str(told.value)
    assert told.value.__context__ is None or PASSWORD not in str(told.value.__context__)


def test_a_printed_url_has_no_password() -> None:
    url = parse_url(f"postgresql://u:{PASSWORD}@h/d?sslpassword={PASSWORD}")
    assert url.password == url.sslpassword == PASSWORD
    assert PASSWORD not in f"{url} {url!r}"


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20)
names = st.text(string.ascii_letters + string.digits + "-.", min_size=1, max_size=20)
timeouts = st.none() | st.integers(1, 10**6)
urls = st.builds(
    DatabaseURL,
    hosts=st.lists(st.tuples(names | st.just("::1"), st.integers(1, 65535)), min_size=1, max_size=3).map(tuple),
    user=texts,
    password=st.none() | texts,
    database=texts,
    schema=texts,
    connection_limit=st.none() | st.integers(0, 10**6),
    pool_timeout=timeouts,
    connect_timeout=timeouts,
    socket_timeout=timeouts,
    sslmode=st.sampled_from(["disable", "prefer", "require", "verify-ca", "verify-full"]),
    sslaccept=st.sampled_from(["strict", "accept_invalid_certs"]),
    sslrootcert=st.none() | texts,
    sslpassword=st.none() | texts,
    application_name=st.none() | texts,
    target_session_attrs=st.sampled_from(["any", "read-write", "standby"]),
    options=st.none() | texts,
)


def written(url: DatabaseURL) -> str:
    """Write what Prisma's documentation says that a URL is."""
    addresses = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in url.hosts)
    password = "" if url.password is None else f":{quote(url.password, safe='')}"
    values = {
        name: getattr(url, name)
        for name in (
            *("schema", "connection_limit", "sslmode", "sslaccept", "sslrootcert", "sslpassword", "application_name"),
            *("target_session_attrs", "options"),
        )
        if getattr(url, name) is not None
    } | {name: getattr(url, name) or 0 for name in ("pool_timeout", "connect_timeout", "socket_timeout")}
    query = "&".join(f"{name}={quote(str(value), safe='')}" for name, value in values.items())
    user, database = quote(url.user, safe=""), quote(url.database, safe="")
    return f"postgresql://{user}{password}@{addresses}/{database}?{query}"


@given(urls)
def test_a_url_says_what_was_written(url: DatabaseURL) -> None:
    assert parse_url(written(url)) == url


@given(st.data())
def test_no_error_repeats_a_password(data: st.DataObject) -> None:
    """Whatever is done to a URL: characters put in, taken out, and parts swapped."""
    # Of no word that a message has.
    password = "Zq7" + data.draw(st.text(string.ascii_letters + "0123@:/?#%$ &=[]{}\\", min_size=5, max_size=20))
    url = dataclasses.replace(data.draw(urls), password=None, sslpassword=None)
    assume(password not in repr(url))
    text = written(url).replace("@", f":{password}@", 1)
    for _ in range(data.draw(st.integers(0, 4))):
        at = data.draw(st.integers(0, len(text)))
        kept = data.draw(st.integers(0, 3))
        text = text[:at] + data.draw(st.text("@:/?#%$ &=[],\\\n'\"{}0x", max_size=3)) + text[at + kept :]
    try:
        told = repr(dataclasses.replace(parse_url(text), hosts=(), database="", user=""))
    except DatabaseURLError as error:
        told = f"{error} {error.__context__}"
    assert password not in told
