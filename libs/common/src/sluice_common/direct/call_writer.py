"""Writing to a stream call of grpc.aio without losing the server's status.

A server may end a call while its client still writes: it sends the status, and the client's next
message cannot be written. `call.write` then puts INTERNAL "Internal error from Core" in the place
of the status that has just arrived (grpc's issue 36066; 1.85 still does), and so does a request
iterator. The step below it, which is used here, leaves the status alone.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

import grpc.aio

_EOF: Final = grpc.aio.EOF  # type: ignore[attr-defined]  # its stubs lack it
_CALL_ENDED: Final = (grpc.aio.BaseError, asyncio.InvalidStateError)
"""What writing to a call raises that the server has ended."""


class CallWriter:
    """Writes wire messages to one call, whose requests it does not serialize."""

    __slots__ = ("_call", "_is_connected", "_writer")

    def __init__(self, call: Any) -> None:
        self._call = call
        self._writer: Any = vars(call)["_cython_call"]
        self._is_connected = False

    async def write(self, message: bytes) -> bool:
        """Hand one message over; waits while HTTP/2 has no room for it (back-pressure).

        Returns False when the server has ended the call with OK. Raises `AioRpcError` with the
        status of one that it refused.
        """
        try:
            if not self._is_connected:
                await self._call.wait_for_connection()
                self._is_connected = True
            await self._writer.send_serialized_message(message)
        except _CALL_ENDED:
            # Its status is there, or follows what was answered before it.
            while await self._call.read() is not _EOF:
                pass
            return False
        return True
