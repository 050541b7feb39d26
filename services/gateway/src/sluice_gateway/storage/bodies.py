"""Answers before the end of a request's body."""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Send

_DRAINED_BYTES: Final = 8 * 1024 * 1024
_DRAIN_SECONDS: Final = 5.0


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
