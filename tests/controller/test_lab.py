"""The lab: hosts made, cut off, killed and removed, beside other labs and without a trace on the machine."""

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fix_server import wait_for

ROOT = Path(__file__).parents[2]
NAME = "drill"
SSH = ["ssh", "-F", str(ROOT / ".lab" / NAME / "ssh_config"), "-o", "ConnectTimeout=60"]
DATABASE = "192.168.10.19"
AS_ROOT = [] if os.getuid() == 0 else ["sudo", "-n"]
NETWORK = str(ROOT / "roles/lab_host/files/network")


def run(*command: str, check: bool = True) -> str:
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "LAB_NAME": NAME}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0 or not check, done.stdout
    return done.stdout


def lab(action: str, *arguments: str) -> str:
    return run("ansible-playbook", "-i", "inventory/lab", "playbooks/lab.yml", "-e", f"lab_action={action}", *arguments)


def on(host: str, command: str, *, check: bool = True) -> str:
    return run(*SSH, host, command, check=check).strip()


def reaches(host: str, address: str, port: int = 22, *, seconds: int = 60) -> bool:
    """Can `host` open a TCP connection to `port` of `address` in time? What drops packets takes all of it."""
    return on(host, f"timeout {seconds} bash -c '</dev/tcp/{address}/{port}' && echo yes || echo no").endswith("yes")


def traces() -> list[str]:
    """What this machine has of the lab: processes, mounts, namespaces, control groups, files."""
    commands = {
        "process": f"pgrep --full --list-full 'litellm-lab-{NAME}|[.]lab/{NAME}'",
        "mount": f"grep -E 'litellm-lab-{NAME}|[.]lab/{NAME}' /proc/mounts",
        "namespace": f"ip netns list | grep -w litellm-lab-{NAME}",
        "control group": f"find /sys/fs/cgroup -name 'litellm-lab-{NAME}*'",
        "file": f"find /run .lab ~/.ansible/cp -maxdepth 1 -name '*{NAME}*'",
    }
    found = []
    for kind, command in commands.items():
        output = subprocess.run(["sh", "-c", command], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False).stdout
        found += [f"{kind}: {line}" for line in output.splitlines() if "sh -c" not in line]
    return found


def own_network() -> str:
    """The machine's own network, which no lab may touch."""
    command = "ip -brief link; ip route; ip rule; cat /proc/sys/net/ipv4/ip_forward; nft list ruleset"
    return subprocess.run(["sh", "-c", command], stdout=subprocess.PIPE, text=True, check=False).stdout


@pytest.fixture(scope="module")
def network_before() -> str:
    return own_network()


@pytest.fixture(scope="module", autouse=True)
def _lab(network_before: str) -> Iterator[None]:
    assert network_before
    lab("destroy")
    lab("present")
    yield
    lab("destroy")


@pytest.fixture
def healed() -> Iterator[Callable[..., str]]:
    yield lab
    lab("heal")


def test_second_run_changes_nothing() -> None:
    output = lab("present")
    assert output.count("changed=0") == 3


def test_plain_inventory_reaches_the_hosts() -> None:
    assert run("ansible", "-i", "inventory/lab", "all", "-m", "ping").count("SUCCESS") == 3


def test_hosts_are_debian_13_under_systemd_as_a_user_with_sudo() -> None:
    for host in ("gateway", "database-1", "192.168.10.20"):
        state = on(
            host, "id -un; sudo id -un; . /etc/os-release; echo $ID $VERSION_ID; systemctl is-system-running --wait"
        )
        assert state.split("\n") == ["deploy", "root", "debian 13", "running"]


def test_unknown_host_key_is_refused() -> None:
    known = ROOT / ".lab" / NAME / "known_hosts"
    right = known.read_text()
    gateway, database, model = right.splitlines()
    known.write_text(f"{gateway.split()[0]} {' '.join(database.split()[1:])}\n")
    try:
        assert "Host key verification failed" in on("gateway-1", "true", check=False)
    finally:
        known.write_text(right)
    assert model


def test_names_and_packages_resolve() -> None:
    assert on("gateway-1", "getent hosts database-1").split() == [DATABASE, "database-1"]
    assert "0 upgraded" in on("gateway-1", "sudo apt-get update -qq && apt-get install --simulate ca-certificates")


