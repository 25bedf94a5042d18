"""Files whose lock says that a process lives: the kernel gives a lock up with its holder, however that ends."""

import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

WORKERS = "workers"  # beside the spool's file: a file of each worker of the gateway, locked when it gets its name
DRAIN = "drain.lock"  # beside the spool's file


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
    return (path for path in directory.glob("*.lock") if is_free(path))
