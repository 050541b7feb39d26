"""Routes of live updates. The application around them answers errors as problem details."""

from __future__ import annotations

from starlette.requests import Request
from starlette.routing import BaseRoute
from starlette.types import Receive, Scope, Send

from sluice_gateway.http.authentication import Authentication
from sluice_gateway.http.plain_routes import PlainRoute, PlainWebSocketRoute
from sluice_gateway.http.refusals import method_not_allowed
from sluice_gateway.live.framing import SOCKJS
from sluice_gateway.live.hub import LiveHub
from sluice_gateway.live.sockjs import SockJsInfo
from sluice_gateway.live.sse import JobEvents
from sluice_gateway.live.websocket import StompEndpoint


def live_routes(hub: LiveHub) -> list[BaseRoute]:
    """Return the routes of `/ws`, of SockJS below it, and of a job's events.

    The last raises `SluiceError` before its response begins: `Unauthenticated`, `NotFound`,
    `InvalidArgument`, `ResourceExhausted`, `Unavailable`, or `Unimplemented` METHOD_NOT_ALLOWED.
    """
    return [
        PlainWebSocketRoute("/ws", StompEndpoint(hub)),
        PlainRoute("/ws/info", SockJsInfo(hub.origins), methods=["GET"]),
        # The names of a server and of a session, which nothing here depends on.
        PlainWebSocketRoute("/ws/{server}/{session}/websocket", StompEndpoint(hub, SOCKJS)),
        PlainRoute("/queries/upload-jobs/{job_id}/events", JobEventsEndpoint(hub)),
    ]


class JobEventsEndpoint:
    """ASGI application of `/queries/upload-jobs/{job_id}/events`."""

    def __init__(self, hub: LiveHub) -> None:
        self._hub = hub
        self._authenticate = Authentication(hub.authenticator)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        if request.method != "GET":
            # HEAD too, which Starlette allows with GET: a stream without a body would never end.
            raise method_not_allowed("GET")
        principal = await self._authenticate(request)
        events = JobEvents(
            self._hub,
            principal,
            request.path_params["job_id"],
            request.headers.get("last-event-id"),
        )
        await events(scope, receive, send)
