"""The spool, looked at from outside."""

from pathlib import Path


def commits(path: Path) -> int:
    """Commits since the write-ahead log began: SQLite marks the last frame of each with the size of the file."""
    log = path.with_name(path.name + "-wal").read_bytes()
    page = int.from_bytes(log[8:12])
    frames = (log[at : at + 24] for at in range(32, len(log), 24 + page))
    return sum(1 for frame in frames if frame[4:8] != bytes(4) and frame[8:16] == log[16:24])
