"""What LiteLLM imports as `prisma`: the names, and that there is no other one."""

import subprocess
import sys
from pathlib import Path

import pytest

import prisma
from litellm_sqlalchemy.prisma_client import errors


def test_the_genuine_one_beside_it_is_refused_with_the_cure(tmp_path: Path) -> None:
    metadata = tmp_path / "prisma-0.15.0.dist-info" / "METADATA"
    metadata.parent.mkdir()
    metadata.write_text("Metadata-Version: 2.1\nName: prisma\nVersion: 0.15.0\n")
    program = f"import sys; sys.path.append({str(tmp_path)!r}); import prisma"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ImportError: prisma (prisma-client-py 0.15.0) is installed beside" in done.stderr
    assert "pip uninstall prisma" in done.stderr


def test_errors_are_under_the_names_that_litellm_knows() -> None:
    assert prisma.errors.UniqueViolationError is errors.UniqueViolationError
    assert issubclass(prisma.engine.errors.EngineConnectionError, prisma.errors.PrismaError)


def test_rows_have_classes_by_name() -> None:
    row = prisma.models.LiteLLM_UserTable
    assert row.__prisma_model__ == "LiteLLM_UserTable"
    assert row.model_fields["user_id"].is_required()
    with pytest.raises(AttributeError, match="LiteLLM_Nothing"):
        _ = prisma.models.LiteLLM_Nothing


def test_types_can_be_called() -> None:
    assert prisma.types.LiteLLM_RetiredAgentCreateInput(original_agent_id="a") == {"original_agent_id": "a"}


def test_a_model_that_is_not_there_is_named() -> None:
    with pytest.raises(AttributeError, match="no model 'litellm_nothing'"):
        _ = prisma.Prisma().litellm_nothing


async def test_a_client_that_is_not_connected_says_so() -> None:
    with pytest.raises(prisma.errors.ClientNotConnectedError):
        await prisma.Prisma().litellm_usertable.count()