def test_loopback_of_the_machine_is_closed_to_the_lab() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert not reaches("gateway-1", "10.0.2.2", server.getsockname()[1], seconds=3)


def test_partition_between_two(healed: Callable[..., str]) -> None:
    arguments = ("--limit", "gateway-1", "-e", f'{{"lab_host_peers": ["{DATABASE}"]}}')
    assert "changed=1" in healed("partition", *arguments)
    assert "changed=0" in healed("partition", *arguments)
    assert not reaches("gateway-1", DATABASE, seconds=3)
    assert not reaches("database-1", "192.168.10.18", seconds=3)
    assert reaches("gateway-1", "192.168.10.20")
    assert "changed=1" in healed("heal", "--limit", "gateway-1")
    assert reaches("gateway-1", DATABASE)


def test_partition_from_everything(healed: Callable[..., str]) -> None:
    healed("partition", "--limit", "database-1")
    assert "timed out" in run("ssh", "-o", "ConnectTimeout=5", *SSH[1:], "database-1", "true", check=False)
    assert not reaches("gateway-1", DATABASE, seconds=3)
    healed("heal", "--limit", "database-1")
    assert reaches("gateway-1", DATABASE)
    assert "changed=0" in healed("heal", "--limit", "database-1")


def test_power_cut_and_start() -> None:
    on("gateway-1", "touch kept; sync")
    assert "changed=1" in lab("power_cut", "--limit", "gateway-1")
    assert "changed=0" in lab("power_cut", "--limit", "gateway-1")
    assert not reaches("database-1", "192.168.10.18", seconds=3)
    assert "changed=1" in lab("start", "--limit", "gateway-1")
    assert on("gateway-1", "ls") == "kept"


def test_reboot_from_inside() -> None:
    def boot() -> str:
        found = run(*SSH, "-o", "LogLevel=QUIET", "model-1", "cut -d' ' -f22 /proc/1/stat", check=False).strip()
        return found if found.isdecimal() else ""

    before = boot()
    assert before
    on("model-1", "sudo systemctl reboot", check=False)
    wait_for(lambda: boot() not in {"", before}, "it is up again")


def test_stop_and_wipe() -> None:
    on("model-1", "touch kept; sync")
    lab("stop", "--limit", "model-1")
    assert not reaches("gateway-1", "192.168.10.20", seconds=3)
    lab("wipe", "--limit", "model-1")
    assert on("model-1", "ls") == ""


def test_network_that_is_gone_comes_back() -> None:
    """As after a reboot of the machine: the files are there, nothing else is."""
    run(*AS_ROOT, NETWORK, "down", NAME)
    lab("present")
    assert run("ansible", "-i", "inventory/lab", "all", "-m", "ping").count("SUCCESS") == 3


def test_network_that_a_checkout_left_which_is_gone() -> None:
    run(*AS_ROOT, NETWORK, "down", NAME)
    run(*AS_ROOT, NETWORK, "up", NAME, f"/nonexistent/.lab/{NAME}", "/nonexistent", "0", "192.168.10.18:4000")
    lab("present")
    assert run("ansible", "-i", "inventory/lab", "all", "-m", "ping").count("SUCCESS") == 3
    assert lab("present").count("changed=0") == 3


def test_half_made_host_is_made_whole() -> None:
    lab("power_cut", "--limit", "model-1")
    upper = ROOT / ".lab" / NAME / "model-1" / "upper"
    run(*AS_ROOT, "mv", str(upper), f"{upper}.part")
    lab("present")
    assert on("model-1", "hostname") == "model-1"


def test_bad_action_is_refused() -> None:
    output = run(
        "ansible-playbook", "-i", "inventory/lab", "playbooks/lab.yml", "-e", "lab_action=explode", check=False
    )
    assert "value of lab_host_action must be one of: present" in output


def test_destroy_leaves_nothing(network_before: str) -> None:
    assert traces() != []
    assert own_network() == network_before
    lab("destroy")
    assert traces() == []
    assert own_network() == network_before
    assert lab("destroy").count("changed=0") == 3
