"""Each client of ours talks to the server with the right certificate only, and shows its own."""

import asyncio
import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from files import db_init
from litellm_sqlalchemy import database
from litellm_sqlalchemy.prisma_client import migrate
from litellm_sqlalchemy.prisma_client.database_url import DatabaseURLError, parse_url
from litellm_sqlalchemy.tls import TLS
from prisma import Prisma
from prisma.errors import PrismaError
from tests.fix_certificates import Authority, Pair
from tests.fix_postgres import APPLICATION_PASSWORD, Cluster, give_to_server, running_cluster, server_directory

LOGIN = "litellm_a"
SHOWN = "SELECT client_dn, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
SERIAL = "SELECT client_serial::text AS serial FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
END = "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE usename = 'litellm_a'"

HBA = """
host    all postgres 127.0.0.1/32 scram-sha-256
hostssl all all      127.0.0.1/32 scram-sha-256 clientcert=verify-full
"""


class Server:
    """A server with TLS, and what is there to be shown to it."""

    def __init__(self, directory: Path, cluster: Cluster, authority: Authority, stranger: Authority) -> None:
        self._directory = directory
        self.cluster = cluster
        self.authority = authority
        self.stranger = stranger

    def show(self, pair: Pair) -> None:
        """Have the server show another certificate, without a restart."""
        put_in_place(self._directory, pair)
        loaded = self.cluster.execute("SELECT pg_conf_load_time()")
        self.cluster.execute("SELECT pg_reload_conf()")
        while self.cluster.execute("SELECT pg_conf_load_time()") == loaded:
            pass


def put_in_place(directory: Path, pair: Pair) -> None:
    pair.certificate.replace(directory / "in-use.crt")
    pair.key.replace(directory / "in-use.key")
    for name in ("in-use.crt", "in-use.key"):
        give_to_server(directory / name)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    ours, theirs = tmp_path_factory.mktemp("ours"), tmp_path_factory.mktemp("theirs")
    authority, stranger = Authority(ours, "ours"), Authority(theirs, "theirs")
    with server_directory() as directory:
        put_in_place(directory, authority.sign("server", "server", names=["127.0.0.1"]))
        for name, text in {"ca.crt": authority.file.read_text(), "hba.conf": HBA}.items():
            (directory / name).write_text(text)
            give_to_server(directory / name)
        settings = {
            "fsync": "off",
            "ssl": "on",
            "ssl_cert_file": str(directory / "in-use.crt"),
            "ssl_key_file": str(directory / "in-use.key"),
            "ssl_ca_file": str(directory / "ca.crt"),
            "ssl_min_protocol_version": "TLSv1.3",
            "hba_file": str(directory / "hba.conf"),
        }
        with running_cluster(settings) as cluster:
            yield Server(directory, cluster, authority, stranger)


@pytest.fixture(scope="module")
def pair(server: Server) -> Pair:
    """The application's certificate."""
    return server.authority.sign(LOGIN, "client")


def url_of(server: Server, pair: Pair | None, **options: str) -> str:
    shown = {"sslcert": str(pair.certificate), "sslkey": str(pair.key)} if pair else {}
    query = urlencode({"sslmode": "verify-full", "sslrootcert": str(server.authority.file), **shown, **options})
    return f"postgresql://{LOGIN}:{APPLICATION_PASSWORD}@127.0.0.1:{server.cluster.port}/postgres?{query}"


