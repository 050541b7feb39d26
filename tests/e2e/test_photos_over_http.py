"""Photos over HTTP to `sluice serve`: a signed PUT, live updates, thumbnails."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from PIL import Image

from support.live_gateway import StompClient, stomp_client
from support.pictures import as_stored, exif, quadrants, saved
from support.server import StandaloneServer, standalone
from support.waiting import until

ANN = {"email": "ann@example.com", "password": "correct horse"}
PHOTO = saved(as_stored(quadrants(), 6), "JPEG", quality=92, exif=exif(6))
TAKEN_AT = "2024-05-06T10:38:09.123"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[StandaloneServer]:
    with standalone(tmp_path / "data") as running:
        yield running


@dataclass
class Client:
    """A client of the API with a session of its own."""

    http: aiohttp.ClientSession
    base: str
    token: str

    @property
    def port(self) -> int:
        return int(self.base.rpartition(":")[2])

    @property
    def url(self) -> str:
        """Where STOMP is spoken."""
        return f"ws://127.0.0.1:{self.port}/ws"

    async def call(self, method: str, path: str, body: Any = None) -> Any:
        headers = {"authorization": f"Bearer {self.token}"} if self.token else {}
        request = self.http.request(method, self.base + path, json=body, headers=headers)
        async with request as answer:
            content = await answer.read()
            assert answer.status < 300, (answer.status, content)
            return json.loads(content) if content else None

    async def create_job(self, *names: str) -> Any:
        files = [
            {"filename": name, "mimeType": "image/jpeg", "bytes": len(PHOTO)} for name in names
        ]
        return await self.call("POST", "/commands/upload-jobs", {"files": files})

    async def put(self, item: Any) -> int:
        url, headers = item["presignedUrl"], item["headers"]
        async with self.http.put(url, data=PHOTO, headers=headers) as answer:
            await answer.read()
            return answer.status


async def client_of(stack: AsyncExitStack, server: StandaloneServer) -> Client:
    http = await stack.enter_async_context(aiohttp.ClientSession())
    client = Client(http, f"http://{server.gateway_address}", "")
    client.token = (await client.call("POST", "/api/auth/register", ANN))["token"]
    return client


async def heard(stomp: StompClient, status: str, photo_id: str | None) -> dict[str, Any]:
    """Return the first message with this status of a photo, or of the job (None)."""
    while True:
        message = await stomp.next_message()
        if (message["status"], message["photoId"]) == (status, photo_id):
            return message


async def test_put_photo_is_completed_with_thumbnails(server: StandaloneServer) -> None:
    """Nobody finalizes: the object itself leads to the node, the processor and the photo."""
    async with AsyncExitStack() as stack:
        client = await client_of(stack, server)
        job = await client.create_job("Grüße.jpg")
        (item,) = job["items"]
        stomp = await stack.enter_async_context(stomp_client(client, origin=None))
        assert (await stomp.connect(client.token)).command == "CONNECTED"
        await stomp.subscribe(f"/topic/job/{job['jobId']}")

        assert await client.put(item) == 200
        done = await heard(stomp, "COMPLETED", item["photoId"])
        assert (done["progress"], done["bytesSent"]) == (100, len(PHOTO))
        assert (await heard(stomp, "COMPLETED", None))["jobId"] == job["jobId"]

        found = await client.call("GET", f"/queries/upload-jobs/{job['jobId']}")
        assert found["status"] == "COMPLETED"
        photo = await client.call("GET", f"/queries/photos/{item['photoId']}")
        assert photo["takenAt"].startswith(TAKEN_AT)
        path = f"/queries/photos/{item['photoId']}/download-url?variant=256"
        link = await client.call("GET", path)
        async with client.http.get(link["url"]) as answer:
            thumbnail = Image.open(io.BytesIO(await answer.read()))
        assert max(thumbnail.size) <= 256
    assert server.stop() == 0


async def test_photo_that_was_cancelled_leaves_no_node(server: StandaloneServer) -> None:
    """The PUT may arrive after the cancellation: its URL is valid for an hour."""
    async with AsyncExitStack() as stack:
        client = await client_of(stack, server)
        job = await client.create_job("a.jpg", "b.jpg")
        cancelled, kept = job["items"]
        await client.call("POST", f"/commands/upload/{cancelled['photoId']}/cancel")
        assert await client.put(cancelled) == 200
        assert await client.put(kept) == 200

        async def ended() -> bool:
            found = await client.call("GET", f"/queries/upload-jobs/{job['jobId']}")
            return bool(found["status"] == "COMPLETED")

        await until(ended)
        events = server.data_dir / "events"

        def deleted() -> int:
            return sum(file.read_text().count("NodeDeleted") for file in events.iterdir())

        await until(lambda: deleted() == 1, what="the node of the cancelled photo is deleted")


@pytest.mark.slow
async def test_photo_arrives_although_the_server_was_killed(server: StandaloneServer) -> None:
    """Whatever of the way the killed process had not done is done by the next one."""
    async with AsyncExitStack() as stack:
        client = await client_of(stack, server)
        job = await client.create_job("a.jpg", "b.jpg", "c.jpg")
        for item in job["items"]:
            assert await client.put(item) == 200
        server.kill()
        server.start()
        assert client.base == f"http://{server.gateway_address}"

        async def ended() -> bool:
            found = await client.call("GET", f"/queries/upload-jobs/{job['jobId']}")
            return bool(found["status"] == "COMPLETED")

        await until(ended)


async def test_failed_photo_is_processed_again_on_request(tmp_path: Path) -> None:
    """The same object with the same ETag: first with the same failure, then with a higher limit."""
    small = {"SLUICE_PROCESSOR__MAX_PIXELS": "100"}
    async with AsyncExitStack() as stack:
        with standalone(tmp_path / "data", small) as server:
            client = await client_of(stack, server)
            job = await client.create_job("a.jpg")
            photo_id = job["items"][0]["photoId"]

            async def ended(status: str, attempt: int) -> bool:
                found = await client.call("GET", f"/queries/upload-jobs/{job['jobId']}")
                (photo,) = found["photos"]
                return bool((photo["status"], photo["attempt"]) == (status, attempt))

            assert await client.put(job["items"][0]) == 200
            await until(lambda: ended("FAILED", 1))
            path = f"/commands/photos/{photo_id}/reprocess"
            assert (await client.call("POST", path))["status"] == "PROCESSING"
            await until(lambda: ended("FAILED", 2))
            assert server.stop() == 0
        with standalone(tmp_path / "data") as server:
            client.base = f"http://{server.gateway_address}"
            client.token = (await client.call("POST", "/api/auth/login", ANN))["token"]
            await client.call("POST", path)
            await until(lambda: ended("COMPLETED", 3))
            found = await client.call("GET", f"/queries/upload-jobs/{job['jobId']}")
            assert found["status"] == "COMPLETED"
