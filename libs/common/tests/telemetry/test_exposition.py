"""/metrics, /healthz and /readyz of a process."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from sluice_common.addresses import Address
from sluice_common.configuration import ConfigurationError
from sluice_common.telemetry.exposition import exposing
from sluice_common.telemetry.metrics import Metrics

ANY = Address("127.0.0.1", 0)


def ask(address: Address, path: str, method: str = "GET") -> tuple[int, str]:
    try:
        with urlopen(Request(f"http://{address}{path}", method=method), timeout=10) as answer:
            return answer.status, answer.read().decode()
    except HTTPError as error:
        with error:
            return error.code, error.read().decode()


async def test_metrics_are_exposed() -> None:
    metrics = Metrics()
    metrics.chunks.labels("NEW").inc(3)
    async with exposing(ANY, metrics.registry, lambda: True) as address:
        status, text = await asyncio.to_thread(ask, address, "/metrics")
    assert status == 200
    assert 'sluice_chunks_total{verdict="NEW"} 3.0' in text


async def test_readiness_follows_the_process() -> None:
    ready = asyncio.Event()
    async with exposing(ANY, Metrics().registry, ready.is_set) as address:
        assert (await asyncio.to_thread(ask, address, "/readyz"))[0] == 503
        ready.set()
        assert (await asyncio.to_thread(ask, address, "/readyz"))[0] == 200
        assert (await asyncio.to_thread(ask, address, "/healthz"))[0] == 200


async def test_a_hanging_event_loop_is_not_healthy() -> None:
    async with exposing(ANY, Metrics().registry, lambda: True) as address:
        with ThreadPoolExecutor(1) as elsewhere:
            asking = elsewhere.submit(ask, address, "/healthz")
            status, _ = asking.result(60)  # the loop hangs until the answer is there
        assert status == 503


async def test_other_paths_and_methods_are_refused() -> None:
    async with exposing(ANY, Metrics().registry, lambda: True) as address:
        assert (await asyncio.to_thread(ask, address, "/"))[0] == 404
        assert (await asyncio.to_thread(ask, address, "/metrics", "POST"))[0] == 405


async def test_an_address_in_use_is_a_configuration_error() -> None:
    async with exposing(ANY, Metrics().registry, lambda: True) as address:
        with pytest.raises(ConfigurationError, match="SLUICE_METRICS_ADDRESS"):
            async with exposing(address, Metrics().registry, lambda: True):
                pass


async def test_the_port_is_free_afterwards() -> None:
    async with exposing(ANY, Metrics().registry, lambda: True) as address:
        pass
    async with exposing(address, Metrics().registry, lambda: True) as again:
        assert again == address
    assert "exposition" not in {thread.name for thread in threading.enumerate()}
