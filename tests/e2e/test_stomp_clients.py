"""@stomp/stompjs, also on sockjs-client, against `sluice serve` with tokens of its own."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from typing import Any

import aiohttp
import pytest

from support.gateway import ANN, BOB
from support.keyed_server import ApiUser, api_user, keyed_server
from support.pictures import photo
from support.server import StandaloneServer
from support.stompjs import StompJs, stompjs

PHOTO = photo(160, 120)
ALL_JOBS = "/user/queue/progress"
End = Callable[[StandaloneServer, StompJs], Awaitable[None]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandaloneServer]:
    with keyed_server(tmp_path_factory.mktemp("keyed")) as running:
        yield running


@pytest.fixture
async def ann(server: StandaloneServer) -> AsyncIterator[ApiUser]:
    """Register a user who has no jobs yet."""
    credentials = {**ANN, "email": f"{secrets.token_hex(4)}@example.com"}
    async with api_user(f"http://{server.gateway_address}", credentials) as user:
        yield user


async def put(item: Any) -> int:
    """Send the photo by its signed URL."""
    url, headers = item["presignedUrl"], item["headers"]
    async with aiohttp.ClientSession() as http, http.put(url, data=PHOTO, headers=headers) as reply:
        return reply.status


async def snapshot(client: StompJs, job_topic: str) -> tuple[list[str], str]:
    """Wait for a connection and its snapshots; return the statuses of the photos and of the job."""
    await client.expect("connected", version="1.2", server="sluice")
    statuses: list[str] = []
    for topic in (job_topic, ALL_JOBS):
        await client.expect("subscribed", destination=topic)
    while True:
        message = await client.expect("message", destination=job_topic, kind="snapshot")
        if message["photoId"] is None:  # the job comes after its photos
            break
        statuses.append(message["status"])
    of_user = await client.expect("message", destination=ALL_JOBS, kind="snapshot")
    assert (of_user["jobId"], of_user["status"]) == (message["jobId"], message["status"])
    return statuses, message["status"]


async def changed(client: StompJs, job_topic: str, photo_id: str, status: str) -> dict[str, Any]:
    """Wait until each destination has the change; return its message."""
    for topic in (ALL_JOBS, job_topic):
        message = await client.expect(
            "message", destination=topic, photoId=photo_id, status=status, kind="change"
        )
    return message


async def stop(server: StandaloneServer, client: StompJs) -> None:
    """Let the server end its sessions."""
    stopping = asyncio.create_task(asyncio.to_thread(server.stop))
    closed = await client.expect("closed", code=1012)
    assert closed["reason"].startswith("RESTART retry-after-ms=")
    assert await stopping == 0


async def kill(server: StandaloneServer, client: StompJs) -> None:
    await asyncio.to_thread(server.kill)
    assert (await client.expect("closed"))["code"] != 1012


@pytest.mark.slow  # each starts the server again
@pytest.mark.parametrize(
    ("end", "sockjs"), [(stop, False), (stop, True), (kill, False), (kill, True)]
)
async def test_stomp_client_survives_the_end_of_its_server(
    server: StandaloneServer, ann: ApiUser, end: End, sockjs: bool
) -> None:
    """It hears of a photo, then comes back to the next process.

    The server's log of updates ends with it, so that each connection begins with a snapshot.
    """
    job = await ann.create_job(2, len(PHOTO))
    first, second = job["items"]
    topic = f"/topic/job/{job['jobId']}"
    async with stompjs(f"{topic},{ALL_JOBS}", ann.token, ann.url, sockjs=sockjs) as client:
        assert await snapshot(client, topic) == (["QUEUED", "QUEUED"], "QUEUED")
        assert await put(first) == 200
        done = await changed(client, topic, first["photoId"], "COMPLETED")
        assert (done["progress"], done["bytesSent"]) == (100, len(PHOTO))

        await end(server, client)
        client.forget()
        await asyncio.to_thread(server.start)
        assert await snapshot(client, topic) == (["COMPLETED", "QUEUED"], "IN_PROGRESS")
        await ann.cancel(second["photoId"])
        await changed(client, topic, second["photoId"], "CANCELLED")
        client.finish()
        await client.expect("deactivated")


async def test_stomp_client_hears_nothing_of_others(server: StandaloneServer, ann: ApiUser) -> None:
    """It is refused the job of another user, and a token that is spoilt or missing."""
    job = await ann.create_job(1)
    topic = f"/topic/job/{job['jobId']}"
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        bob = await enter(api_user(ann.base, BOB))
        refused = await enter(stompjs(topic, bob.token, bob.url))
        await refused.expect("connected")
        assert await refused.next_line() == {"event": "error", "reason": "JOB_NOT_FOUND"}

        quiet = await enter(stompjs(ALL_JOBS, bob.token, bob.url))
        await quiet.expect("subscribed")
        await ann.cancel(job["items"][0]["photoId"])
        own = await bob.create_job(1)
        await bob.cancel(own["items"][0]["photoId"])
        await quiet.expect("message", photoId=own["items"][0]["photoId"], status="CANCELLED")
        heard = [line for line in quiet.forget() if line["event"] == "message"]
        assert {line["jobId"] for line in heard} <= {own["jobId"]}

        for token in (ann.token[:-4] + "AAAA", ""):
            client = await enter(stompjs(ALL_JOBS, token, ann.url))
            assert (await client.expect("error"))["reason"] in ("BAD_TOKEN", "NO_CREDENTIALS")
            assert (await client.expect("closed"))["code"] == 1008
