"""Servicer context that counts messages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import grpc.aio

_EOF: Final = grpc.aio.EOF  # type: ignore[attr-defined]  # the stubs know its type only


class CountingContext:
    """Servicer context that counts `read` and `write` and delegates everything else."""

    __slots__ = ("_context", "_read", "_received", "_sent", "_write")

    def __init__(
        self, context: Any, received: Callable[[], None], sent: Callable[[], None]
    ) -> None:
        self._context = context
        # Bound once: under OpenTelemetry the context is a proxy with a slow attribute lookup.
        self._read = context.read
        self._write = context.write
        self._received = received
        self._sent = sent

    async def read(self) -> Any:
        message = await self._read()
        if message is not _EOF:
            self._received()
        return message

    async def write(self, message: Any) -> None:
        await self._write(message)
        self._sent()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._context, name)
