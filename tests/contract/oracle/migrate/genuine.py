"""The genuine Prisma Migrate 6.19 on its schema engine as WebAssembly: installed when it is first asked for.

usage: python -m tests.contract.oracle.migrate.genuine SCHEMA COMMAND…   runs Prisma's command on $DATABASE_URL
"""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.contract.oracle.install import ANY_FILE, ENGINES, NODE, NPM, REPOSITORY
from tests.fix_prisma import SECRETS, Done

HERE = Path(__file__).parent
CACHE = REPOSITORY / ".cache/oracle-migrate"


def genuine(*arguments: str, url: str, schema: Path) -> Done:
    """Run Prisma's command with the migrations beside a schema."""
    command = CACHE / "node_modules/prisma/build/index.js"
    return _node(str(command), *arguments, "--config", str(HERE / "prisma.config.mjs"), url=url, schema=schema)


def genuine_difference(url: str, schema: Path) -> str:
    """Write the SQL that leads from a database to a schema."""
    done = _node(str(HERE / "diff.mjs"), str(schema), url=url, schema=schema)
    assert done.code == 0, done.stderr
    return done.stdout


def _node(*arguments: str, url: str, schema: Path) -> Done:
    _install()
    environment = _environment() | {"DATABASE_URL": url, "ORACLE_SCHEMA": str(schema)}
    done = subprocess.run(
        ["node", *arguments], env=environment, cwd=schema.parent, capture_output=True, text=True, check=False
    )
    for secret in SECRETS:
        assert secret not in done.stdout + done.stderr
    return Done(done.returncode, done.stdout, done.stderr)


def _environment() -> dict[str, str]:
    return {
        "PATH": f"{NODE}:{os.environ['PATH']}",
        "HOME": os.environ["HOME"],
        "ORACLE_PACKAGES": str(CACHE),
        "CHECKPOINT_DISABLE": "1",
        **dict.fromkeys(ENGINES, ANY_FILE),
    }


def _install() -> None:
    wanted = hashlib.sha256((HERE / "package-lock.json").read_bytes()).hexdigest()
    made = CACHE / "made"
    if made.is_file() and made.read_text() == wanted:
        return
    shutil.rmtree(CACHE, ignore_errors=True)
    CACHE.mkdir(parents=True)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / name, CACHE)
    done = subprocess.run(
        [*NPM, "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
        env=dict(os.environ) | {"PATH": f"{NODE}:{os.environ['PATH']}"},
        cwd=CACHE,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(
            f"Prisma cannot be installed: npm failed. It needs npm's registry.\n{done.stdout}{done.stderr}"
        )
    made.write_text(wanted)


if __name__ == "__main__":
    did = genuine(*sys.argv[2:], url=os.environ["DATABASE_URL"], schema=Path(sys.argv[1]).absolute())
    print(did.stdout + did.stderr)  # noqa: T201
    sys.exit(did.code)
