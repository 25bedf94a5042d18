"""What docs/leaving-prisma.md says, typed as it says, on a database that LiteLLM has used before."""

import hashlib
import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from tests.fix_postgres import OWNER_PASSWORD, Database
from tests.fix_prisma import prisma, url_of
from tests.fix_server import wait_for
from tests.ports import free_port, listens
from tests.readme.fix_reader import HERE, SHELL, Reader

PAGE = (HERE / "docs/leaving-prisma.md").read_text()
ENVIRONMENT, DOCTOR, START, KEY_INFO = re.findall(r"^```bash plain\b.*?\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
MASTER_KEY = "sk-the-master-key-of-before"
KEY = "sk-a-key-of-before"
CONFIG = """
model_list:
  - {model_name: mocked, litellm_params: {model: openai/gpt-4o-mini, api_key: none, mock_response: Hello}}
general_settings: {master_key: os.environ/LITELLM_MASTER_KEY}
"""


@pytest.fixture
def used_database(empty_database: Database) -> Database:
    """With LiteLLM's tables, noted as Prisma notes them, and a key."""
    assert prisma("migrate", "deploy", url=url_of(empty_database)).code == 0
    empty_database.cluster.execute(
        """INSERT INTO "LiteLLM_VerificationToken" (token, key_name, key_alias, models)
           VALUES (%(token)s, 'sk-...', 'made before', '{}')""",
        empty_database.name,
        {"token": hashlib.sha256(KEY.encode()).hexdigest()},
    )
    return empty_database


@pytest.mark.long
def test_the_way_from_prisma(reader: Reader, used_database: Database, tmp_path: Path) -> None:
    cache = os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache"))
    variables = {
        "HOME": str(tmp_path),
        "XDG_CACHE_HOME": cache,
        "DATABASE_URL": url_of(used_database),
        "LITELLM_MASTER_KEY": MASTER_KEY,
        "LITELLM_SALT_KEY": "sk-the-salt-key-of-before",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it waits for the internet
        "PORT": str(free_port()),
        "KEY": KEY,
    }
    reader.type(ENVIRONMENT, **variables)
    found = reader.type(DOCTOR, **variables)
    assert "problem" not in found
    assert OWNER_PASSWORD not in found
    (reader.checkout / "config.yaml").write_text(CONFIG)
    log = tmp_path / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [*SHELL, START],
            cwd=reader.checkout,
            env=reader.environment(**variables),
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        wait_for(lambda: listens(int(variables["PORT"])) or process.poll() is not None, "LiteLLM listens", 180)
        assert process.poll() is None, log.read_text()
        assert "Application startup complete" in log.read_text()
        assert json.loads(reader.type(KEY_INFO, **variables))["info"]["key_alias"] == "made before"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)
