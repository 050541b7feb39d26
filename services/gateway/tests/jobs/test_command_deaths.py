"""Commands that die, or whose client goes away, after each call of a port."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, cast

import pytest

from sluice_backends.sql.catalogue import SqlCatalogue
from sluice_core.photos.counts import PhotoCounts
from sluice_core.photos.model import Owner, Photo
from sluice_core.photos.states import PhotoStatus
from sluice_core.ports.object_store import ObjectStore
from sluice_core.uploads.model import MIB, ObjectRef
from sluice_gateway.app import build_app
from sluice_gateway.deps import GatewayDeps
from sluice_gateway.http.authentication import Authentication
from sluice_gateway.jobs.options import PhotoOptions
from sluice_gateway.options import GatewayOptions
from sluice_gateway.projection.adoption import PhotoAdopter
from support.photo_gateway import (
    ANN,
    API,
    Environment,
    NamedTokens,
    PhotoGateway,
    client_of,
    jpeg,
    photo_gateway,
    photo_services,
)
from support.photo_jobs import change_photo
from support.photo_judge import judge_events, sweep_as_if_days_later
from support.projection import Killed

End = Literal["killed", "cancelled"]
Preparation = Callable[[PhotoGateway], Awaitable[tuple[str, str]]]
MOST_CALLS: Final = 60
# A repeat takes over from a dead process at once.
OPTIONS: Final = PhotoOptions(jobs_per_minute=0, progress_per_second=0, claim_seconds=0.0)


class Fuse:
    """Ends the request at one call of a port: its process dies, or its task is cancelled."""

    def __init__(self, end: End, at: int) -> None:
        self.end = end
        self.left = at
        self.request: asyncio.Task[Any] | None = None
        self.is_dead = False

    async def burn(self) -> None:
        """Count a point; raise `Killed` or `CancelledError` at the last one."""
        self.left -= 1
        if self.is_dead or (self.left == 0 and self.end == "killed"):
            self.is_dead = True
            raise Killed
        if self.left == 0:
            assert self.request is not None
            self.request.cancel()
            await asyncio.sleep(0)

    @property
    def has_burnt(self) -> bool:
        return self.left <= 0


class Fused:
    """A port with a point after the effect of each call, which is before the next call."""

    def __init__(self, port: Any, fuse: Fuse) -> None:
        self._port = port
        self._fuse = fuse

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._port, name)

        async def call(*arguments: Any, **named: Any) -> Any:
            if self._fuse.is_dead:
                raise Killed
            answer = await method(*arguments, **named)
            await self._fuse.burn()
            return answer

        return call


class Adopting(Environment):
    """Makes nodes of objects, as a gateway beside the processor does."""

    adopter: PhotoAdopter

    async def object_created(self, ref: ObjectRef, *, happened_at: float) -> None:
        await self.adopter(ref, happened_at=happened_at)


async def request(
    photos: PhotoGateway, fuse: Fuse, method: str, path: str, body: Any, key: str
) -> int | None:
    """Send a request to a process with this fuse; return the status, None if it has burnt."""
    catalogue = cast("SqlCatalogue", Fused(photos.catalogue, fuse))
    objects = cast("ObjectStore", Fused(photos.objects, fuse))
    environment = Adopting()
    environment.adopter = PhotoAdopter(catalogue, objects)
    services = photo_services(catalogue, objects, photos.metrics, environment, OPTIONS)

    async def is_ready() -> bool:
        return True

    options = GatewayOptions(issuer=API, audience="sluice")
    deps = GatewayDeps(
        Authentication(NamedTokens()), photos.metrics, options, is_ready, photos=services
    )
    headers = {"authorization": "Bearer ann"}
    if key:
        headers["idempotency-key"] = key
    async with client_of(build_app(deps), API) as http:
        fuse.request = asyncio.create_task(http.request(method, path, json=body, headers=headers))
        await asyncio.wait([fuse.request])
    if fuse.request.cancelled() or fuse.request.exception() is not None:
        assert fuse.has_burnt, fuse.request.exception()
        return None
    return int(fuse.request.result().status_code)


@dataclass(frozen=True, slots=True)
class Command:
    """A command, the photo that it is about, and what becomes of that.

    `prepare` returns the path and the id of the photo; "" for a new one.
    """

    name: str
    prepare: Preparation
    after: PhotoStatus
    body: Any = None
    method: str = "POST"
    statuses: tuple[int, ...] = (200,)
    """Of a repeat."""

    def __str__(self) -> str:
        return self.name


def of_photo(suffix: str, size: int = 10, *, method: str = "upload") -> Preparation:
    """Return a preparation: a new photo of this size."""

    async def prepare(photos: PhotoGateway) -> tuple[str, str]:
        (item,) = (await photos.create(size))["items"]
        return f"/commands/{method}/{item['photoId']}{suffix}", item["photoId"]

    return prepare


def with_multipart(suffix: str, *, is_whole: bool = False, method: str = "upload") -> Preparation:
    """Return a preparation: a photo whose multipart is open, with all parts or none."""

    async def prepare(photos: PhotoGateway) -> tuple[str, str]:
        path, photo_id = await of_photo(suffix, 6 * MIB, method=method)(photos)
        parts = (await photos.post(f"/commands/upload/{photo_id}/parts")).json()
        for part in parts["parts"] if is_whole else ():
            assert await photos.put(part, b"x" * part["bytes"]) == 200
        return path, photo_id

    return prepare


async def new_job(photos: PhotoGateway) -> tuple[str, str]:
    return "/commands/upload-jobs", ""


async def put_photo(photos: PhotoGateway) -> tuple[str, str]:
    (item,) = (await photos.create(10))["items"]
    assert await photos.put(item, b"x" * 10) == 200
    return f"/commands/upload/{item['photoId']}/finalize", item["photoId"]


async def failed_multipart(photos: PhotoGateway) -> tuple[str, str]:
    path, photo_id = await with_multipart("/retry")(photos)
    await change_photo(photos.catalogue, await photos.photo(photo_id), PhotoStatus.FAILED)
    return path, photo_id


async def job_of_multipart(photos: PhotoGateway) -> tuple[str, str]:
    _, photo_id = await with_multipart("")(photos)
    job_id = (await photos.photo(photo_id)).job_id
    return f"/commands/upload-jobs/{job_id}/cancel", photo_id


COMMANDS: Final = (
    Command("create", new_job, PhotoStatus.QUEUED, {"files": [jpeg(), jpeg()]}, statuses=(201,)),
    Command("parts", of_photo("/parts", 6 * MIB), PhotoStatus.UPLOADING),
    Command("finalize", put_photo, PhotoStatus.PROCESSING),
    Command("complete", with_multipart("/finalize", is_whole=True), PhotoStatus.PROCESSING),
    Command("renew", of_photo("/renew"), PhotoStatus.QUEUED),
    Command("retry", failed_multipart, PhotoStatus.QUEUED),
    Command("cancel", with_multipart("/cancel"), PhotoStatus.CANCELLED),
    Command("cancel a job", job_of_multipart, PhotoStatus.CANCELLED),
    Command("tag", of_photo("/tags", method="photos"), PhotoStatus.QUEUED, {"tags": ["sea"]}),
    Command(
        "delete",
        with_multipart("", method="photos"),
        PhotoStatus.CANCELLED,
        method="DELETE",
        statuses=(204, 404),
    ),
)


@pytest.mark.slow  # some 150 jobs, one for each call and end
@pytest.mark.parametrize("end", ["killed", "cancelled"])
@pytest.mark.parametrize("command", COMMANDS, ids=str)
async def test_command_that_ends_anywhere_can_be_repeated(
    tmp_path: Path, command: Command, end: End
) -> None:
    """Its repeat leads to the state that one execution leads to, with each event once, and the
    sweeper finds what it had opened."""
    async with photo_gateway(tmp_path, OPTIONS) as photos:
        for point in range(1, MOST_CALLS):
            known = {job.job_id for job in (await photos.catalogue.list_jobs(ANN, 100)).jobs}
            path, _ = await command.prepare(photos)
            key = f"key-{point}" if command.method == "POST" else ""
            fuse = Fuse(end, point)
            await request(photos, fuse, command.method, path, command.body, key)
            again = Fuse(end, 0)
            status = await request(photos, again, command.method, path, command.body, key)
            assert status in command.statuses, point
            listed = await photos.catalogue.list_jobs(ANN, 100)
            (job,) = [job for job in listed.jobs if job.job_id not in known]
            found = await photos.catalogue.job_with_photos(ANN, job.job_id)
            assert job.counts == PhotoCounts.of(photo.status for photo in found.photos)
            assert {photo.status for photo in found.photos} == {command.after}, point
            if not fuse.has_burnt:
                break
        else:
            pytest.fail(f"more than {MOST_CALLS} calls")
        assert point > 2, "nothing was broken"
        await judge_all(photos)


async def judge_all(photos: PhotoGateway) -> None:
    """Check the events of all photos, and what the sweeper leaves of their multiparts."""
    everything: list[Photo] = []
    for job in (await photos.catalogue.list_jobs(Owner(ANN.tenant, "ann"), 100)).jobs:
        everything += (await photos.catalogue.job_with_photos(ANN, job.job_id)).photos
    judge_events([row.event for row in await photos.catalogue.outbox(10_000)], everything)
    await sweep_as_if_days_later(photos.catalogue, photos.objects)
    for photo in everything:
        assert list(await photos.objects.open_multiparts(photo.object)) == [], photo
    assert not await photos.catalogue.stale_intents(2**40, 100)
