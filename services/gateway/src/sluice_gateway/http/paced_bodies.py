"""Bodies of requests that are processed as they arrive, read at a minimum pace."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from sluice_gateway.http.refusals import body_stalled


@dataclass(frozen=True, slots=True)
class Pace:
    """Minimum pace of a client: so many bytes within each interval.

    The default is 26 kbit/s. A limit of silence alone would allow a byte every few seconds, and a
    limit of the total time would end large bodies on slow networks.
    """

    stall_seconds: float = 20.0
    min_bytes: int = 64 * 1024


async def body_blocks(receive: Receive, pace: Pace) -> AsyncGenerator[bytes, None]:
    """Yield the body as it arrives; the time that the consumer takes does not count.

    Raise `DeadlineExceeded` MESSAGE_STALLED, `ClientDisconnect` for a body that ends early.
    """
    loop = asyncio.get_running_loop()
    deadline, arrived = loop.time() + pace.stall_seconds, 0
    while True:
        try:
            async with asyncio.timeout_at(deadline):
                message = await receive()
        except TimeoutError:
            raise body_stalled() from None
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        if block := message.get("body", b""):
            arrived += len(block)
            before = loop.time()
            yield block
            if arrived >= pace.min_bytes:
                deadline, arrived = loop.time() + pace.stall_seconds, 0
            else:
                deadline += loop.time() - before
        if not message.get("more_body", False):
            return
