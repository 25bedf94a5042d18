"""A primary that is lost, and a standby that takes its place."""

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass

from tests.fix_postgres import Cluster, running_cluster, running_standby
from tests.fix_server import wait_for

SETTINGS = {"fsync": "off"}


@dataclass(frozen=True)
class Pair:
    """Two servers; what the primary has acknowledged, the standby has."""

    primary: Cluster
    standby: Cluster

    def address(self, database: str, **options: object) -> str:
        """Write the part of a URL behind the password: both hosts, of which the one that can be written to is meant."""
        hosts = ",".join(f"{server.host}:{server.port}" for server in (self.primary, self.standby))
        given = {"target_session_attrs": "read-write", **options}
        return f"{hosts}/{database}?" + "&".join(f"{name}={value}" for name, value in given.items())

    def lose_primary(self) -> None:
        """Kill it; whoever is connected is cut off."""
        ((pid,),) = self.primary.execute("SELECT split_part(pg_read_file('postmaster.pid'), E'\\n', 1)")
        os.kill(int(str(pid)), signal.SIGKILL)

    def promote(self) -> None:
        """Make a primary of the standby."""
        assert self.standby.execute("SELECT pg_promote()") == [(True,)]

    def sessions(self, database: str) -> list[str]:
        """The state of each session that a client has at the standby."""
        found = self.standby.execute(
            "SELECT state FROM pg_stat_activity WHERE datname = %(name)s AND pid <> pg_backend_pid()",
            arguments={"name": database},
        )
        return [str(state) for (state,) in found]


@contextlib.contextmanager
def running_pair() -> Iterator[Pair]:
    """Run them, with the roles of production."""
    with running_cluster(SETTINGS) as primary, running_standby(primary, SETTINGS) as standby:
        primary.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        primary.execute("SELECT pg_reload_conf()")
        state = "SELECT sync_state FROM pg_stat_replication"
        wait_for(lambda: primary.execute(state) == [("sync",)], "the standby has what the primary acknowledges")
        yield Pair(primary, standby)
