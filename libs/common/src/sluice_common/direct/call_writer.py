"""Writer for stream calls of grpc.aio that keeps the server's status."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import grpc.aio

_EOF: Final = grpc.aio.EOF  # type: ignore[attr-defined]  # its stubs lack it
_CALL_ENDED: Final = (grpc.aio.BaseError, asyncio.InvalidStateError)
"""Raised by a write to a call that the server has ended."""


class CallWriter:
    """Writes wire messages to one call that is opened without a request serializer.

    A server may end a call, with its status, while its client still writes. `call.write` and
    request iterators then replace that status by INTERNAL "Internal error from Core" (grpc issue
    36066; not fixed in 1.85). The lower layer that is used here does not.
    """

    __slots__ = ("_call", "_is_connected", "_writer")

    def __init__(self, call: Any) -> None:
        self._call = call
        self._writer: Any = vars(call)["_cython_call"]
        self._is_connected = False

    async def write(self, message: bytes) -> bool:
        """Send one message; wait while the HTTP/2 window is full (back-pressure).

        Return False if the server has ended the call with OK. Raise `AioRpcError` with its status
        if it has refused the call.
        """
        try:
            if not self._is_connected:
                await self._call.wait_for_connection()
                self._is_connected = True
            await self._writer.send_serialized_message(message)
        except _CALL_ENDED:
            # The status is available now, or behind earlier answers.
            while await self._call.read() is not _EOF:
                pass
            return False
        return True
