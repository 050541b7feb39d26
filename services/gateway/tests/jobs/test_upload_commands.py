"""Renewal, retry, cancellation and another processing of photos."""

from __future__ import annotations

from dataclasses import replace
from typing import NoReturn
from unittest.mock import AsyncMock

import pytest
import structlog

from sluice_core.access.principal import Principal
from sluice_core.access.scopes import Scope
from sluice_core.errors import Unavailable, Unimplemented
from sluice_core.photos.changes import PhotoChange
from sluice_core.photos.model import Owner
from sluice_core.photos.states import PhotoStatus
from sluice_core.ports.audit import AuditFilter
from sluice_core.uploads.model import MIB
from sluice_gateway.jobs import upload_states
from sluice_gateway.jobs.callers import Caller
from sluice_gateway.jobs.reprocess import reprocess_photo
from sluice_gateway.jobs.updates import job_update
from support.commits import TENANT
from support.photo_gateway import PhotoGateway, reason_of


async def fail(photos: PhotoGateway, photo_id: str) -> None:
    change = PhotoChange(photo_id, PhotoStatus.FAILED, reason="TRUNCATED")
    await photos.catalogue.change_photos([change])


async def test_renewed_url_is_of_the_same_photo(photos: PhotoGateway) -> None:
    (item,) = (await photos.create(10))["items"]
    renewed = (await photos.post(f"/commands/upload/{item['photoId']}/renew")).json()
    assert renewed["photoId"] == item["photoId"]
    assert renewed["expiresAt"] >= item["expiresAt"]
    assert await photos.put(renewed, b"x" * 10) == 200
    await photos.post(f"/commands/upload/{item['photoId']}/cancel")
    response = await photos.post(f"/commands/upload/{item['photoId']}/renew")
    assert reason_of(response) == (409, "PHOTO_ENDED")


@pytest.mark.parametrize(("command", "size"), [("renew", 10), ("parts", 9 * MIB)])
async def test_new_urls_give_a_photo_its_whole_time(
    photos: PhotoGateway, monkeypatch: pytest.MonkeyPatch, command: str, size: int
) -> None:
    """Not those of the next minutes, which are no reason to write."""
    (item,) = (await photos.create(size))["items"]
    path = f"/commands/upload/{item['photoId']}/{command}"
    first = await photos.photo(item["photoId"])
    await photos.post(path)
    assert (await photos.photo(first.photo_id)).asked_at == first.asked_at
    monkeypatch.setattr(upload_states, "_AWAITED_SECONDS", 0.0)
    assert (await photos.post(path)).status_code == 200
    assert (await photos.photo(first.photo_id)).asked_at > first.asked_at


async def test_failed_photo_is_sent_again(photos: PhotoGateway) -> None:
    (item,) = (await photos.create(10))["items"]
    photo_id = item["photoId"]
    path = f"/commands/upload/{photo_id}/retry"
    # A photo that is under way has nothing to retry: the present attempt is returned.
    assert (await photos.post(path)).status_code == 200
    await fail(photos, photo_id)
    again = (await photos.post(path)).json()
    photo = await photos.photo(photo_id)
    assert (photo.status, photo.attempt) == (PhotoStatus.QUEUED, 2)
    assert (await photos.post(path)).status_code == 200
    assert (await photos.photo(photo_id)).attempt == 2
    (update,) = await photos.latest(photo_id)
    assert update.status == "QUEUED"
    assert await photos.put(again, b"x" * 10) == 200


async def test_retry_aborts_the_former_multipart(photos: PhotoGateway) -> None:
    (item,) = (await photos.create(9 * MIB))["items"]
    photo_id = item["photoId"]
    await photos.post(f"/commands/upload/{photo_id}/parts")
    former = await photos.photo(photo_id)
    await fail(photos, photo_id)
    await photos.post(f"/commands/upload/{photo_id}/retry")
    assert list(await photos.objects.open_multiparts(former.object)) == []


