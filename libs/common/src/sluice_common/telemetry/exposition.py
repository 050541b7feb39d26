"""HTTP server for /metrics, /healthz and /readyz.

It runs in separate threads, so that a scrape never delays an upload."""

from __future__ import annotations

import asyncio
import concurrent.futures
import socket
import ssl
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any, Final
from wsgiref.simple_server import ServerHandler, WSGIRequestHandler, WSGIServer, make_server

import structlog
from prometheus_client import CollectorRegistry, make_wsgi_app

from sluice_core.addresses import Address
from sluice_core.configuration import ConfigurationError

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

LOOP_ANSWER_SECONDS: Final = 2.0
"""An event loop that does not answer a probe within this time counts as dead."""
REQUEST_SECONDS: Final = 10.0
"""Time limit from the connection to the last byte of the answer, also for slow peers."""
_LINE_BYTES: Final = 8192
MAX_CONNECTIONS: Final = 64
"""Maximum of open connections; one more closes the oldest. Normal requests take milliseconds."""

_log = structlog.get_logger(__name__)


class _Server(ThreadingMixIn, WSGIServer):
    """Server with one thread and one request per connection, bounded in number and time."""

    daemon_threads = True
    request_queue_size = 2 * MAX_CONNECTIONS

    tls: Callable[[], ssl.SSLContext] | None = None
    """Returns the context of a new connection; None for plain text."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        self._lock = threading.Lock()
        self._deadlines: dict[socket.socket, float] = {}
        """Deadlines of open connections, oldest first."""
        self._threads_alive = 0
        super().__init__(*arguments, **named)

    def get_request(self) -> tuple[Any, Any]:
        """Accept a connection. Its thread does the handshake: this one must not wait for it."""
        connection, address = super().get_request()
        if self.tls is None:
            return connection, address
        try:
            wrapped = self.tls().wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        except OSError:  # reset already
            connection.close()
            raise
        except Exception as error:
            # `serve_forever` survives an OSError only; any other would end all probes for good.
            connection.close()
            _log.exception("metrics.connection_failed")
            raise OSError("no TLS for this connection") from error
        return wrapped, address

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            while len(self._deadlines) >= MAX_CONNECTIONS:
                self._hang_up(next(iter(self._deadlines)))
            # Threads of closed connections end at once, unless the event loop hangs.
            admitted = self._threads_alive < 2 * MAX_CONNECTIONS
            if admitted:
                self._threads_alive += 1
                self._deadlines[request] = time.monotonic() + REQUEST_SECONDS
        if admitted:
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._lock:
                self._deadlines.pop(request, None)
                self._threads_alive -= 1

    def service_actions(self) -> None:
        """Close connections past their deadline; `serve_forever` calls this between requests."""
        super().service_actions()
        now = time.monotonic()
        with self._lock:
            for connection in [one for one, end in self._deadlines.items() if end <= now]:
                self._hang_up(connection)

    def server_close(self) -> None:
        super().server_close()
        with self._lock:
            for connection in list(self._deadlines):
                self._hang_up(connection)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log the error that ended the thread of a connection."""
        error = sys.exc_info()[1]
        if isinstance(error, OSError):
            _log.debug("metrics.connection_lost", error=repr(error))
        else:
            _log.error("metrics.request_failed", exc_info=error)

    def _hang_up(self, connection: socket.socket) -> None:
        """Wake the thread of a connection, which closes it. The lock must be held."""
        del self._deadlines[connection]
        with suppress(OSError):  # closed already
            connection.shutdown(socket.SHUT_RDWR)


class _RequestRunner(ServerHandler):
    """Runs the application for one request."""

    def log_exception(self, exc_info: Any) -> None:
        """Log through structlog instead of a traceback on standard error."""
        if isinstance(exc_info[1], OSError):
            _log.debug("metrics.connection_lost", error=repr(exc_info[1]))
        else:
            _log.error("metrics.request_failed", exc_info=exc_info)


class _Handler(WSGIRequestHandler):
    timeout = REQUEST_SECONDS  # per read or write; the server's deadline covers the whole request

    def handle(self) -> None:
        """Answer one request like the base class, except for the handling of errors."""
        self.raw_requestline = self.rfile.readline(_LINE_BYTES + 1)
        if len(self.raw_requestline) > _LINE_BYTES:
            self.requestline, self.request_version, self.command = "", "", ""
            self.send_error(414)
            return
        if not self.parse_request():
            return
        read: Any = self.rfile
        write: Any = self.wfile
        runner = _RequestRunner(
            read, write, self.get_stderr(), self.get_environ(), multithread=True
        )
        runner.request_handler = self  # type: ignore[attr-defined]
        app = self.server.get_app()  # type: ignore[attr-defined]
        runner.run(app)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        """Log nothing: probes arrive every few seconds."""


class _App:
    """WSGI application with the three paths; /healthz checks that the event loop responds."""

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
    address: Address,
    registry: CollectorRegistry,
    ready: Callable[[], bool],
    tls: Callable[[], ssl.SSLContext] | None = None,
) -> AsyncIterator[Address]:
    """Serve inside the block; yield the actual address (port 0 picks a free one).

    Args:
        ready: whether the process accepts work now; called from another thread.
        tls: returns the context of a new connection; None for plain HTTP.

    Raise `ConfigurationError` if the address cannot be used.
    """
    server = _bind(address, _App(registry, ready, asyncio.get_running_loop()))
    server.tls = tls
    thread = threading.Thread(target=server.serve_forever, args=(0.1,), name="exposition")
    thread.start()
    try:
        yield address.with_port(server.server_port)
    finally:
        # Both block: shutdown until the serving loop notices, join until the thread ends.
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
