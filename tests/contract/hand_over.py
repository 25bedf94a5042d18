"""The same LiteLLM on the stand-in and on the genuine prisma-client-py, in turn on one database."""

import contextlib
import os
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests import fix_server
from tests.contract.oracle.install import oracle
from tests.fix_postgres import Database
from tests.fix_prisma import rows, url_of
from tests.fix_server import wait_for
from tests.ports import free_port

MASTER_KEY = "sk-the-master-key-of-the-tests"
CONFIG = """
model_list:
  - model_name: talks
    litellm_params: {model: openai/any, api_key: sk-any, mock_response: Hello, input_cost_per_token: 0.001}
"""
DAYS = "start_date=2026-01-01&end_date=2036-01-01"
CALLS = (
    "/key/info?key={key}",
    "/key/list?return_full_object=true&sort_by=created_at&sort_order=asc",
    "/team/info?team_id={team}",
    "/team/list",
    "/user/info?user_id={user}",
    "/user/list",
    "/customer/list",
    "/customer/info?end_user_id=end-{user}",
    "/budget/list",
    "/model/info",
    "/spend/logs",
    "/spend/keys",
    "/global/spend",
    "/global/spend/keys?limit=9",
    "/global/spend/models?limit=9",
    "/global/spend/teams",
    f"/global/activity?{DAYS}",
    f"/user/daily/activity?{DAYS}",
    f"/team/daily/activity?{DAYS}",
    "/credentials",
)


class Gateway:
    """A running LiteLLM."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def call(self, method: str, path: str, body: object = None, key: str = MASTER_KEY) -> Any:
        """Call it, and give its answer to what is right."""
        answer = self.request(method, path, body, key)
        assert answer.status_code == 200, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()

    def request(self, method: str, path: str, body: object = None, key: str = MASTER_KEY) -> httpx.Response:
        headers = {"authorization": f"Bearer {key}"}
        return httpx.request(method, f"{self.url}{path}", json=body, headers=headers, timeout=60)

    def chat(self, key: str, user: str) -> None:
        body = {"model": "talks", "user": user, "messages": [{"role": "user", "content": "Hi"}]}
        assert self.call("POST", "/v1/chat/completions", body, key)["choices"]

    def answers(self, **names: str) -> dict[str, tuple[int, Any]]:
        """Give what all calls say."""
        found = {}
        for path in CALLS:
            answer = self.request("GET", path.format(**names))
            found[path] = (answer.status_code, answer.json())
            if path == "/global/spend/teams":
                found[path][1]["teams"].sort()  # a set of LiteLLM's, in any order
        return found


@contextlib.contextmanager
def litellm(python: Path, environment: Mapping[str, str], directory: Path, url: str) -> Iterator[Gateway]:
    """Run it."""
    directory.mkdir()
    (directory / "config.yaml").write_text(CONFIG)
    port = free_port()
    with (directory / "log").open("w") as log:
        process = subprocess.Popen(
            [python, "-m", "uvicorn", "litellm.proxy.proxy_server:app", "--port", str(port)],
            env={
                **environment,
                "HOME": str(directory),
                "CONFIG_FILE_PATH": str(directory / "config.yaml"),
                "DATABASE_URL": url,
                "LITELLM_MASTER_KEY": MASTER_KEY,
                "LITELLM_SALT_KEY": "sk-salt-key-of-the-tests",
                "LITELLM_LOCAL_MODEL_COST_MAP": "True",
                "LITELLM_MODE": "PRODUCTION",
                "STORE_MODEL_IN_DB": "True",
                "PROXY_BATCH_WRITE_AT": "1",
            },
            stdout=log,
            stderr=log,
        )

    def is_ready() -> bool:
        assert process.poll() is None, (directory / "log").read_text()
        with contextlib.suppress(httpx.TransportError):
            return gateway.request("GET", "/health/readiness").status_code == 200
        return False

    gateway = Gateway(port)
    try:
        wait_for(is_ready, "LiteLLM is ready")
        yield gateway
    finally:
        process.terminate()
        process.wait(60)


@contextlib.contextmanager
def ours(directory: Path, url: str) -> Iterator[Gateway]:
    """LiteLLM on the stand-in."""
    with litellm(Path(sys.executable), {"PATH": os.environ["PATH"]}, directory, url) as gateway:
        yield gateway


@contextlib.contextmanager
def theirs(directory: Path, url: str) -> Iterator[Gateway]:
    """LiteLLM on prisma-client-py: all else is of the tests' packages, where there is no `prisma`."""
    made = oracle()
    environment = made.environment | {"PYTHONPATH": sysconfig.get_path("purelib")}
    with litellm(made.python, environment, directory, url) as gateway:
        yield gateway


