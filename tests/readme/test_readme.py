"""What README.md promises, typed as it says, in a fresh copy of the checkout with a lab of its own.

The tests go one after the other, like the reader does.
"""

import json
import re
import subprocess

import pytest

from tests.readme.fix_reader import HERE, LAB, Reader

BLOCKS = re.findall(r"^```bash\n(.*?)^```$", (HERE / "README.md").read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def up(reader: Reader) -> str:
    """What `make up` prints the first time."""
    return reader.type("make up")


def changed(output: str) -> dict[str, int]:
    return {host: int(count) for host, count in re.findall(r"^(\S+) +: ok=\d+ +changed=(\d+)", output, re.MULTILINE)}


def traces() -> str:
    """What a lab of that name could leave behind outside the checkout: processes, mounts, namespaces, rules."""
    look = f"""
        ps -eo pid,args | grep -E 'litellm-lab-{LAB}|[.]lab/{LAB}/' | grep -v grep
        grep -E 'litellm-lab-{LAB}|[.]lab/{LAB}/' /proc/mounts
        ip netns list | grep -w litellm-lab-{LAB}
        ls -d /run/litellm-lab-{LAB} /sys/fs/cgroup/{{,unified/}}litellm-lab-{LAB} 2>/dev/null
        ip -oneline link | grep -E ' vb-| br0'
        nft list ruleset
    """
    return subprocess.run(["bash", "-c", look], capture_output=True, text=True, check=False).stdout


def test_every_command_is_known_to_this_file() -> None:
    assert [block.splitlines()[0].split()[:2] for block in BLOCKS] == [["make", "up"], ["make", "test"], ["cp", "-r"]]


def test_up_ends_with_what_one_needs(reader: Reader, up: str) -> None:
    assert f"https://127.0.0.1:{reader.port}" in up
    curl = re.search(r"^ *(curl .*\n.*)$", up, re.MULTILINE)
    assert curl
    answer = json.loads(reader.type(curl[1].replace("curl ", "curl --silent ")))
    assert answer["choices"][0]["message"]["content"]


def test_up_leaves_evidence_of_a_real_answer(reader: Reader, up: str) -> None:
    evidence = reader.checkout / "evidence"
    reader.type("cd evidence && sha256sum --check SHA256SUMS")
    assert json.loads((evidence / "summary.json").read_text())["verdict"] == "pass"
    exchange = json.loads((evidence / "chat_call.json").read_text())["response"]
    assert "Paris" in exchange["body"]["choices"][0]["message"]["content"]
    for table in ("requests_head.txt", "responses_head.txt", "join_check.txt"):
        assert exchange["headers"]["x-litellm-call-id"] in (evidence / table).read_text()


@pytest.mark.long
def test_up_again_changes_nothing(reader: Reader, up: str) -> None:
    again = changed(reader.type("make up | sed '/verify.yml/,$d'"))
    assert again.keys() >= {"gateway-1", "database-1", "model-1"}
    assert set(again.values()) == {0}


def test_the_other_commands(reader: Reader, up: str) -> None:
    assert {"make up", "make down", "make test", "make verify", "make ssh", "make key", "make lint"} <= set(
        re.findall(r"^make \w+", reader.type("make"), re.MULTILINE)
    )
    assert reader.type("make -s key").startswith("sk-")
    assert reader.type("echo hostname | make -s ssh HOST=database").strip().endswith("database-1")
    assert "checks passed" in reader.type("make verify")


def test_production_in_ten_lines(reader: Reader, up: str) -> None:
    """The production example, on hosts with nothing but SSH at its addresses, with the lab's model as the provider."""
    reader.type(
        ". .venv/bin/activate && "
        "ansible-playbook -i inventory/lab playbooks/lab.yml -e lab_action=wipe --limit gateway,database"
    )
    copy, *rest = BLOCKS[2].split("python3 -m venv", maxsplit=1)
    reader.type(copy)
    models = reader.checkout / "inventory/mine/group_vars/gateway.yml"
    text = models.read_text()
    assert "model: openai/gpt-5" in text
    models.write_text(
        text.replace("model: openai/gpt-5", "model: openai/smollm2\n      api_base: http://192.168.10.20:8080/v1")
    )
    editor = reader.checkout / "editor"
    editor.write_text('#!/bin/sh\necho "vault_openai_api_key: none-is-needed-here" >> "$1"\n')
    editor.chmod(0o755)
    output = reader.type(
        "python3 -m venv" + rest[0],
        EDITOR=str(editor),
        ANSIBLE_SSH_COMMON_ARGS=f"-F {reader.checkout}/.lab/{LAB}/ssh_config",
        # Connections that are kept must not serve a run on real hosts with the same addresses.
        ANSIBLE_SSH_CONTROL_PATH_DIR=f"~/.ansible/cp/{LAB}-mine",
    )
    assert "checks passed" in output
    # This machine is not on the hosts' network: that it gets no answer there proves nothing. It keeps the hosts' clock.
    found = json.loads((reader.checkout / "evidence/security_check.json").read_text())
    assert {each["verdict"] for each in found} == {"pass", "unproven"}
    assert {each["area"] for each in found if each["verdict"] == "unproven"} == {"firewall", "hosts"}
    assert not (reader.checkout / "inventory/mine/group_vars/all/vault.yml").read_text().count("sk-")


def test_down_leaves_nothing(reader: Reader, up: str) -> None:
    reader.type("make down")
    assert traces() == ""
    assert not (reader.checkout / ".lab" / LAB).exists()
