"""Connection to MySQL or MariaDB: aiomysql fixes and a cheaper pre-ping."""

from __future__ import annotations

import asyncio
import select
from typing import Any, Final

import aiomysql
from pymysql.constants import CLIENT, CR

from sluice_backends.sql.mysql.errors import NOT_ALL_RUN, TLS_FAILED

_NO_PING_SECONDS: Final = 5.0
"""Time since the last use within which a connection is not pinged. A server that closes it sends a
message, which is seen without a ping. After longer idle times a device on the network path may have
dropped the connection silently."""


class MysqlConnection(aiomysql.Connection):  # type: ignore[misc]  # the driver has no types
    """One session."""

    _used_at = float("-inf")

    def escape(self, obj: object) -> Any:
        # For bytes the driver calls a function that PyMySQL removed. Hexadecimal needs no escaping
        # in any SQL mode.
        if isinstance(obj, bytes | bytearray):
            return f"_binary X'{obj.hex()}'"
        return super().escape(obj)

    async def ping(self, reconnect: bool = True) -> None:
        """Raise unless the connection is alive; the pool calls this before each use."""
        now = asyncio.get_running_loop().time()
        if now - self._used_at >= _NO_PING_SECONDS:
            await super().ping(reconnect)
        elif not self._is_idle():
            raise aiomysql.OperationalError(CR.CR_SERVER_LOST, "the server ended the session")
        self._used_at = now

    async def run_all(self, packet: str, statements: int) -> None:
        """Run the statements of one packet in order until one fails.

        Raise the error of the failed statement; earlier ones are part of the transaction. Raise
        `OperationalError` NOT_ALL_RUN when results are missing, because a proxy dropped the rest.
        """
        await self.query(packet)
        results = 1
        while self._result.has_next:
            await self.next_result()
            results += 1
        if results != statements:
            raise aiomysql.OperationalError(NOT_ALL_RUN, f"{results} of {statements} executed")

    def _is_idle(self) -> bool:
        """Return whether no input is pending; input on an idle session means that it has ended."""
        if self._writer is None or self._writer.transport.is_closing() or self._reader.at_eof():
            return False
        incoming = select.poll()
        incoming.register(self._writer.get_extra_info("socket").fileno(), select.POLLIN)
        return not incoming.poll(0)

    async def _request_authentication(self) -> None:
        # The driver continues without TLS if the server does not offer it. A man in the middle
        # could remove the offer and read everything.
        if self._ssl_context is not None and not self.server_capabilities & CLIENT.SSL:
            raise aiomysql.OperationalError(TLS_FAILED, "the server offers no TLS")
        await super()._request_authentication()
