"""Requests with an Idempotency-Key."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from sluice_core.access.audit import AuditEntry
from sluice_core.photos.model import Owner
from sluice_core.ports.upload_jobs import JobWithPhotos, NewJob
from sluice_gateway.jobs.options import PhotoOptions
from support.photo_gateway import ANN, PhotoGateway, jpeg, photo_gateway, reason_of

PATH = "/commands/upload-jobs"
BODY = {"files": [jpeg()]}


async def jobs_of(photos: PhotoGateway, owner: Owner = ANN) -> int:
    return len((await photos.catalogue.list_jobs(owner, 100)).jobs)


async def test_repeat_gets_the_same_answer(photos: PhotoGateway) -> None:
    first = await photos.post(PATH, BODY, idempotency_key="k-1")
    again = await photos.post(PATH, BODY, idempotency_key="k-1")
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.content == again.content
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"
    assert await jobs_of(photos) == 1
    other = await photos.post(PATH, BODY, idempotency_key="k-2")
    assert other.json()["jobId"] != first.json()["jobId"]


async def test_concurrent_requests_create_one_job(photos: PhotoGateway) -> None:
    answers = await asyncio.gather(
        *(photos.post(PATH, BODY, idempotency_key="k") for _ in range(8))
    )
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert await jobs_of(photos) == 1


async def test_key_of_another_request_is_a_conflict(photos: PhotoGateway) -> None:
    await photos.post(PATH, BODY, idempotency_key="k")
    other = {"files": [jpeg("b.jpg")]}
    response = await photos.post(PATH, other, idempotency_key="k")
    assert reason_of(response) == (409, "IDEMPOTENCY_CONFLICT")
    (item,) = (await photos.create(10))["items"]
    response = await photos.post(f"/commands/upload/{item['photoId']}/cancel", idempotency_key="k")
    assert reason_of(response) == (409, "IDEMPOTENCY_CONFLICT")
    # Keys belong to their user.
    assert (await photos.post(PATH, other, "bob", idempotency_key="k")).status_code == 201


async def test_refusal_is_not_kept(tmp_path: Path) -> None:
    """The same request succeeds when the limit allows it."""
    async with photo_gateway(tmp_path) as photos:
        photos.environment.retry_after_seconds = 1.0
        response = await photos.post(PATH, BODY, idempotency_key="k")
        assert reason_of(response) == (503, "BACK_PRESSURE")
        photos.environment.retry_after_seconds = None
        assert (await photos.post(PATH, BODY, idempotency_key="k")).status_code == 201


async def test_repeat_takes_nothing_from_the_limit(tmp_path: Path) -> None:
    async with photo_gateway(tmp_path, PhotoOptions(jobs_per_minute=1)) as photos:
        for _ in range(3):
            assert (await photos.post(PATH, BODY, idempotency_key="k")).status_code == 201
        response = await photos.post(PATH, BODY, idempotency_key="another")
        assert reason_of(response) == (429, "RATE_LIMITED")


async def test_repeat_does_not_wait_forever(tmp_path: Path) -> None:
    """A request that a dead process has claimed is 409 until its claim ends."""
    options = PhotoOptions(jobs_per_minute=0, repeat_wait_seconds=0.0)
    async with photo_gateway(tmp_path, options) as photos:
        began, finish = asyncio.Event(), asyncio.Event()
        create = photos.catalogue.create_job

        async def slow(new: NewJob, *, audit: AuditEntry | None = None) -> JobWithPhotos:
            began.set()
            await finish.wait()
            return await create(new, audit=audit)

        photos.catalogue.create_job = slow  # type: ignore[method-assign]
        first = asyncio.create_task(photos.post(PATH, BODY, idempotency_key="k"))
        await began.wait()
        response = await photos.post(PATH, BODY, idempotency_key="k")
        assert reason_of(response) == (409, "REQUEST_IN_PROGRESS")
        assert response.headers["retry-after"] == "1"
        finish.set()
        assert (await first).status_code == 201


async def test_killed_request_is_repeated_without_a_twin(tmp_path: Path) -> None:
    """A process died after its transaction; its successor answers for the same job."""
    options = PhotoOptions(jobs_per_minute=0, claim_seconds=0.0)
    async with photo_gateway(tmp_path, options) as photos:
        died = asyncio.Event()
        finish = photos.catalogue.finish_request

        async def die(*_: Any) -> bytes:
            died.set()
            await asyncio.Event().wait()
            return b""

        photos.catalogue.finish_request = die  # type: ignore[method-assign, assignment]
        first = asyncio.create_task(photos.post(PATH, BODY, idempotency_key="k"))
        await died.wait()
        photos.catalogue.finish_request = finish  # type: ignore[method-assign]
        again = await photos.post(PATH, BODY, idempotency_key="k")
        assert again.status_code == 201
        assert await jobs_of(photos) == 1
        first.cancel()
        await asyncio.wait([first])


@pytest.mark.parametrize("key", ["", "x" * 256, "\xe4", "a\tb"])
async def test_bad_key_is_refused(photos: PhotoGateway, key: str) -> None:
    headers = [(b"authorization", b"Bearer ann"), (b"idempotency-key", key.encode("latin-1"))]
    response = await photos.http.post(PATH, json=BODY, headers=headers)
    assert reason_of(response) == (422, "BAD_IDEMPOTENCY_KEY")
    assert await jobs_of(photos) == 0


async def test_two_keys_are_refused(photos: PhotoGateway) -> None:
    headers = [("authorization", "Bearer ann"), *[("idempotency-key", key) for key in "ab"]]
    response = await photos.http.post(PATH, json=BODY, headers=headers)
    assert reason_of(response) == (422, "BAD_IDEMPOTENCY_KEY")
