"""Live updates of the panel from Node: restarts, refused WebSockets and refused streams."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from support.gateway import ANN
from support.http_faults import HttpFault, HttpFaults
from support.keyed_server import ApiUser, api_user, keyed_server
from support.panel_live import panel_live
from support.proxy import FaultProxy
from support.server import StandaloneServer

BACK_SECONDS: Final = 5.0
"""Longest time from a server that answers again to updates."""
NO_WEBSOCKETS: Final = HttpFault(403, target="/ws", times=None)
NO_STREAMS: Final = HttpFault(403, target="/events", times=None)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandaloneServer]:
    with keyed_server(tmp_path_factory.mktemp("keyed")) as running:
        yield running


@pytest.fixture
async def ann(server: StandaloneServer) -> AsyncIterator[ApiUser]:
    credentials = {**ANN, "email": f"{secrets.token_hex(4)}@example.com"}
    async with api_user(f"http://{server.gateway_address}", credentials) as user:
        yield user


@pytest.mark.slow  # it starts the server again
@pytest.mark.parametrize("end", [StandaloneServer.stop, StandaloneServer.kill])
async def test_panel_is_back_after_the_end_of_its_server(
    server: StandaloneServer,
    ann: ApiUser,
    tmp_path: Path,
    end: Callable[[StandaloneServer], object],
) -> None:
    """Within five seconds, with the states of what changed meanwhile."""
    job = await ann.create_job(2)
    first, second = (item["photoId"] for item in job["items"])
    async with panel_live(tmp_path, ann.base, ann.token, job["jobId"]) as client:
        await client.expect("transport", transport="stomp")
        await client.expect("snapshot", complete=True, status="QUEUED")
        await ann.cancel(first)
        await client.state_of(first, "CANCELLED")

        await asyncio.to_thread(end, server)
        await asyncio.sleep(2.0)  # it tries, and fails, some times
        client.forget()
        await asyncio.to_thread(server.start)
        answers_at = time.monotonic()
        snapshot = await client.expect("snapshot", complete=True)
        assert time.monotonic() - answers_at < BACK_SECONDS
        assert snapshot["statuses"] == {first: "CANCELLED", second: "QUEUED"}
        await ann.cancel(second)
        await client.state_of(second, "CANCELLED")
        client.finish()
        await client.expect("stopped")


@pytest.mark.parametrize(
    ("refused", "transport"),
    [((NO_WEBSOCKETS,), "sse"), ((NO_WEBSOCKETS, NO_STREAMS), "polling")],
    ids=["no-websockets", "no-streams"],
)
async def test_panel_takes_the_next_way_that_works(
    server: StandaloneServer,
    ann: ApiUser,
    tmp_path: Path,
    refused: tuple[HttpFault, ...],
    transport: str,
) -> None:
    """A proxy refuses the better ones; the states are the same."""
    job = await ann.create_job(1)
    photo = job["items"][0]["photoId"]
    host, _, port = server.gateway_address.rpartition(":")
    faults = HttpFaults(list(refused))
    async with (
        FaultProxy(host, int(port), http=faults) as proxy,
        panel_live(tmp_path, f"http://{proxy.address}", ann.token, job["jobId"]) as client,
    ):
        asked_at = time.monotonic()
        await client.expect("transport", transport=transport)
        assert time.monotonic() - asked_at < BACK_SECONDS
        snapshot = await client.expect("snapshot", complete=True)
        assert snapshot["statuses"] == {photo: "QUEUED"}
        await ann.cancel(photo)
        await client.state_of(photo, "CANCELLED")


async def test_unknown_job_ends_no_other(
    server: StandaloneServer, ann: ApiUser, tmp_path: Path
) -> None:
    """STOMP ends the whole session for one refused subscription."""
    job = await ann.create_job(1)
    photo = job["items"][0]["photoId"]
    unknown = "0198c0de-0000-7000-8000-000000000000"
    async with panel_live(tmp_path, ann.base, ann.token, unknown, job["jobId"]) as client:
        assert (await client.expect("gone"))["jobId"] == unknown
        await client.expect("snapshot", jobId=job["jobId"])
        await ann.cancel(photo)
        await client.state_of(photo, "CANCELLED")


async def test_many_jobs_share_a_subscription(
    server: StandaloneServer, ann: ApiUser, tmp_path: Path
) -> None:
    """Above the limit of a session; those that are followed later too."""
    jobs = [await ann.create_job(1) for _ in range(2)]
    ids = [job["jobId"] for job in jobs]
    unknown = [f"0198c0de-0000-7000-8000-{number:012}" for number in range(60)]
    async with panel_live(tmp_path, ann.base, ann.token, *unknown, ids[0]) as client:
        await client.expect("transport", transport="stomp")
        for job_id in unknown:
            await client.expect("gone", jobId=job_id)
        await client.expect("snapshot", jobId=ids[0])
        client.ask(f"follow {ids[1]}")
        await client.expect("snapshot", jobId=ids[1])
        for job in jobs:
            photo = job["items"][0]["photoId"]
            await ann.cancel(photo)
            await client.expect("change", photoId=photo, status="CANCELLED")
