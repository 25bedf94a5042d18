"""LiteLLM under load when its database's primary is lost and a standby is promoted: it goes on, without a restart."""

import threading
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.fix_failover import Pair, running_pair
from tests.fix_litellm_database import DRIVERS
from tests.fix_postgres import APPLICATION_PASSWORD
from tests.fix_server import wait_for
from tests.gateway.fix_litellm import MASTER_KEY, PINNED, WRONG_KEY, LiteLLM, running
from tests.gateway.fix_managed import SALT_KEY, Managed, migrate

DATABASE = "failed_over"
CONNECTIONS = 5  # of each of the two workers
PATIENCE_SECONDS = 180
IN_A_ROW = 12  # good answers of each kind, so that either worker has given some
QUESTION = {"model": "talks", "messages": [{"role": "user", "content": "Hi"}]}


@pytest.fixture(params=DRIVERS)
def pair_and_litellm(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Pair, LiteLLM]]:
    with running_pair() as pair:
        migrate(pair.primary, DATABASE, PINNED)
        address = pair.address(DATABASE, connection_limit=CONNECTIONS, connect_timeout=2)
        environment = {
            "DATABASE_URL": f"postgresql://litellm_a:{APPLICATION_PASSWORD}@{address}",
            "PRISMA_CLIENT_DRIVER": request.param,
            "LITELLM_SALT_KEY": SALT_KEY,
            "PROXY_BATCH_WRITE_AT": "1",
            # How soon LiteLLM tries again to connect, once it has found the database away; 15 and 30 by default.
            "PRISMA_RECONNECT_COOLDOWN_SECONDS": "1",
            "PRISMA_HEALTH_WATCHDOG_INTERVAL_SECONDS": "5",
        }
        with running(PINNED, tmp_path, **environment) as litellm:
            yield pair, litellm


@dataclass
class Load:
    """Callers of one gateway, each of which calls until it is told to stop."""

    litellm: LiteLLM
    statuses: dict[str, Counter[int]] = field(default_factory=dict)
    in_a_row: Counter[str] = field(default_factory=Counter)
    made: dict[str, str] = field(default_factory=dict)  # keys, by alias
    is_over: threading.Event = field(default_factory=threading.Event)

    def make_key(self) -> int:
        alias = uuid.uuid4().hex
        answer = self.litellm.post("/key/generate", {"key_alias": alias}, MASTER_KEY)
        if answer.status_code == 200:
            self.made[alias] = answer.json()["key"]
        return answer.status_code

    def chat(self, key: str) -> int:
        answer = self.litellm.post("/v1/chat/completions", QUESTION, key)
        assert answer.status_code != 200 or answer.json()["choices"]
        return answer.status_code

    def chat_with_newest_key(self) -> int:
        return self.chat(next(reversed(self.made.values())))

    def repeat(self, name: str, call: Callable[[], int], good: int) -> None:
        counted = self.statuses.setdefault(name, Counter())
        while not self.is_over.is_set():
            status = call()
            counted[status] += 1
            self.in_a_row[name] = self.in_a_row[name] + 1 if status == good else 0

    def has_failed(self) -> bool:
        return any(status >= 500 for counted in self.statuses.values() for status in [*counted])

    def is_well(self) -> bool:
        return len(self.in_a_row) == len(self.statuses) and min(self.in_a_row.values()) >= IN_A_ROW


def test_litellm_goes_on_by_the_promoted_standby(pair_and_litellm: tuple[Pair, LiteLLM]) -> None:
    pair, litellm = pair_and_litellm
    load = Load(litellm)
    assert load.make_key() == 200
    (old_key,) = load.made.values()
    callers: dict[str, tuple[Callable[[], int], int]] = {
        "makes keys": (load.make_key, 200),
        "chats with an old key": (lambda: load.chat(old_key), 200),
        "chats with the newest key": (load.chat_with_newest_key, 200),
        "chats with a wrong key": (lambda: load.chat(WRONG_KEY), 401),
    }
    with ThreadPoolExecutor() as pool:
        futures = [pool.submit(load.repeat, name, call, good) for name, (call, good) in callers.items()]
        try:
            wait_for(lambda: len(load.statuses) == len(callers) and load.is_well(), "all is well", PATIENCE_SECONDS)
            pair.lose_primary()
            wait_for(load.has_failed, "it shows", PATIENCE_SECONDS)
            pair.promote()
            load.in_a_row.clear()
            wait_for(load.is_well, "all is well again", PATIENCE_SECONDS)
        except AssertionError as error:
            log = (litellm.spool.parents[1] / "log").read_text()
            raise AssertionError(f"{error}\n{load.statuses}\n{log[-10_000:]}") from None
        finally:
            load.is_over.set()
    for future in futures:
        future.result()
    for name, (_, good) in callers.items():
        assert {status for status in load.statuses[name] if status < 500} <= {good}, load.statuses
    managed = Managed(litellm, pair.standby, DATABASE)
    for alias, key in load.made.items():
        assert managed.call("GET", "/key/info", key=key)["info"]["key_alias"] == alias
    wait_for(lambda: set(pair.sessions(DATABASE)) == {"idle"}, "no session waits for anything")
    assert len(pair.sessions(DATABASE)) <= 2 * CONNECTIONS
