"""What is carried from this machine into the lab's hosts: proxy, package index, extra CA certificates."""

import http.server
import os
import select
import shutil
import socket
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NAME = "carried"
AS_ROOT = [] if os.getuid() == 0 else ["sudo", "--non-interactive", "--preserve-env"]


class Proxy(http.server.BaseHTTPRequestHandler):
    """A forward proxy that remembers who was asked for what."""

    seen: list[str]

    def do_GET(self) -> None:
        self.seen.append(self.path)
        if self.path.startswith("http://index.test/"):
            self._answer(200, b"the index")
            return
        headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            request = urllib.request.Request(self.path, headers=headers)  # noqa: S310  # the mirror's own scheme
            with direct.open(request) as answer:
                self._answer(answer.status, answer.read())
        except urllib.error.HTTPError as error:
            self._answer(error.code, b"")

    def do_CONNECT(self) -> None:
        self.seen.append(self.path)
        host, _, port = self.path.rpartition(":")
        with socket.create_connection((host, int(port))) as upstream:
            self.send_response(200)
            self.end_headers()
            ends = {self.connection: upstream, upstream: self.connection}
            while True:
                for end in select.select(list(ends), [], [])[0]:
                    data = end.recv(65536)
                    if not data:
                        return
                    ends[end].sendall(data)

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the library's name
        pass


@pytest.fixture(scope="module")
def proxy() -> Iterator[str]:
    Proxy.seen = []
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    directory = tmp_path_factory.mktemp("cache")
    yield directory
    subprocess.run([*AS_ROOT, "rm", "-rf", "--one-file-system", directory], check=True)


@pytest.fixture(scope="module")
def settings(proxy: str, cache: Path) -> dict[str, str]:
    """The environment of a machine that reaches the world by a proxy on its loopback."""
    return {
        **os.environ,
        "LAB_NAME": NAME,
        "XDG_CACHE_HOME": str(cache),
        "http_proxy": proxy,
        "https_proxy": proxy,
        "no_proxy": "intranet.test",
        "UV_DEFAULT_INDEX": "http://index.test/simple",
    }


@pytest.fixture(scope="module")
def on_host(settings: dict[str, str]) -> Iterator[Callable[[str], str]]:
    def lab(action: str) -> None:
        command = "ansible-playbook -i inventory/lab playbooks/lab.yml --limit gateway-1"
        subprocess.run(
            [*command.split(), "-e", f"lab_action={action}"],
            cwd=ROOT,
            env=settings,
            check=True,
            stdout=subprocess.DEVNULL,
        )

    def run(command: str) -> str:
        ssh = ["ssh", "-F", f"{ROOT}/.lab/{NAME}/ssh_config", "gateway-1", command]
        return subprocess.run(ssh, check=True, stdout=subprocess.PIPE, text=True, env=settings).stdout.strip()

    lab("present")
    yield run
    lab("destroy")


def test_hosts_use_the_proxy_on_this_machines_loopback(on_host: Callable[[str], str], proxy: str) -> None:
    assert Proxy.seen, "the base was not fetched by the proxy"
    seen_from_host = proxy.replace("127.0.0.1", "10.0.2.2")
    assert on_host("echo $http_proxy $https_proxy") == f"{seen_from_host} {seen_from_host}"
    assert on_host("echo $no_proxy").split(",")[:2] == ["intranet.test", "localhost"]
    Proxy.seen.clear()
    on_host("sudo apt-get update -qq")
    assert Proxy.seen, "apt went past the proxy"


def test_hosts_use_the_package_index(on_host: Callable[[str], str]) -> None:
    assert "index-url = http://index.test/simple" in on_host("cat /etc/pip.conf")
    assert 'url = "http://index.test/simple"' in on_host("cat /etc/uv/uv.toml")
    fetch = "import urllib.request; print(urllib.request.urlopen('http://index.test/simple/uv/').read().decode())"
    assert on_host(f'python3 -c "{fetch}"') == "the index"


def test_extra_ca_is_trusted(tmp_path: Path, cache: Path) -> None:
    key, certificate, certificates = tmp_path / "key.pem", tmp_path / "company.crt", tmp_path / "certificates"
    new = f"openssl req -x509 -newkey ed25519 -nodes -subj /CN=Company -keyout {key} -out {certificate}"
    subprocess.run(new.split(), check=True, capture_output=True)
    # The directory is the machine's own: only the script that makes the base sees it with the certificate.
    directory = "/usr/local/share/ca-certificates"
    shutil.copytree(directory, certificates)
    shutil.copy(certificate, certificates)
    in_own_mounts = [
        *AS_ROOT,
        "unshare",
        "--mount",
        "sh",
        "-ec",
        f'mount --bind {certificates} {directory}; exec "$@"',
        "sh",
    ]
    make = [*in_own_mounts, f"{ROOT}/roles/lab_host/files/base", str(cache)]
    base = Path(subprocess.run(make, check=True, stdout=subprocess.PIPE, text=True).stdout.strip())
    assert certificate.read_text().strip() in (base / "etc/ssl/certs/ca-certificates.crt").read_text()
    assert "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt" in (base / "etc/environment").read_text()
