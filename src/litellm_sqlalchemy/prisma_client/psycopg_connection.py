"""Statements by psycopg 3."""

from collections.abc import Sequence
from typing import Any

import psycopg

from litellm_sqlalchemy.prisma_client.connection import Connection
from litellm_sqlalchemy.prisma_client.schema import Value
from litellm_sqlalchemy.prisma_client.statements import Arguments


class PsycopgConnection(Connection):
    """One by psycopg 3."""

    _errors = (psycopg.Error,)

    async def _cursor(self, sql: str, arguments: Arguments) -> Any:
        # Without arguments it leaves a % alone, as is right for raw statements.
        return await self._driven(self._native.execute(sql, None if arguments == () else arguments))

    async def fetch(self, sql: str, arguments: Arguments) -> Sequence[Sequence[Value]]:
        """See `Connection`."""
        cursor = await self._cursor(sql, arguments)
        found: Sequence[Sequence[Value]] = await cursor.fetchall() if cursor.description else ()
        return found

    async def fetch_one(self, sql: str, arguments: Arguments) -> Sequence[Value] | None:
        """See `Connection`."""
        found: Sequence[Value] | None = await (await self._cursor(sql, arguments)).fetchone()
        return found

    async def fetch_named(self, sql: str, arguments: Arguments) -> list[dict[str, Value]]:
        """See `Connection`."""
        cursor = await self._cursor(sql, arguments)
        if not cursor.description:
            return []
        names = [column.name for column in cursor.description]
        return [dict(zip(names, row, strict=True)) for row in await cursor.fetchall()]

    async def execute(self, sql: str, arguments: Arguments) -> int:
        """See `Connection`."""
        return max(int((await self._cursor(sql, arguments)).rowcount), 0)

    async def insert(self, sql: str, rows: Sequence[Arguments]) -> int:
        """See `Connection`."""
        cursor = self._native.cursor()
        await self._driven(cursor.executemany(sql, rows))
        return int(cursor.rowcount)

    @property
    def greeted_by(self) -> int:
        """See `Connection`."""
        return int(self._native.info.backend_pid)

    def _is_closed(self) -> bool:
        return bool(self._native.closed)
