"""How long a key that was deleted is still good, while it is in use: what RUNBOOK.md and the evidence say of it."""

import contextlib
import time
from pathlib import Path

import httpx

from tests.fix_postgres import Cluster
from tests.fix_server import PATIENCE_SECONDS, wait_for
from tests.gateway.fix_managed import managing

KEPT_SECONDS = 60  # LiteLLM's user_api_key_cache_ttl, which the role leaves as it is


def test_each_worker_refuses_it_within_a_minute(cluster: Cluster, tmp_path: Path) -> None:
    with managing(cluster, tmp_path) as managed, contextlib.ExitStack() as stack:
        connections: list[httpx.Client] = []  # each stays with the worker that took it
        keys: list[str] = []

        def statuses() -> set[int]:
            headers = {"authorization": f"Bearer {keys[-1]}"}
            return {connection.get("/v1/models", headers=headers).status_code for connection in connections}

        def one_worker_alone_knows_that_it_is_deleted() -> bool:
            for _ in range(4):
                client = httpx.Client(base_url=f"http://127.0.0.1:{managed.litellm.port}", timeout=PATIENCE_SECONDS)
                connections.append(stack.enter_context(client))
            keys.append(managed.call("POST", "/key/generate", {})["key"])
            assert statuses() == {200}
            managed.call("POST", "/key/delete", {"keys": [keys[-1]]})
            return statuses() == {200, 401}

        def is_refused_everywhere() -> bool:
            time.sleep(1)  # it is to be in use, not to make the machine busy
            return statuses() == {401}

        wait_for(one_worker_alone_knows_that_it_is_deleted, "there are connections to both workers")
        wait_for(is_refused_everywhere, "the other worker refuses it too", KEPT_SECONDS + PATIENCE_SECONDS)
