"""The driver's connection to MySQL or MariaDB, mended where it has faults, and asked less often."""

from __future__ import annotations

import asyncio
import select
from typing import Any, Final

import aiomysql
from pymysql.constants import CLIENT, CR

from sluice_backends.sql.mysql.errors import NOT_ALL_RUN, TLS_FAILED

_NO_PING_SECONDS: Final = 5.0
"""A connection that was in use so recently is not asked whether it still is one: a server that ends
it says so, and that is seen without asking. Beyond, something on the way may have forgotten it
without a word."""


class MysqlConnection(aiomysql.Connection):  # type: ignore[misc]  # the driver has no types
    """One session."""

    _used_at = float("-inf")

    def escape(self, obj: object) -> Any:
        # For bytes the driver calls a function that PyMySQL no longer has. In hexadecimal they
        # need no escaping, whatever the server's mode.
        if isinstance(obj, bytes | bytearray):
            return f"_binary X'{obj.hex()}'"
        return super().escape(obj)

    async def ping(self, reconnect: bool = True) -> None:
        """Raise unless the server is there; asked by the pool before each use."""
        now = asyncio.get_running_loop().time()
        if now - self._used_at >= _NO_PING_SECONDS:
            await super().ping(reconnect)
        elif not self._is_idle():
            raise aiomysql.OperationalError(CR.CR_SERVER_LOST, "the server ended the session")
        self._used_at = now

    async def run_all(self, packet: str, statements: int) -> None:
        """Run so many statements that stand in one packet, in order, until one fails.

        Raises the error of the one that failed; those before it are part of the transaction. An
        `OperationalError` NOT_ALL_RUN when not every one was answered: a proxy dropped the rest.
        """
        await self.query(packet)
        answers = 1
        while self._result.has_next:
            await self.next_result()
            answers += 1
        if answers != statements:
            raise aiomysql.OperationalError(NOT_ALL_RUN, f"{answers} of {statements} answered")

    def _is_idle(self) -> bool:
        """Nothing waits to be read: a session that should be silent and is not has ended."""
        if self._writer is None or self._writer.transport.is_closing() or self._reader.at_eof():
            return False
        incoming = select.poll()
        incoming.register(self._writer.get_extra_info("socket").fileno(), select.POLLIN)
        return not incoming.poll(0)

    async def _request_authentication(self) -> None:
        # Asked for TLS by a server that offers none, the driver goes on without; whoever is
        # between us and the server could take the offer out and read along.
        if self._ssl_context is not None and not self.server_capabilities & CLIENT.SSL:
            raise aiomysql.OperationalError(TLS_FAILED, "the server offers no TLS")
        await super()._request_authentication()
