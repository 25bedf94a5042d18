"""Names: there is no engine's process."""

from prisma.engine import errors as errors
