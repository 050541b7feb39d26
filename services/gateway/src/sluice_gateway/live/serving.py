"""Running uvicorn inside a service, and ending it so that live sessions come to a good end."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import structlog
import uvicorn

from sluice_gateway.live.sessions import Sessions

DRAIN_SECONDS: Final = 4.0
"""For the ends of sessions. uvicorn then takes its `timeout_graceful_shutdown`, so with 5 s of that
a service stops within 10 s, whatever its clients do."""

_log = structlog.get_logger(__name__)


class EmbeddedServer(uvicorn.Server):
    """uvicorn that leaves signals to the process, which may run more than this server."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve_until(
    stop: asyncio.Event,
    server: uvicorn.Server,
    sessions: Sessions,
    sockets: list[socket.socket] | None = None,
    drain_seconds: float = DRAIN_SECONDS,
) -> None:
    """Serve until the event is set, end all sessions, then end the server.

    The order matters: uvicorn closes WebSockets without a hint when to come back, and waits for
    event streams, which would not end. Meanwhile requests are served and new sessions are refused.
    """
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(server.serve(sockets))
        stopping = tasks.create_task(stop.wait())
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not serving.done():
            try:
                async with asyncio.timeout(drain_seconds):
                    await sessions.stop()
            except TimeoutError:
                _log.warning("live_sessions.drain_timed_out", sessions=len(sessions))
            server.should_exit = True
