"""What is changed on the second day."""

from typing import Any

import httpx

from tests.hosts.lab import MODEL

PORT = 4100
DATABASE_PORT = 5433
METRICS_PORT = 4101
# With what systemd, which reads them from a file, could take for its own.
POLICIES = [{"capture": "metadata", "models": ["it's $HOME", "unkept"]}]
REDACTIONS = [{"pattern": "password of (['\"])\\w+\\1", "replacement": "'somebody' $x"}]
MASTER_KEY = "sk-master-key-of-the-second-day"
DATABASE_PASSWORD = "database-password-of-the-second-day"
PROVIDER_KEY_FILE = "/etc/litellm/credentials/PROVIDER_KEY"
PROVIDERS = {
    "unreachable": f"http://{MODEL}:9/v1",
    "unauthorized": f"http://{MODEL}:8090/401/v1",
    "throttled": f"http://{MODEL}:8090/429/v1",
    "broken": f"http://{MODEL}:8090/500/v1",
    "slow": f"http://{MODEL}:8090/slow/v1",
    "echo": f"http://{MODEL}:8090/echo/v1",
    "unkept": f"http://{MODEL}:8090/echo/v1",
}


def ask(client: httpx.Client, model: str = "smollm2", **more: Any) -> httpx.Response:
    question = {"model": model, "messages": [{"role": "user", "content": "Say yes."}], "max_tokens": 5}
    return client.post("/v1/chat/completions", json=question | more)
