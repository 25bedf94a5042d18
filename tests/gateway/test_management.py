"""All that LiteLLM keeps in its database, by its HTTP API: on the stand-in for Prisma, with two workers."""

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.fix_server import wait_for
from tests.gateway.fix_litellm import MASTER_KEY, NEWEST, OLDER, PINNED
from tests.gateway.fix_managed import Managed, managing

DAYS = {"start_date": "2026-01-01", "end_date": "2036-01-01"}
PASSWORD = "a password of the tests"
# Of LiteLLM's release, driver, version of PostgreSQL and way to it; `make contract-full` runs all of them.
WAYS = ("direct", "pgbouncer", "replica")
COVERING = (  # each of them somewhere, but for a release between the oldest and the pinned one
    f"{PINNED}-asyncpg-17-direct",
    f"{PINNED}-psycopg-17-replica",
    f"{NEWEST}-asyncpg-17-pgbouncer",
    f"{OLDER[0]}-psycopg-15-direct",
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run all tests on each combination, and those that have the same gateway one after another."""
    if "managed" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("combination") or COVERING
        metafunc.parametrize("managed", chosen, indirect=True, scope="module")


@pytest.fixture(scope="module")
def managed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Managed]:
    release, driver, version, way = request.param.split("-")
    cluster = request.getfixturevalue("cluster_15" if version == "15" else "cluster")
    with managing(cluster, tmp_path_factory.mktemp("managed"), release, driver, way) as started:
        yield started


@pytest.fixture
def new_key(managed: Managed) -> Callable[..., str]:
    return lambda **settings: managed.call("POST", "/key/generate", settings)["key"]


@pytest.fixture
def name() -> str:
    return f"test-{uuid.uuid4().hex[:12]}"


def test_the_database_is_there(managed: Managed) -> None:
    assert managed.call("GET", "/health/readiness")["db"] in {"connected", "healthy"}


def test_a_key_lives(managed: Managed, name: str) -> None:
    made = managed.call(
        "POST", "/key/generate", {"key_alias": name, "models": ["talks"], "metadata": {"room": "12"}, "max_budget": 9}
    )
    key = made["key"]
    assert managed.chat(key)["choices"]
    managed.eventually_refused(key, "embeds", 401, 403, model="embeds")
    info = managed.call("GET", f"/key/info?key={key}")["info"]
    assert (info["key_alias"], info["metadata"]["room"], info["max_budget"]) == (name, "12", 9)
    managed.call("POST", "/key/update", {"key": key, "max_budget": 20, "metadata": {"room": "13"}})
    info = managed.call("GET", "/key/info", key=key)["info"]
    assert (info["metadata"]["room"], info["max_budget"]) == ("13", 20)
    listed = managed.call("GET", "/key/list", key_alias=name, return_full_object="true")
    assert [one["key_alias"] for one in listed["keys"]] == [name]
    managed.call("POST", "/key/block", {"key": key})
    managed.eventually_refused(key, "blocked", 401, 403)
    managed.call("POST", "/key/unblock", {"key": key})
    question = {"model": "talks", "messages": [{"role": "user", "content": "Hi"}]}
    wait_for(
        lambda: managed.litellm.post("/v1/chat/completions", question, key).status_code == 200, "the key is taken again"
    )
    managed.call("POST", "/key/delete", {"keys": [key]})
    managed.eventually_refused(key, "token", 401)


def test_a_key_s_budget_is_kept(managed: Managed, new_key: Callable[..., str]) -> None:
    key = new_key(max_budget=0.00001)
    managed.chat(key)
    managed.eventually_refused(key, "budget", 400, 422, 429)


def test_what_a_key_spends_is_written(managed: Managed, new_key: Callable[..., str], name: str) -> None:
    key = new_key(key_alias=name)
    answer = managed.chat(key, user=f"end-{name}")
    costs = 5 * 0.001 + 2 * 0.01

    def spend() -> Any:
        return managed.call("GET", f"/key/info?key={key}")["info"]["spend"]

    wait_for(lambda: spend() == pytest.approx(costs), "the key's spend")
    logged = """
        SELECT spend, total_tokens, end_user, status FROM "LiteLLM_SpendLogs"
         WHERE api_key = (SELECT token FROM "LiteLLM_VerificationToken" WHERE key_alias = %(name)s)"""
    wait_for(lambda: managed.rows(logged, name=name), "the call's log")
    assert managed.rows(logged, name=name) == [(pytest.approx(costs), 7, f"end-{name}", "success")]
    assert managed.call("GET", "/spend/logs", request_id=answer["id"])

    def days() -> Any:
        return managed.call("GET", "/user/daily/activity?start_date=2026-01-01&end_date=2036-01-01")["results"]

    wait_for(lambda: days() and days()[0]["metrics"]["total_tokens"] >= 7, "the day's sum")


def test_a_user_lives(managed: Managed, name: str) -> None:
    made = managed.call("POST", "/user/new", {"user_id": name, "user_email": f"{name}@example.org", "max_budget": 3})
    assert made["user_id"] == name
    assert managed.chat(made["key"])["choices"]
    managed.call("POST", "/user/update", {"user_id": name, "max_budget": 4})
    assert managed.call("GET", "/user/info", user_id=name)["user_info"]["max_budget"] == 4
    users = managed.call("GET", "/user/list", user_ids=name)["users"]
    assert [user["user_id"] for user in users] == [name]
    managed.call("POST", "/user/delete", {"user_ids": [name]})
    assert managed.rows('SELECT count(*) FROM "LiteLLM_UserTable" WHERE user_id = %(name)s', name=name) == [(0,)]


def test_a_team_lives(managed: Managed, new_key: Callable[..., str], name: str) -> None:
    managed.call("POST", "/user/new", {"user_id": name, "auto_create_key": False})
    team = managed.call("POST", "/team/new", {"team_alias": name, "models": ["talks"], "max_budget": 50})["team_id"]
    member = {"role": "user", "user_id": name}
    managed.call("POST", "/team/member_add", {"team_id": team, "member": member, "max_budget_in_team": 5})
    info = managed.call("GET", "/team/info", team_id=team)
    assert name in [one["user_id"] for one in info["team_info"]["members_with_roles"]]
    (membership,) = [one for one in info["team_memberships"] if one["user_id"] == name]
    assert membership["litellm_budget_table"]["max_budget"] == 5
    key = new_key(team_id=team, user_id=name)
    assert managed.chat(key)["choices"]
    managed.call("POST", "/team/update", {"team_id": team, "tpm_limit": 10_000})
    managed.call("POST", "/team/member_update", {"team_id": team, "user_id": name, "max_budget_in_team": 6})
    managed.call("POST", "/team/model/add", {"team_id": team, "models": ["embeds"]})
    managed.call("POST", "/team/model/delete", {"team_id": team, "models": ["embeds"]})
    managed.eventually_lists(name, "/team/list")
    wait_for(
        lambda: managed.call("GET", "/team/info", team_id=team)["team_info"]["spend"] > 0, "what the team has spent"
    )
    managed.call("POST", "/team/member_delete", {"team_id": team, "user_id": name})
    managed.call("POST", "/team/delete", {"team_ids": [team]})
    managed.eventually_refused(key, "", 400, 401, 404)


def test_a_team_s_budget_is_kept(managed: Managed, new_key: Callable[..., str], name: str) -> None:
    team = managed.call("POST", "/team/new", {"team_alias": name, "max_budget": 0.00001})["team_id"]
    key = new_key(team_id=team)
    managed.chat(key)
    managed.eventually_refused(key, "budget", 400, 422, 429)


def test_a_model_in_the_database_serves(managed: Managed, name: str) -> None:
    parameters = {"model": "openai/any", "api_key": "sk-a-providers-key", "mock_response": "from the database"}
    made = managed.call("POST", "/model/new", {"model_name": name, "litellm_params": parameters})
    stored = managed.rows(
        'SELECT litellm_params::text FROM "LiteLLM_ProxyModelTable" WHERE model_name = %(name)s', name=name
    )
    assert "sk-a-providers-key" not in str(stored)  # encrypted
    asked = {"model": name, "messages": [{"role": "user", "content": "Hi"}]}
    wait_for(
        lambda: managed.litellm.post("/v1/chat/completions", asked).status_code == 200,
        "a worker knows the model",
    )
    managed.eventually_lists(name, "/v2/model/info")
    managed.call("POST", "/model/delete", {"id": made["model_id"]})
    assert not managed.rows('SELECT 1 FROM "LiteLLM_ProxyModelTable" WHERE model_name = %(name)s', name=name)


def test_a_customer_lives(managed: Managed, name: str) -> None:
    managed.call("POST", "/customer/new", {"user_id": name, "max_budget": 1})
    info = managed.call("GET", "/customer/info", end_user_id=name)
    assert info["litellm_budget_table"]["max_budget"] == 1
    managed.call("POST", "/customer/update", {"user_id": name, "max_budget": 2})
    assert name in [one["user_id"] for one in managed.call("GET", "/customer/list")]
    managed.call("POST", "/customer/delete", {"user_ids": [name]})


def test_a_budget_lives(managed: Managed, name: str) -> None:
    managed.call("POST", "/budget/new", {"budget_id": name, "max_budget": 3, "budget_duration": "1d"})
    managed.call("POST", "/budget/update", {"budget_id": name, "max_budget": 4})
    (info,) = managed.call("POST", "/budget/info", {"budgets": [name]})
    assert info["max_budget"] == 4
    assert name in [one["budget_id"] for one in managed.call("GET", "/budget/list")]
    managed.call("POST", "/budget/delete", {"id": name})


def test_a_credential_lives(managed: Managed, name: str) -> None:
    secret = f"sk-of-{name}"
    body = {"credential_name": name, "credential_values": {"api_key": secret}, "credential_info": {"of": "tests"}}
    managed.call("POST", "/credentials", body)
    managed.eventually_lists(name, "/credentials")
    assert secret not in str(managed.rows('SELECT credential_values::text FROM "LiteLLM_CredentialsTable"'))
    managed.call("DELETE", f"/credentials/{name}")


def test_an_organization_lives(managed: Managed, name: str) -> None:
    if not managed.is_older:  # of those who pay for it
        managed.call("POST", "/organization/new", {"organization_alias": name}, status=403)
        return
    made = managed.call("POST", "/organization/new", {"organization_alias": name, "max_budget": 5})
    organization = made["organization_id"]
    managed.call("POST", "/user/new", {"user_id": name, "auto_create_key": False})
    member = {"role": "internal_user", "user_id": name}
    managed.call("POST", "/organization/member_add", {"organization_id": organization, "member": member})
    info = managed.call("GET", "/organization/info", organization_id=organization)
    assert name in json.dumps(info["members"])
    managed.call("DELETE", "/organization/delete", {"organization_ids": [organization]})


def test_a_guardrail_lives(managed: Managed, name: str) -> None:
    parameters = {
        "guardrail": "presidio",
        "mode": "pre_call",
        "presidio_analyzer_api_base": "http://127.0.0.1:9",
        "presidio_anonymizer_api_base": "http://127.0.0.1:9",
    }
    guardrail = {"guardrail_name": name, "litellm_params": parameters, "guardrail_info": {"of": "tests"}}
    made = managed.call("POST", "/guardrails", {"guardrail": guardrail})
    managed.eventually_lists(name, "/v2/guardrails/list")
    managed.call("DELETE", f"/guardrails/{made['guardrail_id']}")


def test_an_mcp_server_lives(managed: Managed, name: str) -> None:
    name = name.replace("-", "_")
    server = {"server_name": name, "url": "http://127.0.0.1:9/mcp", "transport": "http"}
    made = managed.call("POST", "/v1/mcp/server", server, status=201)
    managed.eventually_lists(name, "/v1/mcp/server")
    answer = httpx.delete(
        f"http://127.0.0.1:{managed.litellm.port}/v1/mcp/server/{made['server_id']}",
        headers={"authorization": f"Bearer {MASTER_KEY}"},
        timeout=60,
    )
    assert answer.status_code in {200, 202}


def test_settings_are_kept(managed: Managed) -> None:
    managed.call("POST", "/config/update", {"litellm_settings": {"success_callback": []}, "environment_variables": {}})
    assert managed.rows("SELECT 1 FROM \"LiteLLM_Config\" WHERE param_name = 'litellm_settings'") == [(1,)]


@pytest.mark.parametrize(
    "path",
    [
        "/global/spend",
        "/global/spend/keys?limit=5",
        "/global/spend/models?limit=5",
        "/global/spend/teams",
        "/global/spend/logs",
        "/global/activity",
        "/global/activity/model",
        "/global/spend/provider",
        "/global/spend/tags",
        "/global/spend/all_tag_names",
        "/spend/keys",
        "/spend/users",
        "/spend/logs/ui",
        "/user/daily/activity/aggregated",
        "/team/daily/activity",
        "/tag/daily/activity",
        "/tag/list",
        "/prompts/list",
        "/v1/agents",
        "/vector_store/list",
        "/invitation/info?invitation_id=none",
        "/health/history",
        "/get/config/callbacks",
        "/get/internal_user_settings",
        "/model_group/info",
        "/v2/team/list",
    ],
)
def test_a_report_can_be_read(managed: Managed, path: str) -> None:
    answer = httpx.get(
        f"http://127.0.0.1:{managed.litellm.port}{path}",
        params=None
        if "?" in path
        else {"start_date": "2026-01-01 00:00:00", "end_date": "2036-01-01 00:00:00"}
        if path == "/spend/logs/ui"
        else DAYS,
        headers={"authorization": f"Bearer {MASTER_KEY}"},
        timeout=60,
    )
    assert answer.status_code == (400 if "invitation" in path else 200), answer.text


def test_one_logs_in_to_the_admin_ui(managed: Managed, name: str) -> None:
    login = {"username": "admin", "password": MASTER_KEY}
    answer = httpx.post(f"http://127.0.0.1:{managed.litellm.port}/login", data=login, timeout=60)
    assert answer.status_code == 303
    assert "token" in answer.cookies or "token" in answer.headers["location"]


def test_a_replica_is_read(managed: Managed, request: pytest.FixtureRequest) -> None:
    sessions = managed.rows(
        "SELECT DISTINCT usename FROM pg_stat_activity WHERE datname = current_database() AND usename LIKE 'litellm%%'",
        none="",
    )
    has_replica = request.node.callspec.id.endswith("-replica")
    assert sorted(sessions) == ([("litellm_a",), ("litellm_reader_a",)] if has_replica else [("litellm_a",)])


def test_the_log_has_no_error_of_the_database(managed: Managed) -> None:
    managed.has_logged_no_error_of_the_database()
