"""What stops `make up`: found before anything is touched, each problem with its cure."""

import os
import shutil
import socket
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
AS_ROOT = [] if os.getuid() == 0 else ["sudo", "--non-interactive", "--preserve-env"]


def preflight(*before: str, root: Path = ROOT, **environment: str) -> list[str]:
    """Run the preflight, as an argument of `before`; return its problems, each with its cure."""
    run = subprocess.run(
        [*before, root / "scripts" / "preflight"],
        env={**os.environ, "LAB_NAME": "preflight", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    problems = run.stderr.split("Problem: ")[1:]
    assert run.returncode == (1 if problems else 0), run.stderr
    assert run.stdout == ""
    assert all("\n  Cure: " in problem for problem in problems)
    return problems


def in_own_mounts(script: str) -> list[str]:
    """A prefix that runs `script` in a mount namespace before it runs the rest."""
    return [*AS_ROOT, "unshare", "--mount", "sh", "-ec", script + '; exec "$@"', "sh"]


@pytest.fixture
def taken_port() -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield str(server.getsockname()[1])


@pytest.fixture
def closed_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return str(server.getsockname()[1])


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Nothing but the scripts: a checkout in which nothing was made yet."""
    shutil.copytree(ROOT / "scripts", tmp_path / "checkout" / "scripts")
    return tmp_path / "checkout"


def test_nothing_to_say_about_this_machine() -> None:
    assert preflight() == []


def test_other_architecture() -> None:
    [problem] = preflight("setarch", "i686")
    assert "Linux on i686" in problem
    assert "use an x86-64 machine" in problem


def test_neither_root_nor_sudo() -> None:
    [problem] = preflight(*AS_ROOT, "unshare", "--user")
    assert "is not root and can't use sudo without a password" in problem
    assert "NOPASSWD: ALL" in problem


def test_too_little_disk(tmp_path: Path) -> None:
    small = in_own_mounts(f"mount -t tmpfs -o size=50m tmpfs {tmp_path}")
    [problem] = preflight(*small, XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert f"{tmp_path} has 50 MB of free space; 6000 MB are needed" in problem
    assert "XDG_CACHE_HOME" in problem


def test_too_little_memory(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 2000000 kB\nMemAvailable: 1024000 kB\n")
    [problem] = preflight(*in_own_mounts(f"mount --bind {tmp_path}/meminfo /proc/meminfo"))
    assert "1000 MB of memory are available; 2500 MB are needed" in problem


def test_port_taken(taken_port: str) -> None:
    [problem] = preflight(LAB_GATEWAY_PORT=taken_port)
    assert f"port {taken_port} of 127.0.0.1 is taken by something else" in problem
    assert f"process {os.getpid()}" in problem
    assert "LAB_GATEWAY_PORT=" in problem


@pytest.fixture
def owned_lab(tmp_path: Path) -> Iterator[Path]:
    """What a lab named `others` leaves in /run; return the directory that it names as its own."""
    directory = tmp_path / "elsewhere/.lab/others"
    script = 'mkdir -p /run/litellm-lab-others; echo "$1" > /run/litellm-lab-others/directory'
    subprocess.run([*AS_ROOT, "sh", "-ec", script, "sh", directory], check=True)
    yield directory
    subprocess.run([*AS_ROOT, "rm", "-r", "/run/litellm-lab-others"], check=True)


@pytest.fixture
def process_of_the_lab() -> Iterator[None]:
    """A process in the control group of the lab named `others`, as each of its hosts is."""
    cgroups = Path("/sys/fs/cgroup")
    cgroup = (cgroups if (cgroups / "cgroup.controllers").exists() else cgroups / "unified") / "litellm-lab-others"
    script = 'mkdir "$1"; sleep 600 > /dev/null 2>&1 & echo $! > "$1/cgroup.procs"'
    subprocess.run([*AS_ROOT, "sh", "-ec", script, "sh", cgroup], check=True)
    yield
    script = 'echo 1 > "$1/cgroup.kill"; until rmdir "$1" 2>/dev/null; do sleep 0.05; done'
    subprocess.run([*AS_ROOT, "sh", "-ec", script, "sh", cgroup], timeout=60, check=True)


@pytest.mark.usefixtures("process_of_the_lab")
def test_lab_of_another_checkout(owned_lab: Path) -> None:
    owned_lab.mkdir(parents=True)
    [problem] = preflight(LAB_NAME="others")
    assert f"a lab named others runs already, from {owned_lab.parents[1]}" in problem
    assert "LAB_NAME=other make up" in problem


def test_lab_of_another_checkout_of_which_no_process_is_left(owned_lab: Path) -> None:
    owned_lab.mkdir(parents=True)
    assert preflight(LAB_NAME="others") == []


@pytest.mark.usefixtures("process_of_the_lab")
def test_lab_whose_checkout_is_gone(owned_lab: Path) -> None:
    assert not owned_lab.exists()
    assert preflight(LAB_NAME="others") == []


@pytest.mark.usefixtures("process_of_the_lab")
def test_own_lab_by_another_path(owned_lab: Path, tmp_path: Path) -> None:
    own = owned_lab.parents[1]
    owned_lab.mkdir(parents=True)
    shutil.copytree(ROOT / "scripts", own / "scripts")
    (tmp_path / "link").symlink_to(own)
    assert preflight(root=tmp_path / "link", LAB_NAME="others") == []


@pytest.mark.parametrize("name", ["Demo", "1st", "-", "a/b", "../x", "a" * 21, "a b"])
def test_name_that_cannot_name_a_lab(name: str) -> None:
    [problem] = preflight(LAB_NAME=name)
    assert f"LAB_NAME={name} can't name a lab" in problem


@pytest.mark.parametrize("version", ["3.10", "3.14"])
def test_unsupported_python(tmp_path: Path, version: str) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\n[ "$1" = -c ] && echo {version}\n')
    python.chmod(0o755)
    [problem] = preflight(PYTHON=str(python))
    assert f"{python} is Python {version}; 3.11, 3.12 and 3.13 are supported" in problem
    assert "PYTHON=" in problem


@pytest.mark.parametrize("version", ["2.18.1", "2.22.0"])
def test_unsupported_ansible_core(checkout: Path, version: str) -> None:
    python = checkout / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\necho {version}\n")
    python.chmod(0o755)
    [problem] = preflight(root=checkout)
    assert f"ansible-core in .venv is {version}; 2.19, 2.20 and 2.21 are supported" in problem
    assert "remove .venv" in problem


def test_no_route_to_the_package_index_by_uv(closed_port: str) -> None:
    url = f"http://127.0.0.1:{closed_port}/simple"
    [problem] = preflight(UV_DEFAULT_INDEX=url, PIP_INDEX_URL=url)
    assert "package index gives no answer" in problem
    assert all(name in problem for name in ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", "https_proxy", "SSL_CERT_FILE"))


def test_no_route_to_the_package_index_by_pip(checkout: Path, tmp_path: Path, closed_port: str) -> None:
    venv.create(tmp_path / "venv", with_pip=True)
    url = f"http://127.0.0.1:{closed_port}/simple"
    [problem] = preflight(root=checkout, PYTHON=str(tmp_path / "venv/bin/python"), PIP_INDEX_URL=url)
    assert "package index gives no answer" in problem
    assert "PIP_INDEX_URL" in problem


def test_before_pip_is_there(checkout: Path) -> None:
    assert preflight(root=checkout, PYTHON="/nonexistent/python") == []


def test_path_that_mounts_cannot_take(checkout: Path) -> None:
    odd = checkout.rename(checkout.with_name("my checkout"))
    [problem] = preflight(root=odd, PYTHON=sys.executable)
    assert "has a character that mounts can't take" in problem


def test_all_problems_at_once(taken_port: str) -> None:
    problems = preflight("setarch", "i686", LAB_NAME="A", LAB_GATEWAY_PORT=taken_port)
    assert len(problems) == 3
