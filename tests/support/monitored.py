"""Load on a deployment, so that each of its metrics has something to show."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

import grpc
import grpc.aio
import pytest

from sluice.repository.v1 import repository_pb2
from sluice.upload.v1 import upload_pb2
from support.photo_user import PhotoUser, photo_user, picture
from support.waiting import until
from support.wire import CHANNEL_OPTIONS, WireClient, cut, stream_requests

MIB: Final = 1024 * 1024
DRIVE: Final = "wire"
SECONDS: Final = 120.0
_BROKEN: Final = picture(0)[:-1500]


class Load:
    """A user of photos, and a client that speaks gRPC; `once` does everything once."""

    def __init__(self, gateway: str, intake: str, repository: str) -> None:
        self._gateway = gateway
        self._intake = intake
        self._repository = repository
        self._rounds = 0

    async def begin(self) -> None:
        """Create the drive."""
        async with _channel(self._repository) as channel:
            drive = repository_pb2.CreateDriveRequest(name=DRIVE)
            await WireClient(channel).repository.CreateDrive(drive)

    async def once(self) -> None:
        self._rounds += 1
        await asyncio.gather(self._upload(), self._upload_until_stored(), self._send_photos())

    async def _upload(self) -> None:
        """Upload in parts and in one piece, and ask for what does not exist."""
        async with _channel(self._intake) as channel:
            client = WireClient(channel)
            for number, size in enumerate((0.1, 20)):
                content = bytes(int(size * MIB))
                chunks = cut(content, [4 * MIB] * 5)
                opened = await client.initiate(f"{self._rounds}/{number}", drive=DRIVE)
                await client.send_stream(opened.upload_id, chunks)
                await client.complete(opened.upload_id, total_chunks=len(chunks))
            unknown = opened.upload_id[:-1] + ("1" if opened.upload_id[-1] == "0" else "0")
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await client.status(unknown)
            assert refused.value.code() is grpc.StatusCode.NOT_FOUND

    async def _upload_until_stored(self) -> None:
        """Keep the stream open until a part is stored, so that its time is known."""
        async with _channel(self._intake) as channel:
            client = WireClient(channel)
            opened = await client.initiate(f"{self._rounds}/kept", drive=DRIVE)
            chunks, is_stored = cut(bytes(12 * MIB), [4 * MIB] * 3), asyncio.Event()

            async def requests() -> AsyncIterator[upload_pb2.UploadStreamRequest]:
                for request in stream_requests(opened.upload_id, chunks):
                    yield request
                await is_stored.wait()

            async for answer in client.intake.UploadStream(requests()):
                if answer.WhichOneof("event") == "stored":
                    is_stored.set()
            await client.complete(opened.upload_id, total_chunks=len(chunks))

    async def _send_photos(self) -> None:
        """Send photos, one of them damaged, while a session follows them; fail to log in."""
        async with photo_user(lambda: [self._gateway]) as user:
            wrong = {**user.credentials, "password": "wrong horse"}
            answer = await user.once("POST", "/api/auth/login", wrong)
            assert answer.status in (401, 429), answer  # 429: too many guesses by then
            contents = [picture(1), picture(2), _BROKEN]
            photos, items = await user.create(contents)
            async with asyncio.TaskGroup() as group:
                following = group.create_task(self._follow(user, photos[0].job_id))
                for photo, item in zip(photos, items, strict=True):
                    await user.put(photo, item)
                    await user.finalize(photo)
                await self._ended(user, photos[0].job_id)
                await following

    async def _follow(self, user: PhotoUser, job_id: str) -> None:
        """Read live updates until the stream tells of the end of a photo."""
        headers = {"authorization": f"Bearer {user.token}"}
        url = f"{self._gateway}/queries/upload-jobs/{job_id}/events"
        async with user._http.get(url, headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            async for line in answer.content:
                if b"COMPLETED" in line:
                    return

    async def _ended(self, user: PhotoUser, job_id: str) -> None:
        async def all_have() -> bool:
            statuses = set((await user.statuses(job_id)).values())
            return statuses == {"COMPLETED", "FAILED"}

        await until(all_have, SECONDS, "every photo has ended")


def _channel(address: str) -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)


async def repeat(load: Load, stop: asyncio.Event) -> None:
    """Repeat the load until `stop`: a rate needs an increase between two scrapes."""
    while not stop.is_set():
        await load.once()