async def test_arrived_photo_is_not_sent_again(photos: PhotoGateway) -> None:
    (item,) = (await photos.create(10))["items"]
    photo_id = item["photoId"]
    await photos.arrive(photo_id)
    await fail(photos, photo_id)
    response = await photos.post(f"/commands/upload/{photo_id}/retry")
    assert reason_of(response) == (409, "OBJECT_EXISTS")
    reprocessed = await photos.post(f"/commands/photos/{photo_id}/reprocess")
    assert reprocessed.json()["status"] == "PROCESSING"
    assert photos.environment.reprocessed == [photo_id]
    # The request of a call that was killed may be lost: a repeat requests it again.
    await photos.post(f"/commands/photos/{photo_id}/reprocess")
    assert photos.environment.reprocessed == [photo_id] * 2


async def test_reprocess_needs_a_processor_that_can_be_asked(photos: PhotoGateway) -> None:
    """Without events the photo stays FAILED: nothing would ever end its next attempt."""
    (item,) = (await photos.create(10))["items"]
    await photos.arrive(item["photoId"])
    await fail(photos, item["photoId"])
    deaf = replace(photos.services, reprocessing=None)
    caller = Caller(Principal(TENANT, "ann", frozenset({Scope.PHOTOS_WRITE})), "", "")
    with pytest.raises(Unimplemented, match="REPROCESSING_DISABLED"):
        await reprocess_photo(deaf, caller, item["photoId"])
    assert (await photos.photo(item["photoId"])).status is PhotoStatus.FAILED


async def test_command_announces_the_bytes_of_its_job(photos: PhotoGateway) -> None:
    """The same as the projector does at the same version: of two equal ones the first stays."""
    job = await photos.create(10, 20)
    await photos.post(f"/commands/upload/{job['items'][0]['photoId']}/cancel")
    found = await photos.catalogue.job_with_photos(Owner(TENANT, "ann"), job["jobId"])
    (update,) = await photos.latest(job["jobId"])
    assert update == job_update(found.job)
    assert (update.bytes_sent, update.bytes_total) == (10, 30)


async def test_photo_whose_object_was_deleted_needs_a_new_job(photos: PhotoGateway) -> None:
    """Neither command refers to the other one."""
    (item,) = (await photos.create(10))["items"]
    photo_id = item["photoId"]
    await photos.arrive(photo_id)
    await fail(photos, photo_id)
    photo = await photos.photo(photo_id)
    await photos.catalogue.delete_node(photo.owner.tenant, photo.node_id)
    for path in (f"/commands/upload/{photo_id}/retry", f"/commands/photos/{photo_id}/reprocess"):
        assert reason_of(await photos.post(path)) == (409, "OBJECT_DELETED")


async def test_missing_object_is_not_reprocessed(photos: PhotoGateway) -> None:
    (item,) = (await photos.create(10))["items"]
    path = f"/commands/photos/{item['photoId']}/reprocess"
    assert reason_of(await photos.post(path)) == (409, "PHOTO_NOT_FAILED")
    await fail(photos, item["photoId"])
    assert reason_of(await photos.post(path)) == (409, "OBJECT_MISSING")
    assert photos.environment.reprocessed == []


async def test_cancel_aborts_the_multipart(photos: PhotoGateway) -> None:
    (item,) = (await photos.create(9 * MIB))["items"]
    photo_id = item["photoId"]
    parts = (await photos.post(f"/commands/upload/{photo_id}/parts")).json()["parts"]
    await photos.put(parts[1], bytes(parts[1]["bytes"]))
    response = await photos.post(f"/commands/upload/{photo_id}/cancel")
    assert response.json()["status"] == "CANCELLED"
    photo = await photos.photo(photo_id)
    assert list(await photos.objects.open_multiparts(photo.object)) == []
    assert (await photos.post(f"/commands/upload/{photo_id}/cancel")).status_code == 200
    assert (await photos.events()).count("PhotoCancelled") == 1
    assert await audited(photos) == [
        ("CreateUploadJob", f"job/{photo.job_id}"),
        ("GetPartUrls", f"photo/{photo_id}"),
        ("CancelPhoto", f"photo/{photo_id}"),
    ]


async def audited(photos: PhotoGateway) -> list[tuple[str, str]]:
    """Return action and object of the user's entries, oldest first."""
    page = await photos.catalogue.list_audit("acme", 10, None, AuditFilter(subject="ann"))
    return [(entry.action, entry.object) for entry in reversed(page.entries)]