async def by_prisma(server: Server, pair: Pair | None, driver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PRISMA_CLIENT_DRIVER", driver)
    client = Prisma(datasource={"url": url_of(server, pair)})
    try:
        await client.connect()
        assert await client.query_raw(SHOWN) == [{"client_dn": f"/CN={LOGIN}", "version": "TLSv1.3"}]
    finally:
        await client.disconnect()


async def by_asyncpg(server: Server, pair: Pair | None, monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        await by_prisma(server, pair, "asyncpg", monkeypatch)
    finally:
        # asyncpg closes a refused connection in the loop's next rounds; a loop that ends before leaves it to others.
        await asyncio.sleep(0.2)


async def by_psycopg(server: Server, pair: Pair | None, monkeypatch: pytest.MonkeyPatch) -> None:
    await by_prisma(server, pair, "psycopg", monkeypatch)


async def by_prisma_s_command_line(server: Server, pair: Pair | None, _monkeypatch: pytest.MonkeyPatch) -> None:
    migrate.connect(parse_url(url_of(server, pair, channel_binding="require"))).close()


async def by_the_ledger(server: Server, pair: Pair | None, _monkeypatch: pytest.MonkeyPatch) -> None:
    engine = database.engine(
        host="127.0.0.1",
        port=server.cluster.port,
        database="postgres",
        user=LOGIN,
        password=APPLICATION_PASSWORD,
        tls=TLS(
            sslrootcert=str(server.authority.file),
            sslcert=str(pair.certificate) if pair else "/nowhere",
            sslkey=str(pair.key) if pair else "/nowhere",
        ),
        application_name="tests",
    )
    with engine.connect() as connection:
        assert connection.exec_driver_sql(SHOWN).one() == (f"/CN={LOGIN}", "TLSv1.3")


async def by_db_init(server: Server, pair: Pair | None, _monkeypatch: pytest.MonkeyPatch) -> None:
    shown = ["--sslcert", str(pair.certificate), "--sslkey", str(pair.key)] if pair else []
    done = subprocess.run(  # noqa: ASYNC221 - nothing else goes on
        [
            *(sys.executable, db_init.__file__, "--check", "--host=127.0.0.1", f"--port={server.cluster.port}"),
            *(f"--user={LOGIN}", "--database=postgres", f"--sslrootcert={server.authority.file}", *shown),
        ],
        input=f"{APPLICATION_PASSWORD}\n",
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HOME": "/nowhere"},
    )
    if done.returncode == db_init.NO_CONNECTION:
        raise ConnectionError(done.stderr)
    assert done.returncode == db_init.DIFFERENT, done.stderr


REFUSED = (PrismaError, migrate.MigrateError, *database.ERRORS, ConnectionError)
Connect = Callable[[Server, Pair | None, pytest.MonkeyPatch], Awaitable[None]]
every_client = pytest.mark.parametrize(
    "connect",
    [by_asyncpg, by_psycopg, by_prisma_s_command_line, by_the_ledger, by_db_init],
    ids=lambda connect: connect.__name__,
)


@every_client
async def test_both_sides_show_the_right_one(
    server: Server, pair: Pair, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    await connect(server, pair, monkeypatch)


@pytest.fixture(params=["stranger", "other name", "expired", "client's", "stolen from the gateway"])
def impostor(request: pytest.FixtureRequest, server: Server) -> Iterator[None]:
    """The server shows a certificate that is none of its own."""
    names = ["127.0.0.1"]
    match request.param:
        case "stranger":
            server.show(server.stranger.sign("server", "server", names=names))
        case "other name":
            server.show(server.authority.sign("server", "server", names=["127.0.0.2", "localhost"]))
        case "expired":
            server.show(server.authority.sign("server", "server", names=names, days=-1))
        case "client's":
            server.show(server.authority.sign("server", "client", names=names))
        case "stolen from the gateway":
            server.show(server.authority.sign(LOGIN, "client", file="stolen"))
    yield
    server.show(server.authority.sign("server", "server", names=names))


@every_client
@pytest.mark.usefixtures("impostor")
async def test_a_client_refuses_an_impostor(
    server: Server, pair: Pair, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(REFUSED, match=r"(?i)certificate"):
        await connect(server, pair, monkeypatch)


@every_client
@pytest.mark.parametrize("shown", ["nothing", "a stranger's", "another login's", "an expired one", "a server's"])
async def test_the_server_refuses_a_password_alone(
    server: Server, shown: str, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = {
        "nothing": None,
        "a stranger's": server.stranger.sign(LOGIN, "client", file="a-stranger-s"),
        "another login's": server.authority.sign("litellm_reader_a", "client"),
        "an expired one": server.authority.sign(LOGIN, "client", days=-1, file="expired"),
        "a server's": server.authority.sign(LOGIN, "server", file="a-server-s"),
    }
    with pytest.raises(REFUSED):
        await connect(server, pairs[shown], monkeypatch)


@pytest.mark.parametrize("driver", ["asyncpg", "psycopg"])
async def test_a_process_takes_renewed_certificates(
    server: Server, driver: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each connection that it makes shows what is in the files then; half of a pair does no harm."""
    monkeypatch.setenv("PRISMA_CLIENT_DRIVER", driver)
    used = Pair(tmp_path / "me.crt", tmp_path / "me.key")

    def renew() -> Pair:
        return server.authority.sign(LOGIN, "client", file="renewed")

    async def shown() -> int:
        server.cluster.execute(END)
        with contextlib.suppress(PrismaError):  # the driver may only then learn that its connection is closed
            await client.query_raw(SERIAL)
        found = await client.query_raw(SERIAL)
        return int(found[0]["serial"])

    first = renew()
    shutil.copy(first.certificate, used.certificate)
    shutil.copy(first.key, used.key)
    client = Prisma(datasource={"url": url_of(server, used)})
    await client.connect()
    try:
        assert await shown() == used.serial
        second = renew()
        shutil.copy(second.key, used.key)
        if driver == "asyncpg":
            assert await shown() == used.serial
        shutil.copy(second.certificate, used.certificate)
        assert await shown() == second.serial
    finally:
        await client.disconnect()


async def test_asyncpg_refuses_a_binding_that_it_cannot_make(
    server: Server, pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PRISMA_CLIENT_DRIVER", "asyncpg")
    client = Prisma(datasource={"url": url_of(server, pair, channel_binding="require")})
    with pytest.raises(DatabaseURLError, match="cannot bind the password's proof"):
        await client.connect()
    monkeypatch.setenv("PRISMA_CLIENT_DRIVER", "psycopg")
    client = Prisma(datasource={"url": url_of(server, pair, channel_binding="require")})
    await client.connect()
    await client.disconnect()
