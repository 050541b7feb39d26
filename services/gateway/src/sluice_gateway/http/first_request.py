"""An application that is built when its first request comes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from sluice_core.concurrency.cancellation import finish_despite_cancel


class FirstRequest:
    """ASGI application that builds the one behind it for the first request, once.

    For a process in which HTTP may never be used. The first request waits for the build, in a
    thread: imports and validators take some tenths of a second, in which uploads go on.

    Args:
        build: imports what it needs, and returns the application.
    """

    def __init__(self, build: Callable[[], ASGIApp]) -> None:
        self._build = build
        self._building = asyncio.Lock()
        self._app: ASGIApp | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._app is None:
            async with self._building:
                # A client that hangs up must not have the next request build another one.
                await finish_despite_cancel(self._build_once())
        assert self._app is not None, "_build_once sets it, or raises"
        await self._app(scope, receive, send)

    async def _build_once(self) -> None:
        if self._app is None:
            self._app = await asyncio.to_thread(self._build)
