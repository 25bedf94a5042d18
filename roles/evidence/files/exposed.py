"""Prints where on this host a secret can be read that should be in its process only; the secrets come as a JSON list.

    exposed.py [--processes-until FILE] < ["secret", …]

Looks for each as it is, in base64 and as a URL writes it, and for each line of a key's body: in the command lines and
environments of all processes, unit files and what systemd shows of units, the journal, logs, temporary files, homes,
the spool, the gateway's configuration, and what everybody reads in other places. The environment of a process of the
gateway's own user may have its own. A finding names the place, never the secret. With --processes-until, looks at
processes only, again and again until the file is there.
"""

import base64
import gzip
import json
import os
import pwd
import re
import subprocess
import sys
import time
import urllib.parse
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

OWN_USER = "litellm"  # of LiteLLM and the drain
ANYWHERE = (
    *("/etc/systemd", "/etc/litellm", "/run/systemd/system", "/tmp", "/var/tmp", "/var/log", "/var/lib/litellm"),  # noqa: S108 - it only looks
    *("/root", "/home"),
)
CACHE = ".cache"  # of packages, by the gigabyte
WHERE_ALL_READ = ("/etc", "/opt/litellm/bin", "/usr/local", "/run", "/dev/shm")  # noqa: S108 - it only looks


def written(secret: str) -> Iterator[bytes]:
    """Write a secret in each way in which it may turn up.

    Args:
        secret: A secret; of several lines: a key, of which each line of the body counts.
    """
    lines = [line.strip() for line in secret.splitlines() if line.strip() and not line.startswith("-----")]
    for text in lines if len(lines) > 1 else [secret]:
        raw = text.encode()
        yield raw
        yield urllib.parse.quote(text, safe="").encode()
        # Within something longer, base64 is one of three texts; its ends depend on what is beside.
        for shift in range(3):
            encoded = base64.b64encode(b"\0" * shift + raw + b"\0" * (-(len(raw) + shift) % 3))
            yield encoded[4 if shift else 0 : -4]


def own(uid: int) -> bool:
    """Tell whether a user is the gateway's.

    Args:
        uid: The user.
    """
    try:
        return pwd.getpwuid(uid).pw_name == OWN_USER
    except KeyError:
        return False


def in_processes(pattern: re.Pattern[bytes]) -> Iterator[str]:
    """Look at each process once, but for those of containers, which are hosts of their own.

    Args:
        pattern: What is looked for.
    """
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if (process / "ns/pid").readlink() != Path("/proc/self/ns/pid").readlink():
                continue
            command, uid = (process / "cmdline").read_bytes(), process.stat().st_uid
            environment = b"" if own(uid) else (process / "environ").read_bytes()
        except OSError:  # it has ended
            continue
        name = pattern.sub(b"(secret)", command.split(b"\0")[0]).decode(errors="replace")
        if pattern.search(command):
            yield f"command line of {name}"
        if pattern.search(environment):
            yield f"environment of {name}"


def in_output(pattern: re.Pattern[bytes], *command: str) -> Iterator[str]:
    """Look at what a command prints.

    Args:
        pattern: What is looked for.
        command: The command.
    """
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:  # noqa: S603
        # To its end: the command is not to be cut off.
        found = sum(pattern.search(line) is not None for line in process.stdout or ())
    if found or process.returncode:
        yield " ".join(command[:2]) + (", which failed" if process.returncode else "")


def in_files(pattern: re.Pattern[bytes], roots: Iterable[str], *, readable_by_all: bool) -> Iterator[str]:
    """Look at files.

    Args:
        pattern: What is looked for.
        roots: Where they are.
        readable_by_all: Whether only those count that everybody reads.
    """
    for root in roots:
        for directory, directories, names in os.walk(root):
            directories[:] = [name for name in directories if name != CACHE]
            for file in (Path(directory) / name for name in names):
                try:
                    if file.is_symlink() or not file.is_file() or (readable_by_all and not file.stat().st_mode & 0o004):
                        continue
                    if file.suffix == ".journal":  # journalctl has said what is in it
                        continue
                    text = file.read_bytes()
                    if pattern.search(gzip.decompress(text) if file.suffix == ".gz" else text):
                        yield str(file)
                except (OSError, EOFError, zlib.error):  # it is gone, or no whole archive
                    continue


def main() -> None:
    """Do what the command is for."""
    secrets = json.load(sys.stdin)
    texts = {text for secret in secrets if len(secret) >= 8 for text in written(secret) if len(text) >= 8}
    pattern = re.compile(b"|".join(map(re.escape, sorted(texts, key=len, reverse=True))))
    found = set(in_processes(pattern))
    if sys.argv[1:2] == ["--processes-until"]:
        while not Path(sys.argv[2]).exists():
            found.update(in_processes(pattern))
            time.sleep(0.02)  # seconds, for those who have work to do
    else:
        found.update(in_output(pattern, "journalctl", "--output=export", "--no-pager"))
        found.update(in_output(pattern, "systemctl", "show", "*", "--all"))
        found.update(in_files(pattern, ANYWHERE, readable_by_all=False))
        found.update(in_files(pattern, WHERE_ALL_READ, readable_by_all=True))
    for place in sorted(found):
        print(place)


main()
