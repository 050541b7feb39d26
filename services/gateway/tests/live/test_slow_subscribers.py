"""Subscribers that do not read: dropped, told to come back, and whole again when they do."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager

import pytest

from sluice_core.rates.model import SECOND_US, Rate
from sluice_gateway.live.options import LiveOptions
from sluice_gateway.live.stomp.closing import CloseCode
from support.live_gateway import (
    JobTable,
    LiveGateway,
    StompClient,
    event_stream,
    publish_until,
    running_gateway,
    small_socket,
    stomp_client,
)
from support.live_updates import photo_update
from support.waiting import until

OPTIONS = LiveOptions(write_seconds=0.05, linger_seconds=30.0)


@pytest.fixture
def jobs() -> JobTable:
    table = JobTable()
    table.add("job-1", "ann", photo_update("p1"))
    return table


def slow_client(gateway: LiveGateway) -> AbstractAsyncContextManager[StompClient]:
    """Open a WebSocket that takes little before the test reads, and ends without a handshake."""
    return stomp_client(gateway, sock=small_socket(gateway), max_queue=1, close_timeout=0.05)


def ended(gateway: LiveGateway, transport: str) -> float | None:
    labels = {"transport": transport, "reason": "SLOW_SUBSCRIBER"}
    registry = gateway.hub.metrics.registry
    return registry.get_sample_value("sluice_gateway_live_ended_total", labels)


async def test_subscriber_that_does_not_read_is_dropped(jobs: JobTable) -> None:
    """What it had not read is still delivered, with the close code behind it."""
    async with running_gateway(jobs=jobs, options=OPTIONS, small_buffers=True) as gateway:
        async with slow_client(gateway) as client:
            await client.connect()
            await client.subscribe("/topic/job/job-1")
            last = await publish_until(gateway, lambda: len(gateway.hub.sessions) == 0)
            assert ended(gateway, "stomp") == 1
            code, reason, frames = await client.closed()
            assert (code, reason) == (CloseCode.TRY_AGAIN_LATER, "SLOW_SUBSCRIBER")
            assert frames[-1].command == "MESSAGE"
        async with stomp_client(gateway) as client:
            await client.connect()
            await client.subscribe("/topic/job/job-1", "s", ("after", "1"))
            assert (await client.next_message())["bytesSent"] == last.bytes_sent


async def test_socket_of_a_dropped_subscriber_is_freed(jobs: JobTable) -> None:
    """Although the client neither reads nor closes, and its socket lives on."""
    options = LiveOptions(write_seconds=0.05, linger_seconds=0.05)
    async with (
        running_gateway(jobs=jobs, options=options, small_buffers=True) as gateway,
        slow_client(gateway) as client,
    ):
        await client.connect()
        await client.subscribe("/topic/job/job-1")
        await publish_until(gateway, lambda: len(gateway.hub.sessions) == 0)
        await until(lambda: not gateway.server.server_state.connections, what="the socket is freed")


async def test_slow_reader_skips_states_that_are_past(jobs: JobTable) -> None:
    """Nothing is queued for it: it gets fewer messages than there were changes, and the last."""
    patient = LiveOptions(write_seconds=300.0)
    async with (
        running_gateway(jobs=jobs, options=patient, small_buffers=True) as gateway,
        slow_client(gateway) as client,
    ):
        await client.connect()
        await client.subscribe("/topic/job/job-1")
        published = 0

        def enough() -> bool:
            nonlocal published
            published += 1
            return published == 3_000

        last = await publish_until(gateway, enough)
        received = 0
        while (await client.next_message())["bytesSent"] != last.bytes_sent:
            received += 1
        assert received < published / 2
        assert ended(gateway, "stomp") is None


async def test_event_stream_that_is_not_read_is_cut(jobs: JobTable) -> None:
    async with (
        running_gateway(jobs=jobs, options=OPTIONS, small_buffers=True) as gateway,
        event_stream(gateway, small=True) as events,
    ):
        await publish_until(gateway, lambda: len(gateway.hub.sessions) == 0)
        assert ended(gateway, "sse") == 1
        await until(lambda: not gateway.server.server_state.connections, what="the socket is freed")
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await events.rest()


async def test_client_that_asks_and_does_not_read_is_dropped(jobs: JobTable) -> None:
    """Answers that are not taken stop the reading of requests, so they do not pile up."""
    options = LiveOptions(write_seconds=0.05, frames=Rate(1_000_000, SECOND_US, burst=1_000_000))
    async with (
        running_gateway(jobs=jobs, options=options, small_buffers=True) as gateway,
        slow_client(gateway) as client,
    ):
        await client.connect()

        async def ask() -> None:
            for number in range(20_000):
                receipt = ("receipt", f"{number}-" + "x" * 100)
                topic = ("destination", "/topic/job/job-1")
                await client.send("SUBSCRIBE", ("id", "s"), topic, ("after", "9"), receipt)
                await client.send("UNSUBSCRIBE", ("id", "s"))

        asking = asyncio.create_task(ask())
        await until(lambda: ended(gateway, "stomp") == 1, what="the subscriber is dropped")
        asking.cancel()
        await asyncio.wait([asking])
        assert 0 < jobs.asked < 2_000
