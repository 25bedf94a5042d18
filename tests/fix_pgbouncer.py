"""pgbouncer before a cluster, in transaction mode: each transaction may get another of a few connections."""

import contextlib
import shutil
import subprocess
from collections.abc import Iterator

from tests.fix_postgres import (
    APPLICATION_PASSWORD,
    READER_PASSWORD,
    SUPERUSER_PASSWORD,
    Cluster,
    as_server,
    debian_package,
    give_to_server,
    server_directory,
    wait_until_ready,
)
from tests.ports import free_port

# By Debian's suite: 1.18 knows no prepared statements; 1.24 keeps them for its clients, as all do since 1.21.
SUITES = ("bookworm", "trixie")
SERVER_CONNECTIONS = 4  # for each database and role
USERS = {"postgres": SUPERUSER_PASSWORD, "litellm_a": APPLICATION_PASSWORD, "litellm_reader_a": READER_PASSWORD}
SETTINGS = """
[databases]
* = host={host} port={server_port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {directory}/users
admin_users = postgres
pool_mode = transaction
default_pool_size = {connections}
max_client_conn = 500
"""


@contextlib.contextmanager
def running_pgbouncer(cluster: Cluster, suite: str = SUITES[0], port: int | None = None) -> Iterator[Cluster]:
    """Run it; gives the cluster as it is seen through it."""
    port = port or free_port()
    with server_directory() as directory:
        # The cache may lie in root's home, closed to the server's user.
        programs = shutil.copytree(
            debian_package("--to-run", suite, "pgbouncer"), directory / "programs", symlinks=True
        )
        settings, users = directory / "pgbouncer.ini", directory / "users"
        settings.write_text(
            SETTINGS.format(
                host=cluster.host,
                server_port=cluster.port,
                port=port,
                directory=directory,
                connections=SERVER_CONNECTIONS,
            )
        )
        users.write_text("".join(f'"{name}" "{password}"\n' for name, password in USERS.items()))
        users.chmod(0o600)
        give_to_server(users)
        with (directory / "log").open("w") as log:
            process = subprocess.Popen(
                as_server(str(programs / "usr/sbin/pgbouncer"), str(settings)), stdout=log, stderr=log, cwd="/"
            )
        try:
            pooled = Cluster("127.0.0.1", port)
            wait_until_ready(pooled, process, directory / "log")
            yield pooled
        finally:
            process.kill()  # it would wait for its clients
            process.wait(60)
