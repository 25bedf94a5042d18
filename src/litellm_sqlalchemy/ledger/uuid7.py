"""UUIDs of version 7, which Python's standard library has only from 3.14 on."""

import secrets
from uuid import UUID


def uuid7(milliseconds: int) -> UUID:
    """Make a UUID that sorts by time.

    Args:
        milliseconds: Unix time; it becomes the first 48 bits, so a row's partition follows from its id.

    Returns:
        A UUID of version 7 with 74 random bits (RFC 9562, section 5.7).

    Raises:
        OverflowError: The time does not fit into 48 bits (before 1970, after 10889).
    """
    if not 0 <= milliseconds < 1 << 48:
        raise OverflowError(f"a UUIDv7 holds 48 bits of Unix milliseconds, not {milliseconds}")
    random = secrets.randbits(74)
    high, low = random >> 62, random & ((1 << 62) - 1)
    return UUID(int=milliseconds << 80 | 0x7 << 76 | high << 64 | 0b10 << 62 | low)
