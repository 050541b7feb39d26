"""SockJS under `/ws`: its information, for clients whose library is sockjs-client.

Of its transports there is the WebSocket: the others need sticky sessions, which there are none of.
"""

from __future__ import annotations

import secrets

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from sluice_gateway.live.origins import Origins


class SockJsInfo:
    """ASGI application of `/ws/info`, which sockjs-client reads before it connects."""

    def __init__(self, origins: Origins) -> None:
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._answer(Request(scope))(scope, receive, send)

    def _answer(self, request: Request) -> Response:
        headers = {"cache-control": "no-store", "vary": "origin"}
        sent = request.headers.getlist("origin")
        if sent and self._origins.allow(sent):
            # sockjs-client reads it with credentials, though there is no cookie to send.
            headers["access-control-allow-origin"] = sent[0]
            headers["access-control-allow-credentials"] = "true"
        body = {
            "websocket": True,
            "origins": ["*:*"],
            "cookie_needed": False,
            "entropy": secrets.randbits(32),
        }
        return JSONResponse(body, headers=headers)
