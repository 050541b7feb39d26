"""Clients that go while their answer is sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from starlette.types import Message, Receive


@asynccontextmanager
async def watching_disconnect(receive: Receive) -> AsyncIterator[Callable[[], bool]]:
    """Watch the connection of a request inside the block; yield whether its client has gone.

    Sending does not fail after a disconnect: the server drops what is sent. A long answer would be
    made to its end for nobody.
    """

    async def watch() -> None:
        message: Message = {"type": "http.request"}
        while message["type"] != "http.disconnect":
            message = await receive()

    watching = asyncio.create_task(watch())
    try:
        yield watching.done
    finally:
        watching.cancel()
        await asyncio.wait([watching])