async def test_signed_urls_are_in_the_audit_log(photos: PhotoGateway) -> None:
    """A repeat with its key gets the same URL; refusals are recorded apart."""
    (item,) = (await photos.create(10))["items"]
    photo_id = item["photoId"]
    for _ in range(2):
        renewed = await photos.post(f"/commands/upload/{photo_id}/renew", idempotency_key="k")
        assert renewed.status_code == 200
    photo = await photos.arrive(photo_id, is_processed=True)
    url = f"/queries/photos/{photo_id}/download-url"
    assert (await photos.get(url)).status_code == 200
    assert (await photos.get(f"{url}?variant=256", user="bob")).status_code == 404
    assert await audited(photos) == [
        ("CreateUploadJob", f"job/{photo.job_id}"),
        ("RenewUploadUrl", f"photo/{photo_id}"),
        ("GetPhotoDownloadUrl", f"photo/{photo_id}"),
    ]


@pytest.mark.parametrize(
    ("path", "name"),
    [("/commands/upload/{}/finalize", "photoId"), ("/queries/upload-jobs/{}", "jobId")],
)
async def test_log_lines_name_what_the_path_does(
    photos: PhotoGateway, monkeypatch: pytest.MonkeyPatch, path: str, name: str
) -> None:
    """Also those of a layer that knows neither photos nor jobs."""
    bound: list[dict[str, object]] = []

    def down(*arguments: object) -> NoReturn:
        bound.append(structlog.contextvars.get_contextvars())
        raise Unavailable("CATALOGUE_UNAVAILABLE", "The catalogue does not answer.")

    for read in ("get_photo", "get_job"):
        monkeypatch.setattr(photos.catalogue, read, down)
    headers = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}
    named = "x" * 36
    method = "GET" if name == "jobId" else "POST"
    response = await photos.call(method, path.format(named), None, "ann", **headers)
    assert response.status_code == 503
    (context,) = bound
    assert {name: named, "userId": "ann", "trace_id": "a" * 32}.items() <= context.items()


async def test_cancel_needs_no_store(photos: PhotoGateway) -> None:
    """The sweeper aborts what the command cannot: the intent names it."""
    (item,) = (await photos.create(9 * MIB))["items"]
    await photos.post(f"/commands/upload/{item['photoId']}/parts")
    down = Unavailable("STORE_CIRCUIT_OPEN", "The store does not answer; try again later.")
    photos.objects.abort_multipart = AsyncMock(side_effect=down)  # type: ignore[method-assign]
    response = await photos.post(f"/commands/upload/{item['photoId']}/cancel")
    assert response.status_code == 200
    assert len(await photos.catalogue.stale_intents(1e12, 10)) == 1


@pytest.mark.parametrize("end", [PhotoStatus.FAILED, PhotoStatus.COMPLETED])
async def test_ended_photo_is_not_cancelled(photos: PhotoGateway, end: PhotoStatus) -> None:
    (item,) = (await photos.create(10))["items"]
    await photos.arrive(item["photoId"], is_processed=True)
    await photos.catalogue.change_photos([PhotoChange(item["photoId"], end)])
    response = await photos.post(f"/commands/upload/{item['photoId']}/cancel")
    assert reason_of(response) == (409, "PHOTO_ENDED")


async def test_job_is_cancelled_with_its_open_photos(photos: PhotoGateway) -> None:
    job = await photos.create(10, 9 * MIB, 10)
    first, second, _ = (item["photoId"] for item in job["items"])
    await photos.arrive(first, is_processed=True)
    await photos.catalogue.change_photos([PhotoChange(first, PhotoStatus.COMPLETED)])
    await photos.post(f"/commands/upload/{second}/parts")
    response = await photos.post(f"/commands/upload-jobs/{job['jobId']}/cancel")
    view = response.json()
    assert (view["status"], view["completedCount"], view["cancelledCount"]) == ("COMPLETED", 1, 2)
    assert view["progress"] == 100
    photo = await photos.photo(second)
    assert list(await photos.objects.open_multiparts(photo.object)) == []
    updates = await photos.latest(second, job["jobId"])
    assert [update.status for update in updates] == ["CANCELLED", "COMPLETED"]
    again = await photos.post(f"/commands/upload-jobs/{job['jobId']}/cancel")
    assert again.json() == view
