"""Keeps a directory of encrypted systemd credentials as it should be; nothing else stays in it.

    credentials.py write [--check] DIRECTORY < {"name": "value", …}
    credentials.py prune [--check] DIRECTORY < ["name", …]

Prints the names that it wrote, or removed because they were not among these, as a JSON list; --check: would write or
remove. A credential that decrypts to its value is left alone. Values go through standard input and pipes only.
"""

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

# A credential begins with what it is encrypted by; this is systemd's word for no key at all (CRED_AES256_GCM_BY_NULL).
NULL_KEY = base64.b64encode(bytes.fromhex("058469daf6f54324800549da0f8ea2fb"))[:20]


def systemd_creds(*arguments: str, value: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    """Run systemd-creds.

    Args:
        arguments: Its command line, which anybody on the host can read.
        value: Its standard input.
    """
    return subprocess.run(["systemd-creds", *arguments], input=value, capture_output=True, check=False)  # noqa: S603, S607


def is_kept(file: Path, value: bytes) -> bool:
    """Tell whether a file is a credential with this value that only root reads, by a key that is one.

    Args:
        file: Where it should be.
        value: What it should decrypt to.
    """
    if not file.is_file() or file.is_symlink():
        return False
    status = file.stat()
    if (status.st_uid, status.st_gid, status.st_mode & 0o777) != (0, 0, 0o600):
        return False
    if file.read_bytes().startswith(NULL_KEY):
        return False
    decrypted = systemd_creds("decrypt", f"--name={file.name}", str(file), "-")
    return decrypted.returncode == 0 and decrypted.stdout == value


def write(file: Path, value: bytes) -> None:
    """Encrypt a credential by the host's TPM where it has one, and its own key; replace the file at once.

    Args:
        file: Where it goes.
        value: What it is.
    """
    # auto: with neither TPM nor a key that outlives a reboot, it refuses; only an initrd would get the null key.
    encrypted = systemd_creds("encrypt", "--with-key=auto", f"--name={file.name}", "-", "-", value=value)
    if encrypted.returncode or encrypted.stdout.startswith(NULL_KEY):
        sys.exit(
            f"credential {file.name} cannot be encrypted on this host: {encrypted.stderr.decode().strip()}. "
            "systemd-creds needs a TPM, or a /var/lib/systemd that outlives a reboot for the host's key."
        )
    with tempfile.NamedTemporaryFile(dir=file.parent, prefix=".", delete=False) as new:  # 0600
        new.write(encrypted.stdout)
        new.flush()
        os.fsync(new.fileno())
    Path(new.name).replace(file)


def main() -> None:
    """Do what the command is for."""
    action, *options, directory = sys.argv[1:]
    asked = json.load(sys.stdin)
    if action == "write":
        values = {Path(directory, name): str(value).encode() for name, value in asked.items()}
        changed = [file for file, value in values.items() if not is_kept(file, value)]
    else:
        kept = set(Path(directory).iterdir()) if Path(directory).is_dir() else set()
        changed = list(kept - {Path(directory, name) for name in asked})
    for file in changed if options != ["--check"] else []:
        if action == "write":
            write(file, values[file])
        elif file.is_dir() and not file.is_symlink():
            shutil.rmtree(file)
        else:
            file.unlink()
    print(json.dumps(sorted(file.name for file in changed)))


main()
