"""Photos that are sent in parts: opening, resuming, completing."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import AsyncMock

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice_core.errors import Unavailable
from sluice_core.photos.changes import PhotoChange
from sluice_core.photos.states import PhotoStatus
from sluice_core.uploads.model import MIB
from sluice_gateway.jobs.part_plan import MAX_PART_URLS, describe_numbers, plan_parts
from support.photo_gateway import PhotoGateway, reason_of

SIZE = 16 * MIB + 3
"""Two whole parts, and one of three bytes."""


async def begin(photos: PhotoGateway, size: int = SIZE) -> str:
    (item,) = (await photos.create(size))["items"]
    return str(item["photoId"])


async def ask(photos: PhotoGateway, photo_id: str, body: Any = None) -> httpx2.Response:
    return await photos.post(f"/commands/upload/{photo_id}/parts", body)


async def finalize(photos: PhotoGateway, photo_id: str, body: Any = None) -> httpx2.Response:
    return await photos.post(f"/commands/upload/{photo_id}/finalize", body)


async def send(photos: PhotoGateway, parts: list[Any]) -> None:
    for part in parts:
        assert await photos.put(part, bytes(part["bytes"])) == 200


async def send_all(photos: PhotoGateway, photo_id: str) -> None:
    await send(photos, (await ask(photos, photo_id)).json()["parts"])


async def test_parts_become_the_photo(photos: PhotoGateway) -> None:
    photo_id = await begin(photos)
    assert (await photos.photo(photo_id)).multipart_id == ""
    answer = (await ask(photos, photo_id)).json()
    assert (answer["partSize"], answer["partCount"], answer["stored"]) == (8 * MIB, 3, [])
    assert [part["bytes"] for part in answer["parts"]] == [8 * MIB, 8 * MIB, 3]
    assert (await photos.photo(photo_id)).status is PhotoStatus.UPLOADING
    await send(photos, answer["parts"])
    response = await finalize(photos, photo_id)
    assert response.status_code == 200, response.text
    assert (response.json()["status"], response.json()["progress"]) == ("PROCESSING", 100)
    photo = await photos.photo(photo_id)
    info = await photos.objects.head(photo.object)
    assert info is not None
    assert (info.size, info.content_type) == (SIZE, "image/jpeg")
    assert photos.environment.created == [photo.object]
    (update,) = await photos.latest(photo_id)
    assert update.status == "PROCESSING"
    # A repeat has no effect.
    assert (await finalize(photos, photo_id)).json() == response.json()
    assert (await photos.events()).count("PhotoUploadCompleted") == 1


async def test_resume_sends_no_part_again(photos: PhotoGateway) -> None:
    photo_id = await begin(photos)
    first = (await ask(photos, photo_id)).json()
    await send(photos, first["parts"][1:2])
    again = (await ask(photos, photo_id, {"uploadId": first["uploadId"]})).json()
    assert [part["partNumber"] for part in again["stored"]] == [2]
    assert [part["partNumber"] for part in again["parts"]] == [1, 3]
    # Nobody reported progress, or the reports are lost: what the store has counts.
    job_id = (await photos.photo(photo_id)).job_id
    view = (await photos.get(f"/queries/upload-jobs/{job_id}")).json()
    assert (view["bytesSent"], view["photos"][0]["progress"]) == (8 * MIB, 49)
    await send(photos, again["parts"])
    assert (await finalize(photos, photo_id)).status_code == 200


async def test_wanted_parts_are_signed_again(photos: PhotoGateway) -> None:
    photo_id = await begin(photos)
    await send_all(photos, photo_id)
    wanted = {"parts": [{"partNumber": 2}, {"partNumber": 3, "crc32c": "00000000"}]}
    response = await ask(photos, photo_id, wanted)
    assert response.status_code == 200, response.text
    answer = response.json()
    assert [part["partNumber"] for part in answer["parts"]] == [2, 3]
    assert len(answer["stored"]) == 3
    # The checksum is signed: other bytes are refused.
    assert await photos.put(answer["parts"][1], b"abc") in (400, 422)


async def test_concurrent_requests_open_one_multipart(photos: PhotoGateway) -> None:
    photo_id = await begin(photos)
    answers = await asyncio.gather(*(ask(photos, photo_id) for _ in range(4)))
    assert {answer.status_code for answer in answers} == {200}
    photo = await photos.photo(photo_id)
    assert list(await photos.objects.open_multiparts(photo.object)) == [photo.multipart_id]
    (intent,) = await photos.catalogue.stale_intents(1e12, 10)
    assert (intent.object, intent.multipart_id) == (photo.object, photo.multipart_id)
    # Any of the answers leads to the photo.
    await send(photos, answers[3].json()["parts"])
    assert (await finalize(photos, photo_id)).status_code == 200


async def test_intent_precedes_the_multipart(photos: PhotoGateway) -> None:
    """A crash after the opening leaves a multipart that the sweeper finds (rule 13)."""
    photo_id = await begin(photos)
    photos.objects.open_multipart = AsyncMock(  # type: ignore[method-assign]
        side_effect=Unavailable("STORE_UNAVAILABLE", "The store does not answer; try again.")
    )
    assert reason_of(await ask(photos, photo_id)) == (503, "STORE_UNAVAILABLE")
    (intent,) = await photos.catalogue.stale_intents(1e12, 10)
    assert intent.object == (await photos.photo(photo_id)).object


async def test_adoption_leaves_the_intents_to_the_sweeper(photos: PhotoGateway) -> None:
    """Those of former attempts name multiparts that may be open."""
    photo_id = await begin(photos)
    await send_all(photos, photo_id)
    await finalize(photos, photo_id)
    await photos.arrive(photo_id)
    assert len(await photos.catalogue.stale_intents(1e12, 10)) == 1


async def test_finalize_names_missing_parts(photos: PhotoGateway) -> None:
    photo_id = await begin(photos)
    response = await finalize(photos, photo_id)
    assert reason_of(response) == (409, "PARTS_MISSING")
    assert response.json()["metadata"] == {"parts": "1-3"}
    parts = (await ask(photos, photo_id)).json()["parts"]
    await send(photos, parts[1:2])
    response = await finalize(photos, photo_id)
    assert response.json()["metadata"] == {"parts": "1,3"}
    await send(photos, [parts[0], parts[2]])
    assert (await finalize(photos, photo_id)).status_code == 200


async def test_finalize_names_wrong_etags(photos: PhotoGateway) -> None:
    photo_id = await begin(photos)
    await send_all(photos, photo_id)
    stored = (await ask(photos, photo_id)).json()["stored"]
    sent = [{"partNumber": part["partNumber"], "etag": f'"{part["etag"]}"'} for part in stored]
    wrong = [sent[0], {**sent[1], "etag": '"other"'}, sent[2]]
    response = await finalize(photos, photo_id, {"parts": wrong})
    assert reason_of(response) == (409, "ETAG_MISMATCH")
    assert response.json()["metadata"] == {"parts": "2"}
    assert (await finalize(photos, photo_id, {"parts": sent})).status_code == 200


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ([{"partNumber": 4, "etag": "x"}], "BAD_PART_NUMBER"),
        ([{"partNumber": 1, "etag": "x"}] * 2, "BAD_PART_NUMBER"),
        ([{"partNumber": 0, "etag": "x"}], "INVALID_REQUEST"),
        ([{"partNumber": -1, "etag": "x"}], "INVALID_REQUEST"),
        ([{"partNumber": 10_001, "etag": "x"}], "INVALID_REQUEST"),
        ([{"partNumber": 1}], "INVALID_REQUEST"),
        ([{"partNumber": 1, "etag": "x" * 256}], "INVALID_REQUEST"),
        ([{"partNumber": 1, "etag": "x"}] * 1001, "INVALID_REQUEST"),
        ("1", "INVALID_REQUEST"),
    ],
    ids=lambda value: str(value)[:40],
)
async def test_finalize_with_other_parts_is_refused(
    photos: PhotoGateway, parts: Any, reason: str
) -> None:
    photo_id = await begin(photos)
    await send_all(photos, photo_id)
    assert reason_of(await finalize(photos, photo_id, {"parts": parts})) == (422, reason)


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ([{"partNumber": 4}], "BAD_PART_NUMBER"),
        ([{"partNumber": 0}], "INVALID_REQUEST"),
        ([{"partNumber": 1, "crc32c": "x"}], "INVALID_REQUEST"),
        ([{"partNumber": True}], "INVALID_REQUEST"),
        ([{}], "INVALID_REQUEST"),
    ],
    ids=str,
)
async def test_bad_parts_are_refused(photos: PhotoGateway, parts: Any, reason: str) -> None:
    photo_id = await begin(photos)
    assert reason_of(await ask(photos, photo_id, {"parts": parts})) == (422, reason)
    assert (await photos.photo(photo_id)).status is PhotoStatus.QUEUED


async def test_parts_of_a_small_photo_are_refused(photos: PhotoGateway) -> None:
    assert reason_of(await ask(photos, await begin(photos, 10))) == (409, "NOT_MULTIPART")


async def test_lost_answer_of_completion_is_repeated(photos: PhotoGateway) -> None:
    """The first call completed the multipart and was killed before it notified."""
    photo_id = await begin(photos)
    await send_all(photos, photo_id)
    photos.environment.failures.append(Unavailable("LOG_UNAVAILABLE", "Try again."))
    assert reason_of(await finalize(photos, photo_id)) == (503, "LOG_UNAVAILABLE")
    assert (await photos.photo(photo_id)).status is PhotoStatus.UPLOADING
    assert reason_of(await ask(photos, photo_id)) == (409, "UPLOAD_COMPLETE")
    assert (await finalize(photos, photo_id)).json()["status"] == "PROCESSING"
    assert len(photos.environment.created) == 1


@pytest.mark.parametrize("command", ["parts", "finalize"])
async def test_swept_multipart_fails_the_photo(photos: PhotoGateway, command: str) -> None:
    """The client is told to retry, and the retry has a multipart of its own."""
    photo_id = await begin(photos)
    await send_all(photos, photo_id)
    photo = await photos.photo(photo_id)
    await photos.objects.abort_multipart(photo.object, photo.multipart_id)
    (intent,) = await photos.catalogue.stale_intents(1e12, 10)
    await photos.catalogue.abandon_intent(intent)
    response = await photos.post(f"/commands/upload/{photo_id}/{command}")
    assert reason_of(response) == (409, "UPLOAD_EXPIRED")
    failed = await photos.photo(photo_id)
    assert (failed.status, failed.reason) == (PhotoStatus.FAILED, "UPLOAD_EXPIRED")
    failures = photos.metrics.registry.get_sample_value
    assert failures("photo_failed_total", {"reason": "UPLOAD_EXPIRED"}) == 1
    assert failures("upload_photo_failed_total", {"reason": "UPLOAD_EXPIRED"}) == 1
    retried = (await photos.post(f"/commands/upload/{photo_id}/retry")).json()
    assert retried["multipart"]["uploadId"] == f"{photo_id}-2"
    stale = {"uploadId": f"{photo_id}-1"}
    assert reason_of(await ask(photos, photo_id, stale)) == (409, "UPLOAD_REPLACED")
    assert reason_of(await finalize(photos, photo_id, stale)) == (409, "UPLOAD_REPLACED")
    await send_all(photos, photo_id)
    assert (await finalize(photos, photo_id)).status_code == 200
    await photos.arrive(photo_id)
    await photos.catalogue.get_node("acme", photo.node_id)


async def test_ended_photo_takes_no_parts(photos: PhotoGateway) -> None:
    photo_id = await begin(photos)
    await send_all(photos, photo_id)
    await finalize(photos, photo_id)
    assert reason_of(await ask(photos, photo_id)) == (409, "PHOTO_UPLOADED")
    await photos.post(f"/commands/upload/{photo_id}/cancel")
    assert reason_of(await ask(photos, photo_id)) == (409, "PHOTO_ENDED")
    assert reason_of(await finalize(photos, photo_id)) == (409, "PHOTO_ENDED")


async def test_finalize_confirms_a_put(photos: PhotoGateway) -> None:
    (item,) = (await photos.create(10))["items"]
    photo_id = item["photoId"]
    assert reason_of(await finalize(photos, photo_id)) == (409, "OBJECT_MISSING")
    await photos.put(item, b"x" * 10)
    assert (await finalize(photos, photo_id)).json()["status"] == "PROCESSING"
    photo = await photos.photo(photo_id)
    assert photo.status is PhotoStatus.PROCESSING
    # The store's own notification, and that of finalize.
    assert photos.environment.created == [photo.object, photo.object]


async def test_finalize_notifies_of_no_known_object(photos: PhotoGateway) -> None:
    """The photo has a node, and another notification would have it read within the request."""
    (item,) = (await photos.create(10))["items"]
    await photos.put(item, b"x" * 10)
    photo = await photos.arrive(item["photoId"])
    assert (await finalize(photos, photo.photo_id)).json()["status"] == "PROCESSING"
    # Only the store's own.
    assert photos.environment.created == [photo.object]


async def test_photo_without_finalize_is_processed(photos: PhotoGateway) -> None:
    """A late finalize does not change what the processor has found."""
    (item,) = (await photos.create(10))["items"]
    await photos.put(item, b"x" * 10)
    await photos.arrive(item["photoId"], is_processed=True)

    await photos.catalogue.change_photos([PhotoChange(item["photoId"], PhotoStatus.COMPLETED)])
    assert (await finalize(photos, item["photoId"])).json()["status"] == "COMPLETED"


@given(st.integers(1, 5 * 1024 * 1024 * MIB))
def test_plan_covers_every_byte_once(size: int) -> None:
    plan = plan_parts(size)
    assert plan.count <= MAX_PART_URLS
    assert plan.part_bytes >= 8 * MIB
    whole = (plan.count - 1) * plan.part_bytes
    assert whole + plan.size_of(plan.count) == size
    assert 1 <= plan.size_of(plan.count) <= plan.part_bytes


def test_numbers_are_described_by_runs() -> None:
    assert describe_numbers([7, 1, 2, 3, 9]) == "1-3,7,9"
    assert describe_numbers([]) == ""
