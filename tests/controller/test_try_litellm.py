"""What `make try-litellm` refuses: before anything is installed, with the cure."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("release", "because"),
    [
        ("", "'' is no number of a release"),
        ("newest", "'newest' is no number of a release"),
        ("1.110", "'1.110' is no number of a release"),
        ("../1.83.0", "'../1.83.0' is no number of a release"),
        ("1.82.07", "'1.82.07' is no number of a release"),
        ("1.82.7", "'1.82.7' was published with malware that steals credentials (2026-03-24, BerriAI/litellm#24512)"),
        ("1.82.8", "'1.82.8' was published with malware that steals credentials (2026-03-24, BerriAI/litellm#24512)"),
        ("1.107.0", "'1.107.0' was taken off the package index, and we do not know why"),
        ("0.0.1", "'0.0.1' cannot be locked (see above)"),  # no index has it, or there is none
    ],
)
def test_a_release_is_refused(release: str, because: str) -> None:
    run = subprocess.run([ROOT / "scripts/try-litellm", release], capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert run.stdout == ""
    assert f"LiteLLM {because}.\n  Cure: " in run.stderr
    assert not (ROOT / f".cache/litellm-{release}").is_dir()
    assert not (ROOT / f".cache/litellm-{release}.txt").exists()
