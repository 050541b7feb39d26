"""Queries of jobs."""

from __future__ import annotations

from unittest.mock import AsyncMock

import pytest

from sluice_core.errors import Unavailable
from sluice_core.photos.changes import PhotoChange
from sluice_core.photos.states import PhotoStatus
from support.photo_gateway import PhotoGateway, reason_of


async def test_job_shows_its_photos(photos: PhotoGateway) -> None:
    job = await photos.create(10, 20)
    first, second = (item["photoId"] for item in job["items"])
    change = PhotoChange(first, PhotoStatus.FAILED, reason="TRUNCATED", detail="It ends early.")
    await photos.catalogue.change_photos([change])
    view = (await photos.get(f"/queries/upload-jobs/{job['jobId']}")).json()
    assert (view["status"], view["totalCount"], view["bytesTotal"]) == ("IN_PROGRESS", 2, 30)
    assert (view["failedCount"], view["queuedCount"]) == (1, 1)
    failed, queued = view["photos"]
    assert (failed["photoId"], failed["reason"], failed["detail"]) == (
        first,
        "TRUNCATED",
        "It ends early.",
    )
    assert (queued["photoId"], queued["status"], queued["reason"]) == (second, "QUEUED", None)


async def test_unchanged_job_is_not_sent_again(photos: PhotoGateway) -> None:
    job = await photos.create(100)
    path, photo_id = f"/queries/upload-jobs/{job['jobId']}", job["items"][0]["photoId"]
    first = await photos.get(path)
    assert first.headers["cache-control"] == "private, no-cache"
    etag = first.headers["etag"]
    again = await photos.get(path, if_none_match=f'"other", {etag}')
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["etag"] == etag
    # Progress changes it, though the catalogue does not.
    await photos.post(
        "/commands/upload/progress", {"photoId": photo_id, "bytesSent": 5, "bytesTotal": 100}
    )
    await photos.services.progress.flush()
    moved = await photos.get(path, if_none_match=etag)
    assert (moved.status_code, moved.json()["bytesSent"]) == (200, 5)
    await photos.post(f"/commands/upload/{photo_id}/cancel")
    ended = await photos.get(path, if_none_match=moved.headers["etag"])
    assert (ended.status_code, ended.json()["status"]) == (200, "CANCELLED")


async def test_ended_job_is_compared_by_one_row(photos: PhotoGateway) -> None:
    job = await photos.create(*[10] * 20)
    path = f"/queries/upload-jobs/{job['jobId']}"
    await photos.post(f"/commands/upload-jobs/{job['jobId']}/cancel")
    etag = (await photos.get(path)).headers["etag"]
    photos.catalogue.job_with_photos = AsyncMock()  # type: ignore[method-assign]
    assert (await photos.get(path, if_none_match=etag)).status_code == 304
    photos.catalogue.job_with_photos.assert_not_awaited()


async def test_job_is_shown_without_live_updates(photos: PhotoGateway) -> None:
    job = await photos.create(10)
    down = Unavailable("LIVE_UNAVAILABLE", "Live updates do not answer; try again.")
    photos.services.updates.latest = AsyncMock(side_effect=down)  # type: ignore[method-assign]
    response = await photos.get(f"/queries/upload-jobs/{job['jobId']}")
    assert (response.status_code, response.json()["status"]) == (200, "QUEUED")


async def test_deleted_photo_stays_in_its_job(photos: PhotoGateway) -> None:
    job = await photos.create(10, 10)
    await photos.call("DELETE", f"/commands/photos/{job['items'][0]['photoId']}")
    view = (await photos.get(f"/queries/upload-jobs/{job['jobId']}")).json()
    assert [photo["deleted"] for photo in view["photos"]] == [True, False]
    assert (view["totalCount"], view["cancelledCount"]) == (2, 1)


async def test_jobs_are_listed_newest_first(photos: PhotoGateway) -> None:
    made = [(await photos.create(10))["jobId"] for _ in range(5)][::-1]
    await photos.create(10, user="bob")
    listed: list[str] = []
    page = (await photos.get("/queries/upload-jobs?size=2")).json()
    while True:
        listed += [job["jobId"] for job in page["items"]]
        if page["next"] is None:
            break
        page = (await photos.get(f"/queries/upload-jobs?size=2&cursor={page['next']}")).json()
    assert listed == made
    assert page["hasMore"] is False
    second = (await photos.get("/queries/upload-jobs?page=1&size=2")).json()
    assert [job["jobId"] for job in second["items"]] == made[2:4]
    assert (second["page"], second["size"], second["hasMore"]) == (1, 2, True)


async def test_jobs_are_listed_by_status(photos: PhotoGateway) -> None:
    first, second = [(await photos.create(10))["jobId"] for _ in range(2)]
    await photos.post(f"/commands/upload-jobs/{first}/cancel")
    page = (await photos.get("/queries/upload-jobs?status=CANCELLED")).json()
    assert [job["jobId"] for job in page["items"]] == [first]
    page = (await photos.get("/queries/upload-jobs?status=QUEUED")).json()
    assert [job["jobId"] for job in page["items"]] == [second]


async def test_unchanged_list_is_not_sent_again(photos: PhotoGateway) -> None:
    job = await photos.create(10)
    etag = (await photos.get("/queries/upload-jobs")).headers["etag"]
    assert (await photos.get("/queries/upload-jobs", if_none_match=etag)).status_code == 304
    await photos.post(f"/commands/upload-jobs/{job['jobId']}/cancel")
    assert (await photos.get("/queries/upload-jobs", if_none_match=etag)).status_code == 200


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("page=-1", "INVALID_REQUEST"),
        ("page=10001", "INVALID_REQUEST"),
        ("page=x", "INVALID_REQUEST"),
        ("size=0", "INVALID_REQUEST"),
        ("size=201", "INVALID_REQUEST"),
        ("size=99999999999999999999", "INVALID_REQUEST"),
        ("status=DONE", "INVALID_REQUEST"),
        ("cursor=", "BAD_CURSOR"),
        ("cursor=%00", "BAD_CURSOR"),
        ("cursor=%C3%A4", "BAD_CURSOR"),
        ("cursor=AAAA", "BAD_CURSOR"),
        ("cursor=W10", "BAD_CURSOR"),  # []
        ("cursor=WyJqb2JzIix0cnVlLCJ4Il0", "BAD_CURSOR"),  # ["jobs",1,"x"]
        ("cursor=WyJ0YWdzIiwieCJd", "BAD_CURSOR"),  # ["tags","x"]
        ("cursor=" + "A" * 2049, "INVALID_REQUEST"),
    ],
)
async def test_bad_query_is_refused(photos: PhotoGateway, query: str, reason: str) -> None:
    assert reason_of(await photos.get(f"/queries/upload-jobs?{query}")) == (422, reason)


async def test_cursor_beyond_all_times_is_accepted(photos: PhotoGateway) -> None:
    """["jobs",1e300,"x"], which no page has, and which the catalogue could not store."""
    await photos.create(10)
    response = await photos.get("/queries/upload-jobs?cursor=WyJqb2JzIiwxZTMwMCwieCJd")
    assert response.status_code == 200
