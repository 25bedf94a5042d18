"""What strangers reach, where the hosts may go, and that a wrong rule set locks nobody out."""

import re
import subprocess
from xml.etree import ElementTree as ET

import pytest
from testinfra.host import Host

from tests.hosts.lab import CHECKOUT, DATABASE, GATEWAY, MODEL, Lab, eventually

CONNECT = (CHECKOUT / "roles/evidence/files/connect.py").read_text()
LOAD = (CHECKOUT / "roles/firewall/files/load.sh").read_text()
IN_FORCE = (CHECKOUT / "roles/firewall/files/in_force.sh").read_text()
EVERY_TCP_PORT = "-p- -T4 --min-rate 3000 --max-retries 2"
OUTSIDE = "10.77.0.1"  # of no network that the inventory names
CONNECT_FROM = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5, source_address=(sys.argv[3], 0)).close()
    print("open")
except TimeoutError:
    print("no answer")
"""
SHUTS_SSH_OUT = {"firewall_ssh_networks": ["10.99.0.0/16"]}


@pytest.fixture(scope="module")
def stranger(lab: Lab) -> Host:
    """The third host, with nmap."""
    lab.script("model", "apt-get -q update && apt-get -qy install --no-install-recommends nmap")
    return lab.host("model")


def link_local(lab: Lab, alias: str) -> str:
    """A host's IPv6 address on the lab's network, as its neighbours write it."""
    found = re.search(r"fe80::[0-9a-f:]+", lab.script(alias, "ip -6 -brief address show dev host0"))
    assert found
    return f"{found[0]}%host0"


def scan(stranger: Host, address: str, options: str) -> tuple[dict[int, str], dict[str, int]]:
    """Scan a host: each port that answered in a way of its own with its state, and how many others had which state."""
    family = "-6 -e host0" if ":" in address else ""
    report = ET.fromstring(stranger.check_output(f"nmap -Pn -n -oX - {family} {options} {address}"))  # noqa: S314 - nmap's
    ports = {int(port.attrib["portid"]): port.find("state") for port in report.iter("port")}
    others = {extra.attrib["state"]: int(extra.attrib["count"]) for extra in report.iter("extraports")}
    return {port: state.attrib["state"] for port, state in ports.items() if state is not None}, others


def connect(lab: Lab, alias: str, address: str, port: int) -> str:
    return lab.script(alias, f"python3 - {address} {port} <<'PROGRAM'\n{CONNECT}\nPROGRAM").strip()


def table(lab: Lab, alias: str) -> str:
    return lab.script(alias, "nft --stateless list table inet litellm")


def is_in_force(lab: Lab, alias: str) -> bool:
    """Whether the rules are those of the file that is loaded when the host starts."""
    script = f"bash -s /etc/litellm-firewall.nft <<'SCRIPT' && echo yes || echo no\n{IN_FORCE}\nSCRIPT"
    return lab.script(alias, script).strip() == "yes"


def logs_in(lab: Lab, alias: str) -> bool:
    command = ["ssh", "-F", lab.ssh_config, "-o", "ControlPath=none", "-o", "ConnectTimeout=3", alias, "true"]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0


def test_a_stranger_finds_the_gateway_s_port_alone(stranger: Host) -> None:
    assert scan(stranger, GATEWAY, EVERY_TCP_PORT) == ({4000: "open"}, {"filtered": 65534})
    assert scan(stranger, DATABASE, EVERY_TCP_PORT) == ({}, {"filtered": 65535})


def test_ipv6_is_no_way_around(lab: Lab, stranger: Host) -> None:
    """The gateway listens on IPv4. That IPv6 says so proves the open port, and that neighbours are found."""
    found, others = scan(stranger, link_local(lab, "gateway"), EVERY_TCP_PORT)
    assert (found, others) in (({4000: state}, {"filtered": 65534}) for state in ("closed", "open"))
    assert scan(stranger, link_local(lab, "database"), EVERY_TCP_PORT) == ({}, {"filtered": 65535})


@pytest.mark.parametrize("address", [GATEWAY, DATABASE])
def test_udp_is_silent(stranger: Host, address: str) -> None:
    ports = (53, 67, 123, 161, 500, 4000, 5353, 5432)
    found, _ = scan(stranger, address, f"-sU -p {','.join(map(str, ports))}")
    assert found == dict.fromkeys(ports, "open|filtered")  # a port that nothing filters says that it is closed


def test_the_database_is_open_to_the_gateway_alone(lab: Lab) -> None:
    assert connect(lab, "gateway", DATABASE, 5432) == "open"
    assert connect(lab, "model", DATABASE, 5432) == "no answer"


def test_the_gateway_is_open_to_its_networks_alone(lab: Lab) -> None:
    """The third host has a further address, from which it comes in only once a rule is there that lets it."""

    def asked() -> str:
        script = f"python3 - {GATEWAY} 4000 {OUTSIDE} <<'PROGRAM'\n{CONNECT_FROM}\nPROGRAM"
        return lab.script("model", script).strip()

    lab.script("model", f"ip address add {OUTSIDE}/32 dev host0")
    try:
        lab.script("gateway", f"ip route add {OUTSIDE}/32 via {MODEL} dev host0")
        assert connect(lab, "model", GATEWAY, 4000) == "open"
        assert asked() == "no answer"
        rule = f"nft --handle --echo insert rule inet litellm input ip saddr {OUTSIDE} tcp dport 4000 accept"
        handle = re.search(r"handle (\d+)", lab.script("gateway", rule))
        assert handle
        try:
            assert asked() == "open"
        finally:
            lab.script("gateway", f"nft delete rule inet litellm input handle {handle[1]}")
    finally:
        lab.script("gateway", f"ip route delete {OUTSIDE}/32 || true")
        lab.script("model", f"ip address delete {OUTSIDE}/32 dev host0")
    assert is_in_force(lab, "gateway")


def test_the_hosts_go_where_they_need_to_alone(lab: Lab, model: Host) -> None:
    model.check_output("systemd-run --quiet --unit=listener python3 -m http.server --bind :: 9999")
    try:
        eventually(lambda: connect(lab, "model", MODEL, 9999) == "open")
        assert connect(lab, "model", link_local(lab, "model"), 9999) == "open"
        for alias in ("gateway", "database"):
            assert connect(lab, alias, MODEL, 9999) == "not let out"
            # Of an address of the link, the kernel does not tell the program.
            assert connect(lab, alias, link_local(lab, "model"), 9999) == "no answer"
    finally:
        model.check_output("systemctl stop listener.service")
    assert connect(lab, "gateway", MODEL, 8080) == "open"
    assert connect(lab, "database", MODEL, 8080) == "not let out"


def test_what_is_refused_is_counted(lab: Lab) -> None:
    def refused() -> int:
        found = re.search(
            r"counter packets (\d+) bytes \d+ drop", lab.script("database", "nft list table inet litellm")
        )
        assert found
        return int(found[1])

    before = refused()
    connect(lab, "model", DATABASE, 9)
    assert refused() > before


def test_rules_that_shut_ssh_out_are_taken_back(lab: Lab) -> None:
    before = table(lab, "database")
    run = lab.playbook("--limit=database", variables=SHUTS_SSH_OUT)
    assert not run.succeeded
    assert "The new rules shut ssh out" in run.output
    assert "firewall_ssh_networks is 10.99.0.0/16, and Ansible comes from 192.168.10.1" in run.output
    assert table(lab, "database") == before
    assert is_in_force(lab, "database")
    eventually(lambda: logs_in(lab, "database"))


def test_rules_that_nobody_proves_give_way_by_themselves(lab: Lab) -> None:
    """As when the controller dies meanwhile."""
    before = table(lab, "database")
    lab.script(
        "database",
        "grep -v '\"ssh\"' /etc/litellm-firewall.nft > /run/litellm-firewall.nft\n"
        f"bash -s 45 <<'SCRIPT'\n{LOAD}\nSCRIPT\n",
    )
    assert not logs_in(lab, "database")
    eventually(lambda: logs_in(lab, "database"))
    assert table(lab, "database") == before


@pytest.mark.long
def test_the_first_rules_are_taken_back_and_others_tables_are_left_alone(lab: Lab, gateway: Host) -> None:
    gateway.check_output("systemctl stop litellm-firewall.service")
    gateway.check_output("rm /etc/litellm-firewall.nft")
    gateway.check_output("nft add table inet somebody_else")
    run = lab.playbook("--limit=gateway", variables=SHUTS_SSH_OUT)
    assert not run.succeeded
    assert gateway.check_output("nft list tables") == "table inet somebody_else"

    lab.site("--limit=gateway")

    assert is_in_force(lab, "gateway")
    assert "somebody_else" in gateway.check_output("nft list tables")
    gateway.check_output("nft delete table inet somebody_else")


@pytest.mark.long
def test_a_port_is_opened_and_a_hand_s_rule_is_gone(lab: Lab, database: Host) -> None:
    opened = [{"name": "exporter of metrics", "ports": [9187], "networks": ["192.168.10.20/32"]}]
    database.check_output("nft insert rule inet litellm input accept")
    assert connect(lab, "model", DATABASE, 9) == "closed"

    lab.site("--limit=database", firewall_inbound=opened)

    assert connect(lab, "model", DATABASE, 9187) == "closed"  # the host's own word: nothing listens there
    assert connect(lab, "model", DATABASE, 9) == "no answer"
    lab.site("--limit=database")
    assert connect(lab, "model", DATABASE, 9187) == "no answer"


def test_the_distribution_s_own_rules_come_and_go_beside_ours(lab: Lab, database: Host) -> None:
    """Its unit flushes all tables."""
    for action in ("start", "reload", "restart", "stop"):
        database.check_output("systemctl %s nftables.service", action)
        assert is_in_force(lab, "database")


def test_the_rules_are_there_when_the_host_starts(lab: Lab, database: Host) -> None:
    lab.act("power_cut", "database")
    lab.act("start", "database")
    assert is_in_force(lab, "database")
    assert connect(lab, "model", DATABASE, 5432) == "no answer"
    started = "systemctl show --property=ActiveEnterTimestampMonotonic --value %s"
    assert int(database.check_output(started, "litellm-firewall.service")) <= int(
        database.check_output(started, "network-pre.target")
    )
    # LiteLLM says that it is not ready until it has connected anew.
    with lab.client() as client:
        eventually(lambda: client.get("/health/readiness").status_code == 200)
