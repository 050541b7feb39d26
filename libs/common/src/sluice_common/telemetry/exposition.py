"""What operators ask a process over HTTP: /metrics, /healthz, /readyz.

Served by threads of their own, so that a scrape never delays an upload. /healthz goes through the
event loop and thereby notices one that hangs.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any, Final
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

from sluice_common.addresses import Address
from sluice_common.configuration import ConfigurationError

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

LOOP_ANSWER_SECONDS: Final = 2.0
"""An event loop that does not answer a probe within this time counts as dead."""
_REQUEST_SECONDS: Final = 10.0


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Handler(WSGIRequestHandler):
    timeout = _REQUEST_SECONDS  # a scraper that stops talking frees its thread

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Say nothing: probes come every few seconds."""


class _App:
    """The three paths."""

    def __init__(
        self,
        registry: CollectorRegistry,
        ready: Callable[[], bool],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._metrics: WSGIApplication = make_wsgi_app(registry)
        self._ready = ready
        self._loop = loop

    def __call__(self, environ: WSGIEnvironment, start: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        if environ.get("REQUEST_METHOD") not in ("GET", "HEAD"):
            return _answer(start, "405 Method Not Allowed", "only GET")
        if path == "/metrics":
            return self._metrics(environ, start)
        if path == "/healthz":
            return _verdict(start, self._loop_answers(), "alive", "the event loop hangs")
        if path == "/readyz":
            return _verdict(start, self._loop_answers() and self._ready(), "ready", "not ready")
        return _answer(start, "404 Not Found", "/metrics, /healthz or /readyz")

    def _loop_answers(self) -> bool:
        answered = concurrent.futures.Future[bool]()
        try:
            self._loop.call_soon_threadsafe(answered.set_result, True)
            return answered.result(LOOP_ANSWER_SECONDS)
        except (RuntimeError, TimeoutError):  # closed, or busy
            return False


@asynccontextmanager
async def exposing(
    address: Address, registry: CollectorRegistry, ready: Callable[[], bool]
) -> AsyncIterator[Address]:
    """Serve inside the block; yields the actual address (port 0 picks a free one).

    Args:
        ready: whether the process takes work now; called from another thread.

    Raises `ConfigurationError` when the address cannot be used.
    """
    server = _bind(address, _App(registry, ready, asyncio.get_running_loop()))
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="exposition")
    thread.start()
    try:
        yield address.with_port(server.server_port)
    finally:
        # Both block: shutdown until the loop of the thread has noticed, join until it has ended.
        await asyncio.to_thread(server.shutdown)
        await asyncio.to_thread(thread.join)
        server.server_close()


def _bind(address: Address, app: _App) -> _Server:
    class Bound(_Server):
        address_family = socket.AF_INET6 if ":" in address.host else socket.AF_INET

    try:
        return make_server(address.host, address.port, app, Bound, _Handler)
    except OSError:
        raise ConfigurationError(
            f"SLUICE_METRICS_ADDRESS: cannot listen on {address}; is another server running there?"
        ) from None


def _verdict(start: StartResponse, good: bool, yes: str, no: str) -> Iterable[bytes]:
    return _answer(start, "200 OK" if good else "503 Service Unavailable", yes if good else no)


def _answer(start: StartResponse, status: str, text: str) -> Iterable[bytes]:
    body = f"{text}\n".encode()
    headers = [("Content-Type", "text/plain; charset=utf-8"), ("Content-Length", str(len(body)))]
    start(status, headers)
    return [body]
