"""Statements by asyncpg."""

import re
from collections.abc import Sequence

import asyncpg

from litellm_sqlalchemy.prisma_client.connection import Connection
from litellm_sqlalchemy.prisma_client.schema import Value
from litellm_sqlalchemy.prisma_client.statements import Arguments

# What PostgreSQL says of a statement that it has run: https://www.postgresql.org/docs/17/protocol-message-formats.html
WRITTEN = re.compile(r"(?:SELECT|UPDATE|DELETE|INSERT \d+) (\d+)")


class AsyncpgConnection(Connection):
    """One by asyncpg."""

    _errors = (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)

    async def fetch(self, sql: str, arguments: Arguments) -> Sequence[Sequence[Value]]:
        """See `Connection`."""
        return await self._driven(self._native.fetch(sql, *arguments))

    async def fetch_one(self, sql: str, arguments: Arguments) -> Sequence[Value] | None:
        """See `Connection`."""
        found: Sequence[Value] | None = await self._driven(self._native.fetchrow(sql, *arguments))
        return found

    async def fetch_named(self, sql: str, arguments: Arguments) -> list[dict[str, Value]]:
        """See `Connection`."""
        return [dict(row) for row in await self._driven(self._native.fetch(sql, *arguments))]

    async def execute(self, sql: str, arguments: Arguments) -> int:
        """See `Connection`."""
        if arguments:
            said = await self._driven(self._native.execute(sql, *arguments))
        else:  # which would take several statements at once
            prepared = await self._driven(self._native.prepare(sql, name=""))
            await self._driven(prepared.fetch())
            said = prepared.get_statusmsg()
        written = WRITTEN.match(said or "")
        return int(written[1]) if written else 0

    async def insert(self, sql: str, rows: Sequence[Arguments]) -> int:
        """See `Connection`."""
        return len(await self._driven(self._native.fetchmany(sql, rows)))

    @property
    def greeted_by(self) -> int:
        """See `Connection`."""
        return int(self._native.get_server_pid())

    def _is_closed(self) -> bool:
        return bool(self._native.is_closed())
