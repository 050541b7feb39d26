"""Answers before the end of a request's body."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response
from starlette.types import Receive, Send

from sluice_gateway.http.early_answers import drain as drain_body

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
        await drain_body(receive, _DRAIN_SECONDS)
    await send({"type": "http.response.body", "body": b"", "more_body": False})
