"""Clients of the gateway that go away in the middle of a command; sessions and events in a kill."""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import socket
import struct
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from sluice_core.ports.event_publisher import NODES_TOPIC, PHOTOS_TOPIC, UPLOADS_TOPIC
from support import kafka
from support.gateway_stages import ServicesStage, gateway_stage, services_stage
from support.live_gateway import event_stream
from support.photo_user import PhotoUser, SentPhoto, photo_user, picture
from support.redis_server import RedisServer
from support.waiting import until

LARGE_BYTES: Final = 5 * 1024 * 1024 + 1000
RST_ON_CLOSE: Final = struct.pack("ii", 1, 0)
MOMENTS: Final = ("in the body", "at once", "later")
READ_SECONDS: Final = 60.0

Copy = tuple[bytes | None, bytes | None, Sequence[tuple[str, bytes]]]
"""Key, value and headers of a message."""


async def abandon(user: PhotoUser, method: str, path: str, body: Any, key: str, when: str) -> None:
    """Send a request and end its connection by RST, before the answer."""
    content = b"" if body is None else json.dumps(body).encode()
    head = [
        f"{method} {path} HTTP/1.1",
        "host: 127.0.0.1",
        f"authorization: Bearer {user.token}",
        f"content-length: {len(content)}",
        *(["content-type: application/json"] if content else []),
        *([f"idempotency-key: {key}"] if key else []),
    ]
    raw = "\r\n".join([*head, "", ""]).encode() + content
    if when == "in the body":
        raw = raw[: len(raw) - max(1, len(content) // 2)]
    reader, writer = await asyncio.open_connection("127.0.0.1", user.port)
    writer.write(raw)
    await writer.drain()
    if when == "later":
        with suppress(TimeoutError):
            async with asyncio.timeout(random.Random(path).uniform(0.001, 0.03)):
                await reader.read(1)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST_ON_CLOSE)
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


async def test_command_whose_client_goes_away_can_be_repeated(tmp_path: Path) -> None:
    """Of every command, with half a body, at once, and a moment later: the repeat has the answer of
    one execution, and everything is judged at the end."""
    sent: list[SentPhoto] = []
    async with (
        gateway_stage("embedded", tmp_path) as stage,
        photo_user(lambda: stage.gateways) as user,
    ):
        for number, when in enumerate(MOMENTS):
            sent += await round_of_commands(user, number, when)
        await stage.settled(user, sent)
        await stage.judge(user, sent)


async def round_of_commands(user: PhotoUser, number: int, when: str) -> Sequence[SentPhoto]:
    """Abandon and repeat each command once; return the photos."""

    async def both(method: str, path: str, body: Any = None, *, expected: int = 200) -> Any:
        key = secrets.token_hex(8) if method == "POST" else ""
        await abandon(user, method, path, body, key, when)
        answer = await user.answer(method, path, body, key=key)
        is_gone = (method, answer.status) == ("DELETE", 404)
        assert answer.status == expected or is_gone, (path, answer)
        return answer.body

    sizes = (0, 0, 0, LARGE_BYTES, LARGE_BYTES)
    contents = [picture(10 * number + each, size) for each, size in enumerate(sizes)]
    files = [
        {"filename": f"{each}.jpg", "mimeType": "image/jpeg", "bytes": len(content)}
        for each, content in enumerate(contents)
    ]
    job = await both("POST", "/commands/upload-jobs", {"files": files}, expected=201)
    photos = [
        SentPhoto(item["photoId"], job["jobId"], content)
        for item, content in zip(job["items"], contents, strict=True)
    ]
    kept, deleted, cancelled, large, undone = photos
    for photo in (large, undone):
        await both("POST", f"/commands/upload/{photo.photo_id}/parts")
    await both("POST", f"/commands/upload/{kept.photo_id}/renew")
    await both("POST", f"/commands/upload/{cancelled.photo_id}/cancel")
    cancelled.fate = "cancelled"
    for photo in (kept, deleted, large):
        await user.put(photo, job["items"][photos.index(photo)])
        await both("POST", f"/commands/upload/{photo.photo_id}/finalize")
    await both("POST", f"/commands/photos/{kept.photo_id}/tags", {"tags": ["sea"]})

    async def completed() -> bool:
        return (await user.statuses(deleted.job_id))[deleted.photo_id] == "COMPLETED"

    await until(completed, 60.0, "the photo to delete is completed")
    await both("DELETE", f"/commands/photos/{deleted.photo_id}", expected=204)
    deleted.fate = "deleted"
    await both("POST", f"/commands/upload-jobs/{job['jobId']}/cancel")
    undone.fate = "cancelled"
    statuses = await user.statuses(kept.job_id)
    for photo in (kept, large):
        # The cancellation of the job may have been faster than the processor.
        photo.fate = "cancelled" if statuses[photo.photo_id] == "CANCELLED" else "kept"
    return photos


async def test_refresh_token_survives_a_kill_during_its_use(tmp_path: Path) -> None:
    """The client cannot know whether the killed process has used the token, and repeats the call.
    That succeeds, unless the restart took longer than a repetition is allowed. Nothing else."""
    ends: list[str] = []
    async with gateway_stage("embedded", tmp_path) as stage:
        for number in range(2):
            async with photo_user(lambda: stage.gateways) as user:
                body = {"refreshToken": user.refresh_token}
                asking = asyncio.create_task(user.once("POST", "/api/auth/refresh", body))
                await asyncio.sleep(number * 0.02)
                await stage.kill("create", user)
                with suppress(aiohttp.ClientError, ConnectionError):
                    first = await asking
                    assert first.status == 200
                    body = {"refreshToken": first.body["refreshToken"]}
                again = await user.answer("POST", "/api/auth/refresh", body)
                ends.append(again.reason or "refreshed")
                assert (again.status, again.reason) in ((200, ""), (401, "SESSION_ENDED")), again
                # The access token goes on, and so does the account.
                assert (await user.once("GET", "/queries/upload-jobs")).status == 200
                assert (await user.once("POST", "/api/auth/login", user.credentials)).status == 200
                if again.status == 200:
                    # Once its successor is used, whoever has the old one stole it.
                    body = {"refreshToken": again.body["refreshToken"]}
                    following = await user.answer("POST", "/api/auth/refresh", body)
                    assert following.status == 200
                    stolen = await user.answer(
                        "POST", "/api/auth/refresh", {"refreshToken": user.refresh_token}
                    )
                    assert (stolen.status, stolen.reason) == (401, "SESSION_ENDED")
    print(f"after the kill: {ends}")  # noqa: T201 - figures of the run


@pytest.mark.slow_fault  # six processes, and every event three times: more than a minute
async def test_repeated_and_reordered_events_change_nothing(tmp_path: Path) -> None:
    """All events twice more, in another order, to two projectors of one group: no photo changes and
    nothing new is published; a listener of the other gateway hears the right end."""
    with RedisServer() as redis:
        async with (
            services_stage(tmp_path, redis) as stage,
            photo_user(lambda: stage.gateways) as user,
        ):
            sent, items = await user.create([picture(number) for number in range(6)])
            for photo, item in zip(sent, items, strict=True):
                await user.put(photo, item)
                await user.finalize(photo)
            await stage.settled(user, sent)
            await user.delete(sent[-1])
            await stage.published()
            job = await user.job(sent[0].job_id)
            published = await messages_of(user, stage, PHOTOS_TOPIC)
            for topic in (UPLOADS_TOPIC, NODES_TOPIC):
                await repeat_in_another_order(user, stage, topic)
            await stage.published()
            assert await user.job(sent[0].job_id) == job
            assert await messages_of(user, stage, PHOTOS_TOPIC) == published
            listener = GatewayPort(int(stage.gateways[1].rpartition(":")[2]))
            host = stage.gateways[1].removeprefix("http://")
            async with event_stream(listener, sent[0].job_id, user.token, host=host) as events:
                _, snapshot, _ = await events.next_event()
            (heard,) = [each for each in snapshot["updates"] if not each["photoId"]]
            assert heard["status"] == job["status"] == "COMPLETED"
            await stage.judge(user, sent)


@dataclass(frozen=True, slots=True)
class GatewayPort:
    """Where a listener connects to."""

    port: int
    url: str = ""


async def messages_of(user: PhotoUser, stage: ServicesStage, topic: str) -> list[Copy]:
    """Return the messages of this user: other tests write to the same topics."""
    tenant = user.owner.tenant.encode()
    return [
        (each.key, each.value, each.headers)
        for each in await kafka.messages_in(stage.options, topic, stage.begun)
        if tenant in (each.value or b"")
    ]


async def repeat_in_another_order(user: PhotoUser, stage: ServicesStage, topic: str) -> None:
    """Write all messages of the user twice more, and wait until every group has read them."""
    copies = await messages_of(user, stage, topic) * 2
    assert copies, f"no events in {topic}"
    random.Random(3).shuffle(copies)
    await kafka.put(stage.options, topic, *copies)
    ends = await kafka.ends_of(stage.options, topic)
    gateways, processor = stage.groups

    async def is_read() -> bool:
        for group in (gateways, processor) if topic == UPLOADS_TOPIC else (gateways,):
            for partition, end in ends.items():
                if (await kafka.committed(stage.options, group, partition) or 0) < end:
                    return False
        return True

    await until(is_read, READ_SECONDS, f"every group has read {topic}")
