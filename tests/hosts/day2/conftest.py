"""The second day: one run of site.yml changes what the tests here look at, and one takes it back."""

from collections.abc import Generator

import httpx
import pytest
from testinfra.host import Host

from tests.hosts.day2.second_day import (
    DATABASE_PASSWORD,
    DATABASE_PORT,
    MASTER_KEY,
    METRICS_PORT,
    POLICIES,
    PORT,
    PROVIDER_KEY_FILE,
    PROVIDERS,
    REDACTIONS,
    ask,
)
from tests.hosts.lab import Lab


@pytest.fixture(scope="package")
def second_day(lab: Lab, gateway: Host) -> Generator[None]:
    parameters = lab.models[0]["litellm_params"] | {"api_key": "os.environ/PROVIDER_KEY"}
    added = {"model_name": "added", "litellm_params": parameters}
    scripted = [
        {"model_name": name, "litellm_params": {"model": "openai/none", "api_base": url, "api_key": "none"}}
        for name, url in PROVIDERS.items()
    ]
    with lab.upstream():
        lab.site(
            litellm_gateway_models=[*lab.models, added, *scripted],
            litellm_gateway_credentials={"PROVIDER_KEY": "provider"},
            litellm_gateway_port=PORT,
            litellm_gateway_workers=2,
            litellm_gateway_master_key=MASTER_KEY,
            litellm_gateway_ledger_policies=POLICIES,
            litellm_gateway_ledger_redactions=REDACTIONS,
            litellm_gateway_ledger_metrics_port=METRICS_PORT,
            postgres17_logins=lab.logins(ledger=[DATABASE_PASSWORD]),
            postgres17_port=DATABASE_PORT,
        )
        yield
    lab.site()
    assert not gateway.file(PROVIDER_KEY_FILE).exists
    with lab.client() as client:
        assert [entry["id"] for entry in client.get("/v1/models").json()["data"]] == ["smollm2", "smollm2-embedding"]
        lab.exchange(ask(client).headers["x-litellm-call-id"])


@pytest.fixture
def changed_client(lab: Lab) -> Generator[httpx.Client]:
    """An HTTP client of the gateway as it is on the second day."""
    with lab.client(key=MASTER_KEY, port=PORT) as client:
        yield client
