"""/metrics, /healthz and /readyz of a process."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
import structlog
from prometheus_client import Metric
from prometheus_client.registry import Collector

from sluice_common.telemetry import exposition
from sluice_common.telemetry.exposition import exposing
from sluice_common.telemetry.metrics import RpcMetrics
from sluice_core.addresses import Address
from sluice_core.configuration import ConfigurationError

ANY = Address("127.0.0.1", 0)


def ask(address: Address, path: str, method: str = "GET") -> tuple[int, str]:
    try:
        with urlopen(Request(f"http://{address}{path}", method=method), timeout=10) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()


async def test_metrics_are_exposed() -> None:
    metrics = RpcMetrics()
    metrics.refused_messages.labels("TOO_LARGE").inc(3)
    async with exposing(ANY, metrics.registry, lambda: True) as address:
        status, text = await asyncio.to_thread(ask, address, "/metrics")
    assert status == 200
    assert 'sluice_refused_messages_total{reason="TOO_LARGE"} 3.0' in text


async def test_readiness_follows_the_process() -> None:
    ready = asyncio.Event()
    async with exposing(ANY, RpcMetrics().registry, ready.is_set) as address:
        assert (await asyncio.to_thread(ask, address, "/readyz"))[0] == 503
        ready.set()
        assert (await asyncio.to_thread(ask, address, "/readyz"))[0] == 200
        assert (await asyncio.to_thread(ask, address, "/healthz"))[0] == 200


async def test_a_hanging_event_loop_is_not_healthy() -> None:
    async with exposing(ANY, RpcMetrics().registry, lambda: True) as address:
        with ThreadPoolExecutor(1) as elsewhere:
            asking = elsewhere.submit(ask, address, "/healthz")
            status, _ = asking.result(60)  # the loop hangs until the answer is there
        assert status == 503


async def test_other_paths_and_methods_are_refused() -> None:
    async with exposing(ANY, RpcMetrics().registry, lambda: True) as address:
        assert (await asyncio.to_thread(ask, address, "/"))[0] == 404
        assert (await asyncio.to_thread(ask, address, "/metrics", "POST"))[0] == 405


async def test_an_address_in_use_is_a_configuration_error() -> None:
    async with exposing(ANY, RpcMetrics().registry, lambda: True) as address:
        with pytest.raises(ConfigurationError, match="SLUICE_METRICS_ADDRESS"):
            async with exposing(address, RpcMetrics().registry, lambda: True):
                pass


async def test_the_port_is_free_afterwards() -> None:
    async with exposing(ANY, RpcMetrics().registry, lambda: True) as address:
        pass
    async with exposing(address, RpcMetrics().registry, lambda: True) as again:
        assert again == address
    assert "exposition" not in {thread.name for thread in threading.enumerate()}


# ------------------------------------------------------------------ peers that take their time


@contextmanager
def half_asked(address: Address, count: int) -> Iterator[list[socket.socket]]:
    """Open connections that have sent a part of a request."""
    peers = [socket.create_connection((address.host, address.port), 10) for _ in range(count)]
    try:
        for peer in peers:
            with suppress(OSError):  # hung up already
                peer.sendall(b"GET /healthz HTTP/1.1\r\nX: ")
        yield peers
    finally:
        for peer in peers:
            peer.close()


def trickle_until_closed(peer: socket.socket, pause_seconds: float) -> None:
    """Send single bytes, so that no read takes long."""
    peer.settimeout(pause_seconds)
    while True:
        try:
            peer.sendall(b"a")
            if peer.recv(1) == b"":
                return
        except TimeoutError:
            continue
        except OSError:
            return


async def test_a_trickling_request_ends_by_its_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exposition, "REQUEST_SECONDS", 0.5)
    async with exposing(ANY, RpcMetrics().registry, lambda: True) as address:
        with half_asked(address, 1) as (peer,):
            async with asyncio.timeout(30):  # without a deadline it never ends
                await asyncio.to_thread(trickle_until_closed, peer, 0.05)
        assert (await asyncio.to_thread(ask, address, "/healthz"))[0] == 200


async def test_many_slow_peers_leave_room_for_probes() -> None:
    before = threading.active_count()
    async with exposing(ANY, RpcMetrics().registry, lambda: True) as address:
        with half_asked(address, 5 * exposition.MAX_CONNECTIONS):
            for _ in range(5):
                assert (await asyncio.to_thread(ask, address, "/healthz"))[0] == 200
            assert threading.active_count() - before <= 2 * exposition.MAX_CONNECTIONS + 3


async def test_lost_peers_and_bad_requests_leave_no_traceback(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exposition, "REQUEST_SECONDS", 0.3)
    reset = b"\x01\x00\x00\x00\x00\x00\x00\x00"  # struct linger: close by RST
    async with exposing(ANY, RpcMetrics().registry, lambda: True) as address:
        for request in (
            b"",
            b"GET /metrics HTTP/1.0\r\n\r\n",
            b"\x00\xff\r\n\r\n",
            b"GET " + b"/" * 70_000 + b" HTTP/1.0\r\n\r\n",
            b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200,
        ):
            peer = socket.create_connection((address.host, address.port), 10)
            peer.sendall(request)
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            peer.close()
        with half_asked(address, 1) as (peer,):  # until it is hung up
            await asyncio.to_thread(peer.recv, 1)
        assert (await asyncio.to_thread(ask, address, "/readyz"))[0] == 200
    assert capfd.readouterr().err == ""


class Failing(Collector):
    """A collector with a defect."""

    fails = False

    def collect(self) -> Iterator[Metric]:
        if self.fails:
            raise RuntimeError("no such metric")
        yield from ()


async def test_a_failing_collector_is_logged_and_answered(
    capfd: pytest.CaptureFixture[str],
) -> None:
    registry, failing = RpcMetrics().registry, Failing()
    registry.register(failing)
    async with exposing(ANY, registry, lambda: True) as address:
        failing.fails = True
        with structlog.testing.capture_logs() as logs:
            status, _ = await asyncio.to_thread(ask, address, "/metrics")
    assert status == 500
    assert [entry["event"] for entry in logs] == ["metrics.request_failed"]
    assert capfd.readouterr().err == ""


async def test_failing_tls_of_one_connection_ends_no_other() -> None:
    """Any error but an OSError would end the thread that accepts connections."""
    failures: list[Exception] = [ZeroDivisionError("a defect"), OSError("the files change")]
    asked = 0

    def contexts() -> ssl.SSLContext:
        nonlocal asked
        asked += 1
        if failures:
            raise failures.pop()
        return ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)

    def attempt(address: Address) -> None:
        """Return when the server closes a connection that sends no handshake."""
        with socket.create_connection((address.host, address.port), timeout=10) as connection:
            connection.sendall(b"no handshake")
            with suppress(ConnectionResetError):
                assert connection.recv(1) == b""

    with structlog.testing.capture_logs() as logs:
        async with exposing(ANY, RpcMetrics().registry, lambda: True, contexts) as address:
            for _ in range(3):
                await asyncio.to_thread(attempt, address)
    assert asked == 3
    assert "metrics.connection_failed" in [line["event"] for line in logs]
