"""Bodies of requests: read at a minimum pace, and drained after a refusal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Final

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import Receive, Send

from sluice_gateway.storage.refusals import body_stalled

_DRAINED_BYTES: Final = 8 * 1024 * 1024
_DRAIN_SECONDS: Final = 5.0


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


async def send_last(response: Response, receive: Receive, send: Send, *, drain: bool) -> None:
    """Send an answer before the body was read completely, and close the connection.

    Args:
        drain: close it some seconds later, or when the rest of the body has arrived. A kernel that
            receives bytes for a closed socket resets the connection, and the client may lose the
            answer.
    """
    response.headers["connection"] = "close"
    await send(
        {
            "type": "http.response.start",
            "status": response.status_code,
            "headers": response.raw_headers,
        }
    )
    await send({"type": "http.response.body", "body": response.body, "more_body": True})
    if drain:
        await _drain(receive)
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _drain(receive: Receive) -> None:
    drained = 0
    try:
        async with asyncio.timeout(_DRAIN_SECONDS):
            while drained < _DRAINED_BYTES:
                message = await receive()
                if not message.get("more_body", False):  # the end, or a disconnect
                    return
                drained += len(message.get("body", b""))
    except TimeoutError:
        return