def write(gateway: Gateway, name: str) -> dict[str, str]:
    """Make one of each, and have them used."""
    gateway.call("POST", "/budget/new", {"budget_id": f"budget-{name}", "max_budget": 3.5, "budget_duration": "30d"})
    gateway.call("POST", "/customer/new", {"user_id": f"end-{name}", "budget_id": f"budget-{name}"})
    gateway.call("POST", "/user/new", {"user_id": name, "user_email": f"{name}@example.org", "auto_create_key": False})
    team = gateway.call("POST", "/team/new", {"team_alias": name, "models": ["talks"], "metadata": {"é": [1, 2.5]}})
    member = {"role": "user", "user_id": name}
    gateway.call("POST", "/team/member_add", {"team_id": team["team_id"], "member": member, "max_budget_in_team": 5})
    values = {"credential_name": name, "credential_values": {"api_key": "sk-of-it"}, "credential_info": {"of": name}}
    gateway.call("POST", "/credentials", values)
    settings = {"key_alias": name, "team_id": team["team_id"], "user_id": name, "max_budget": 9, "duration": "30d"}
    key = gateway.call("POST", "/key/generate", settings)["key"]
    gateway.chat(key, f"end-{name}")
    return {"key": key, "team": team["team_id"], "user": name}


def settle(database: Database, calls: int) -> None:
    """Wait until what calls cost is written, in all tables."""
    sums = """
        SELECT (SELECT count(*) FROM "LiteLLM_SpendLogs" WHERE spend > 0) AS calls,
               (SELECT count(*) FROM "LiteLLM_VerificationToken" WHERE spend > 0) AS keys,
               (SELECT count(*) FROM "LiteLLM_TeamTable" WHERE spend > 0) AS teams,
               (SELECT count(*) FROM "LiteLLM_EndUserTable" WHERE spend > 0) AS customers,
               (SELECT coalesce(sum(api_requests), 0) FROM "LiteLLM_DailyUserSpend") AS days,
               (SELECT coalesce(sum(api_requests), 0) FROM "LiteLLM_DailyTeamSpend") AS team_days"""
    wait_for(lambda: all(count >= calls for count in rows(database, sums)[0].values()), "what calls cost")


def test_what_one_has_written_the_other_reads(
    migrated: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fix_server, "PATIENCE_SECONDS", 240)  # the genuine client alone takes its time to import
    url = url_of(migrated)
    with ours(tmp_path / "first", url) as gateway:
        first = write(gateway, "first")
        settle(migrated, 1)
        here = gateway.answers(**first)
    with theirs(tmp_path / "second", url) as gateway:
        there = gateway.answers(**first)
        for path in CALLS:
            assert there[path] == here[path], path
        assert (
            httpx.post(
                f"{gateway.url}/login", data={"username": "admin", "password": MASTER_KEY}, timeout=60
            ).status_code
            == 303
        )
        gateway.chat(first["key"], "end-first")
        second = write(gateway, "second")
        settle(migrated, 2)
        there = gateway.answers(**second)
    with ours(tmp_path / "third", url) as gateway:
        here = gateway.answers(**second)
        for path in CALLS:
            assert here[path] == there[path], path
        gateway.chat(second["key"], "end-second")


if __name__ == "__main__":
    sys.exit(pytest.main([__file__]))
