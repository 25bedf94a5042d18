"""A gateway with a database that LiteLLM's own migrations have made: keys, teams and users can be kept."""

import contextlib
import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from litellm_sqlalchemy.prisma_client.schema import parse
from tests.fix_litellm_database import url
from tests.fix_pgbouncer import running_pgbouncer
from tests.fix_postgres import APPLICATION_PASSWORD, READER_PASSWORD, Cluster
from tests.fix_server import wait_for
from tests.gateway.fix_litellm import MASTER_KEY, OLDER, PINNED, LiteLLM, interpreter, running, site_packages

SALT_KEY = "sk-salt-key-of-the-tests"


@dataclass(frozen=True)
class Managed:
    """A gateway with a database."""

    litellm: LiteLLM
    cluster: Cluster
    database: str

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        status: int = 200,
        key: str = MASTER_KEY,
        **parameters: Any,
    ) -> Any:
        """Call the API, and give what it answers; another status than the one wanted is an error."""
        answer = httpx.request(
            method,
            f"http://127.0.0.1:{self.litellm.port}{path}",
            json=body,
            params=parameters or None,
            headers={"authorization": f"Bearer {key}"},
            timeout=60,
        )
        assert answer.status_code == status, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def chat(self, key: str, status: int = 200, model: str = "talks", **more: Any) -> Any:
        question = {"model": model, "messages": [{"role": "user", "content": "Hi"}], **more}
        return self.call("POST", "/v1/chat/completions", question, status=status, key=key)

    def eventually_lists(self, name: str, path: str) -> None:
        """List until the name is there: the other worker reads the database now and then."""
        wait_for(lambda: name in json.dumps(self.call("GET", path)), f"{name} in {path}")

    def eventually_refused(self, key: str, because: str, *statuses: int, model: str = "talks") -> None:
        """Call until the key is refused: what a call cost is written in the background."""

        def is_refused() -> bool:
            question = {"model": model, "messages": [{"role": "user", "content": "Hi"}]}
            answer = self.litellm.post("/v1/chat/completions", question, key)
            return answer.status_code in statuses and because.lower() in answer.text.lower()

        wait_for(is_refused, f"a refusal because of {because}")

    def rows(self, sql: str, **values: str) -> list[tuple[Any, ...]]:
        return self.cluster.execute(sql, self.database, values)

    @property
    def is_older(self) -> bool:
        return self.litellm.release in OLDER

    @property
    def log(self) -> str:
        return (self.litellm.spool.parents[1] / "log").read_text()

    def has_logged_no_error_of_the_database(self) -> None:
        """Fail, and show where, if the log has one: the API answers in spite of some."""
        log = self.log
        for word in (
            "PrismaError",
            "prisma.errors",
            "DataError",
            "RawQueryError",
            "Prisma Client Exception",
            APPLICATION_PASSWORD,
        ):
            with contextlib.suppress(ValueError):
                at = log.index(word)
                pytest.fail(log[max(at - 2_000, 0) : at + 500])


def migrate(cluster: Cluster, name: str, release: str) -> None:
    """Make a database with the tables of a release, by LiteLLM's own migrations, that the application may use."""
    packages = site_packages(release)
    extras, schema = packages / "litellm_proxy_extras", packages / "litellm/proxy/schema.prisma"
    cluster.execute(f"CREATE DATABASE {name} OWNER litellm_owner TEMPLATE template0")
    for migration in sorted(extras.glob("migrations/*/migration.sql")):
        cluster.execute(migration.read_text(), name)
    known, wanted = (
        {(model, field) for model, its in parse(file.read_text()).models.items() for field in its.fields}
        for file in (extras / "schema.prisma", schema)
    )
    if not wanted <= known:  # the package index had no newer migrations: see its lock
        subprocess.run(
            [interpreter(release), "-m", "prisma", "db", "push", "--accept-data-loss", "--schema", schema],
            env={"PATH": os.environ["PATH"], "DATABASE_URL": url(cluster, name)},
            check=True,
        )
    # LiteLLM makes views of its own when it starts.
    cluster.execute(
        "GRANT ALL ON SCHEMA public TO litellm; GRANT ALL ON ALL TABLES IN SCHEMA public TO litellm;"
        "GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO litellm;"
        "GRANT USAGE ON SCHEMA public TO litellm_reader; GRANT SELECT ON ALL TABLES IN SCHEMA public TO litellm_reader;"
        "ALTER DEFAULT PRIVILEGES FOR ROLE litellm_a IN SCHEMA public GRANT SELECT ON TABLES TO litellm_reader",
        name,
    )


@contextlib.contextmanager
def managing(
    cluster: Cluster,
    directory: Path,
    release: str = PINNED,
    driver: str = "asyncpg",
    way: str = "direct",
    **further: str,
) -> Iterator[Managed]:
    """Start LiteLLM on a new database, with further variables; the way to it is direct, pgbouncer or replica."""
    name = f"managed_{uuid.uuid4().hex}"
    migrate(cluster, name, release)
    with running_pgbouncer(cluster) if way == "pgbouncer" else contextlib.nullcontext(cluster) as reached:
        options = "connection_limit=5&connect_timeout=60&pool_timeout=60" + (
            "&pgbouncer=true" if way == "pgbouncer" else ""
        )
        address = f"{reached.host}:{reached.port}/{name}?{options}"
        environment = {
            "DATABASE_URL": f"postgresql://litellm_a:{APPLICATION_PASSWORD}@{address}",
            "PRISMA_CLIENT_DRIVER": driver,
            "LITELLM_SALT_KEY": SALT_KEY,
            "STORE_MODEL_IN_DB": "True",
            "PROXY_BATCH_WRITE_AT": "1",
            "PROXY_DB_LOOKUP_DEADLINE_SECONDS": "60",
            **further,
        }
        if way == "replica":  # by a role that may only read
            environment["DATABASE_URL_READ_REPLICA"] = f"postgresql://litellm_reader_a:{READER_PASSWORD}@{address}"
        with running(release, directory, **environment) as started:
            yield Managed(started, cluster, name)
