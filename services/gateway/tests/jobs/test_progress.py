"""Posts of progress."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest

from sluice_core.errors import Unavailable
from sluice_core.photos.states import PhotoStatus
from sluice_core.uploads.model import MIB
from sluice_gateway.jobs.options import PhotoOptions
from support.photo_gateway import PhotoGateway, photo_gateway, reason_of

PATH = "/commands/upload/progress"


def report(photo_id: str, sent: Any, total: Any = 100) -> dict[str, Any]:
    return {"photoId": photo_id, "bytesSent": sent, "bytesTotal": total}


async def sent_of(photos: PhotoGateway, photo_id: str) -> int:
    await photos.services.progress.flush()
    (update,) = await photos.latest(photo_id)
    return 0 if update is None else update.bytes_sent


async def test_progress_is_shown_in_the_job(photos: PhotoGateway) -> None:
    job = await photos.create(100, 100)
    first, _ = (item["photoId"] for item in job["items"])
    response = await photos.post(PATH, report(first, 50))
    assert (response.status_code, response.json()) == (202, {"accepted": 1, "ignored": []})
    assert await sent_of(photos, first) == 50
    view = (await photos.get(f"/queries/upload-jobs/{job['jobId']}")).json()
    assert (view["status"], view["progress"], view["bytesSent"]) == ("IN_PROGRESS", 25, 50)
    assert (view["uploadingCount"], view["queuedCount"]) == (1, 1)
    assert [photo["progress"] for photo in view["photos"]] == [50, 0]
    assert [photo["status"] for photo in view["photos"]] == ["UPLOADING", "QUEUED"]
    # A list of jobs has no progress, and says the same.
    (listed,) = (await photos.get("/queries/upload-jobs")).json()["items"]
    assert {name: view[name] for name in listed} == listed
    # Ticks are no events; the first one is the start.
    for sent in (60, 70):
        assert (await photos.post(PATH, report(first, sent))).json()["accepted"] == 1
    assert (await photos.events()).count("PhotoUploadStarted") == 1


async def test_progress_is_taken_without_the_catalogue(photos: PhotoGateway) -> None:
    """The start is recorded by a later report; this one is shown all the same."""
    (item,) = (await photos.create(100))["items"]
    down = Unavailable("CATALOGUE_UNAVAILABLE", "The catalogue does not answer; try again.")
    change_photos = photos.catalogue.change_photos
    photos.catalogue.change_photos = AsyncMock(side_effect=down)  # type: ignore[method-assign]
    assert (await photos.post(PATH, report(item["photoId"], 50))).json()["accepted"] == 1
    assert await sent_of(photos, item["photoId"]) == 50
    photos.catalogue.change_photos = change_photos  # type: ignore[method-assign]
    await photos.post(PATH, report(item["photoId"], 60))
    assert (await photos.photo(item["photoId"])).status is PhotoStatus.UPLOADING
    assert await sent_of(photos, item["photoId"]) == 60


async def test_progress_never_goes_back(photos: PhotoGateway) -> None:
    (item,) = (await photos.create(100))["items"]
    for sent in (70, 30):
        assert (await photos.post(PATH, report(item["photoId"], sent))).json()["accepted"] == 1
        assert await sent_of(photos, item["photoId"]) == 70


@pytest.mark.parametrize(
    ("sent", "total"), [(101, 100), (-1, 100), (5, 99), (10**30, 100), (0, 0), (0, -1)]
)
async def test_impossible_progress_is_ignored(photos: PhotoGateway, sent: int, total: int) -> None:
    """It does not fail the post, nor the other reports in it."""
    first, second = (await photos.create(100, 100))["items"]
    reports = [report(first["photoId"], sent, total), report(second["photoId"], 10)]
    answer = (await photos.post(PATH, reports)).json()
    ignored = [{"photoId": first["photoId"], "reason": "BAD_PROGRESS"}]
    assert answer == {"accepted": 1, "ignored": ignored}
    assert await sent_of(photos, first["photoId"]) == 0


async def test_progress_of_ended_photos_is_ignored(photos: PhotoGateway) -> None:
    (item,) = (await photos.create(100))["items"]
    await photos.post(f"/commands/upload/{item['photoId']}/cancel")
    answer = (await photos.post(PATH, report(item["photoId"], 50))).json()
    assert answer["ignored"][0]["reason"] == "PHOTO_ENDED"
    (update,) = await photos.latest(item["photoId"])
    assert update.status == "CANCELLED"


async def test_progress_of_another_user_is_unknown(photos: PhotoGateway) -> None:
    (item,) = (await photos.create(100))["items"]
    for photo_id in (item["photoId"], "ph_unknown"):
        answer = (await photos.post(PATH, report(photo_id, 50), "bob")).json()
        assert answer["ignored"] == [{"photoId": photo_id, "reason": "PHOTO_NOT_FOUND"}]
    assert await sent_of(photos, item["photoId"]) == 0


async def test_reports_of_a_job_read_it_once(photos: PhotoGateway) -> None:
    """Hundreds of reports a second are no hundreds of queries."""
    items = (await photos.create(*[100] * 50))["items"]
    read = AsyncMock(side_effect=photos.catalogue.get_photo)
    photos.catalogue.get_photo = read  # type: ignore[method-assign]
    reports = [report(item["photoId"], 10) for item in items]
    assert (await photos.post(PATH, reports)).json()["accepted"] == 50
    assert (await photos.post(PATH, reports)).json()["accepted"] == 50
    assert read.await_count == 1


async def test_unknown_photos_cost_few_queries(photos: PhotoGateway) -> None:
    read = AsyncMock(side_effect=photos.catalogue.get_photo)
    photos.catalogue.get_photo = read  # type: ignore[method-assign]
    reports = [report(f"ph_{number}", 10) for number in range(1000)]
    assert len((await photos.post(PATH, reports)).json()["ignored"]) == 1000
    assert read.await_count == 10


async def test_posts_above_the_rate_change_nothing(tmp_path: Path) -> None:
    async with photo_gateway(tmp_path, PhotoOptions(0, progress_per_second=1)) as photos:
        (item,) = (await photos.create(100))["items"]
        response = await photos.post(PATH, report(item["photoId"], 10))
        assert response.headers["ratelimit-policy"] == '"progress";q=1;w=1'
        refused = [await photos.post(PATH, report(item["photoId"], 90)) for _ in range(3)]
        limited = [each for each in refused if each.status_code == 429]
        assert limited, "three posts take less than three seconds"
        assert reason_of(limited[0]) == (429, "RATE_LIMITED")
        assert limited[0].headers["ratelimit"] == '"progress";r=0;t=1'
        # The upload goes on.
        assert await photos.put(item, b"x" * 100) == 200


@pytest.mark.parametrize(
    "body",
    [
        {},
        [],
        "x",
        7,
        [[]],
        {"photoId": "ph_1", "bytesSent": 1},
        {"photoId": "ph_1", "bytesSent": 1, "bytesTotal": 1, "more": 1},
        report("ph_1", 1.5),
        report("ph_1", "1"),
        report("ph_1", True),
        report("ph_1", None),
        {"photoId": 7, "bytesSent": 1, "bytesTotal": 1},
        [report("ph_1", 1)] * 1001,
    ],
    ids=lambda body: str(body)[:50],
)
async def test_report_of_another_shape_is_refused(photos: PhotoGateway, body: Any) -> None:
    assert reason_of(await photos.post(PATH, body)) == (422, "INVALID_REQUEST")


async def test_malformed_report_is_refused(photos: PhotoGateway) -> None:
    for photo_id in ("", "../x", "x" * 65, "ä"):
        assert reason_of(await photos.post(PATH, report(photo_id, 1))) == (422, "BAD_PHOTO_ID")
    for content in (b"{", b'{"photoId":"a","photoId":"b"}', b"[NaN]", b"[" * 100):
        response = await photos.http.post(
            PATH,
            content=content,
            headers={"authorization": "Bearer ann", "content-type": "application/json"},
        )
        assert reason_of(response) == (400, "MALFORMED_MESSAGE")
    assert reason_of(await photos.post(PATH, [], "ann.read")) == (403, "MISSING_SCOPE")
    response = await photos.http.post(PATH, json=[])
    assert reason_of(response) == (401, "BAD_TOKEN")


async def test_progress_survives_the_parts(photos: PhotoGateway) -> None:
    (item,) = (await photos.create(9 * MIB))["items"]
    await photos.post(PATH, report(item["photoId"], MIB, 9 * MIB))
    await photos.services.progress.flush()
    await photos.post(f"/commands/upload/{item['photoId']}/parts")
    assert await sent_of(photos, item["photoId"]) == MIB
