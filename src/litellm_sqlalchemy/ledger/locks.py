"""Files whose lock says that a process lives: the kernel gives a lock up with its holder, however that ends."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

WORKERS = "workers"  # beside the spool's file: a file of each worker of the gateway
DRAIN = "drain.lock"  # beside the spool's file
YOUNGEST_SECONDS = 60  # a younger file may be one that its worker has made and not locked yet


def take(path: Path) -> int | None:
    """Take a lock.

    Args:
        path: The file; it is made if it is not there.

    Returns:
        A descriptor: whoever closes it gives the lock up. None if somebody else has it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def is_free(path: Path) -> bool:
    """Say whether nobody has a lock: nobody will ever take it again, if there was somebody.

    Args:
        path: The file; if it is gone, so is its holder.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def free_files(directory: Path) -> Iterator[Path]:
    """Give the files in a directory whose holders are gone.

    Args:
        directory: It need not be there.
    """
    for path in directory.glob("*.lock"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > YOUNGEST_SECONDS and is_free(path):
                yield path
