"""Somebody who types what the documents say, in a fresh copy of the checkout."""

import os
import shutil
import subprocess
from collections.abc import Generator
from pathlib import Path

import pytest

from tests.ports import free_port

HERE = Path(__file__).parents[2]
LAB = "readme"
SHELL = ["bash", "-eu", "-o", "pipefail", "-c"]


class Reader:
    """Somebody who has cloned the repository, and types what is in its README."""

    def __init__(self, checkout: Path) -> None:
        self.checkout = checkout
        self.port = str(free_port())

    def environment(self, **more: str) -> dict[str, str]:
        """The shell's: neither in a Python environment, nor in a make that runs the tests."""
        inherited = {name: value for name, value in os.environ.items() if name not in {"VIRTUAL_ENV", "MAKEFLAGS"}}
        return {**inherited, "LAB_NAME": LAB, "LAB_GATEWAY_PORT": self.port, **more}

    def type(self, commands: str, **environment: str) -> str:
        """Type commands into a shell; return what they print. A failure fails the test and shows all of it."""
        done = subprocess.run(
            [*SHELL, commands],
            cwd=self.checkout,
            env=self.environment(**environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout


@pytest.fixture(scope="session")
def reader() -> Generator[Reader]:
    # Always the same place, so that a run that was killed can be cleaned up after.
    checkout = HERE / ".cache" / "readme"
    reader = Reader(checkout)
    if checkout.exists():
        reader.type("make down")
        shutil.rmtree(checkout)
    files = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=HERE,
        capture_output=True,
        check=True,
    )
    for name in files.stdout.decode().split("\0"):
        # Evidence is made there; here, another test may be writing it.
        if name and not name.startswith("evidence/") and (HERE / name).exists():
            (checkout / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(HERE / name, checkout / name, follow_symlinks=False)
    yield reader
    reader.type("make down")
    shutil.rmtree(checkout)
