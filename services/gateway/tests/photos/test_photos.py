"""Queries of photos, downloads and deletion."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from sluice_core.errors import NotFound
from sluice_core.photos.changes import PhotoChange
from sluice_core.photos.states import PhotoStatus
from sluice_core.uploads.model import MIB
from support.photo_gateway import TENANT, PhotoGateway, jpeg, reason_of
from support.processing_results import failed


async def complete(photos: PhotoGateway, photo_id: str, taken_at: float | None = None) -> None:
    await photos.arrive(photo_id, is_processed=True)
    change = PhotoChange(photo_id, PhotoStatus.COMPLETED, taken_at=taken_at)
    await photos.catalogue.change_photos([change])


async def create(photos: PhotoGateway, *names: str) -> list[str]:
    body = {"files": [jpeg(name) for name in names]}
    response = await photos.post("/commands/upload-jobs", body)
    return [item["photoId"] for item in response.json()["items"]]


async def names(photos: PhotoGateway, query: str) -> list[str]:
    response = await photos.get(f"/queries/photos?{query}")
    assert response.status_code == 200, response.text
    return [item["filename"] for item in response.json()["items"]]


async def test_completed_photo_shows_its_picture(photos: PhotoGateway) -> None:
    (photo_id,) = await create(photos, "a.jpg")
    await complete(photos, photo_id, taken_at=1_700_000_000.0)
    view = (await photos.get(f"/queries/photos/{photo_id}")).json()
    assert (view["status"], view["width"], view["height"]) == ("COMPLETED", 4000, 3000)
    assert view["exif"]["camera_make"] == "Åsa"
    assert view["location"] == {"latitude": 59.5, "longitude": 18.25}
    assert view["takenAt"] == "2023-11-14T22:13:20Z"
    assert [one["size"] for one in view["thumbnails"]] == [256, 1024]
    assert view["thumbnails"][0]["url"].startswith("http://objects.test/objects/")
    (item,) = (await photos.get("/queries/photos")).json()["items"]
    assert item["thumbnails"][1]["width"] == 1024
    # The place is shown on request only.
    assert not {"location", "exif"} & item.keys()


async def test_replaced_photo_says_so(photos: PhotoGateway) -> None:
    """A store takes other bytes of the same size by the same URL, which lives a while."""
    (photo_id,) = await create(photos, "a.jpg")
    await complete(photos, photo_id)
    path = f"/queries/photos/{photo_id}"
    shown = await photos.get(path)
    assert shown.json()["reason"] is None
    replaced = replace(failed("e-2"), reason="CHECKSUM_MISMATCH")
    node_id = (await photos.photo(photo_id)).node_id
    await photos.catalogue.record_processed(TENANT, node_id, replaced)
    now = await photos.get(path, if_none_match=shown.headers["etag"])
    assert now.status_code == 200
    view = now.json()
    assert (view["status"], view["reason"]) == ("COMPLETED", "CHECKSUM_MISMATCH")
    assert (view["detail"], view["thumbnails"]) == (replaced.detail, [])
    (item,) = (await photos.get("/queries/photos")).json()["items"]
    assert (item["status"], item["reason"]) == ("COMPLETED", "CHECKSUM_MISMATCH")


async def test_queued_photo_has_no_picture(photos: PhotoGateway) -> None:
    (photo_id,) = await create(photos, "a.jpg")
    view = (await photos.get(f"/queries/photos/{photo_id}")).json()
    assert (view["status"], view["width"], view["exif"], view["thumbnails"]) == (
        "QUEUED",
        None,
        None,
        [],
    )


async def test_unchanged_photo_is_not_sent_again(photos: PhotoGateway) -> None:
    (photo_id,) = await create(photos, "a.jpg")
    for path in (f"/queries/photos/{photo_id}", "/queries/photos"):
        etag = (await photos.get(path)).headers["etag"]
        assert (await photos.get(path, if_none_match=etag)).status_code == 304
        await photos.post(f"/commands/photos/{photo_id}/tags", {"tags": [path[-5:]]})
        assert (await photos.get(path, if_none_match=etag)).status_code == 200


async def test_photos_are_filtered(photos: PhotoGateway) -> None:
    beach, dunes, city = await create(photos, "Beach.jpg", "dunes 100%.jpg", "city.png")
    await complete(photos, beach, taken_at=1_000_000_000.0)
    await photos.post(f"/commands/photos/{beach}/tags", {"tags": ["sea"]})
    await photos.call("DELETE", f"/commands/photos/{city}")
    assert await names(photos, "") == ["dunes 100%.jpg", "Beach.jpg"]
    assert await names(photos, "q=BEA") == ["Beach.jpg"]
    assert await names(photos, "q=0%25") == ["dunes 100%.jpg"]
    assert await names(photos, "q=%25bea%25") == []
    assert await names(photos, "tag=sea") == ["Beach.jpg"]
    assert await names(photos, "tag=SEA") == []
    assert await names(photos, "status=COMPLETED") == ["Beach.jpg"]
    assert await names(photos, "takenTo=2001-09-10T00:00:00Z") == ["Beach.jpg"]
    assert await names(photos, "takenFrom=2001-09-10") == ["dunes 100%.jpg"]
    assert await names(photos, "takenFrom=2001-09-09T01:46:40&takenTo=2001-09-10") == ["Beach.jpg"]
    assert dunes


@pytest.mark.parametrize("sort", ["createdAt", "takenAt", "filename"])
@pytest.mark.parametrize("direction", ["asc", "desc"])
async def test_pages_hold_every_photo_once(photos: PhotoGateway, sort: str, direction: str) -> None:
    made = [f"{letter}.jpg" for letter in "cabed"]
    for photo_id, taken_at in zip(await create(photos, *made), (5.5, 4, 3, 2, 1), strict=True):
        await complete(photos, photo_id, taken_at)
    query = f"sort={sort},{direction}&size=2"
    whole = await names(photos, f"sort={sort},{direction}")
    assert sorted(whole) == sorted(made)
    listed: list[str] = []
    page: Any = (await photos.get(f"/queries/photos?{query}")).json()
    while True:
        listed += [item["filename"] for item in page["items"]]
        if not page["hasMore"]:
            break
        page = (await photos.get(f"/queries/photos?{query}&cursor={page['next']}")).json()
    assert listed == whole
    assert await names(photos, f"{query}&page=1") == whole[2:4]
    assert await names(photos, f"{query}&page=3") == []
    if sort != "createdAt":
        assert (whole == sorted(whole, reverse=direction == "desc")) == (sort == "filename")


async def test_cursor_of_another_order_is_refused(photos: PhotoGateway) -> None:
    await create(photos, "a.jpg", "b.jpg")
    cursor = (await photos.get("/queries/photos?size=1")).json()["next"]
    for query in ("sort=filename", "sort=createdAt,asc", "sort=takenAt"):
        response = await photos.get(f"/queries/photos?{query}&cursor={cursor}")
        assert reason_of(response) == (422, "BAD_CURSOR")


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("sort=size", "BAD_SORT"),
        ("sort=createdAt,up", "BAD_SORT"),
        ("sort=", "BAD_SORT"),
        ("tag=", "BAD_TAG"),
        ("tag=%00", "BAD_TAG"),
        ("status=queued", "INVALID_REQUEST"),
        ("takenFrom=yesterday", "INVALID_REQUEST"),
        ("takenFrom=99999-01-01", "INVALID_REQUEST"),
        ("takenFrom=0", "INVALID_REQUEST"),
        ("takenTo=0.5", "INVALID_REQUEST"),
        ("takenTo=2026-02-30T00:00:00Z", "INVALID_REQUEST"),
        ("page=1_0", "INVALID_REQUEST"),
        ("page=%2B1", "INVALID_REQUEST"),
        ("size=5.0", "INVALID_REQUEST"),
        ("size=%205", "INVALID_REQUEST"),
        ("size=%D9%A5", "INVALID_REQUEST"),
        ("q=" + "x" * 256, "INVALID_REQUEST"),
        ("page=-1", "INVALID_REQUEST"),
        ("size=1000", "INVALID_REQUEST"),
    ],
)
async def test_bad_query_is_refused(photos: PhotoGateway, query: str, reason: str) -> None:
    assert reason_of(await photos.get(f"/queries/photos?{query}")) == (422, reason)


async def test_extreme_times_are_accepted(photos: PhotoGateway) -> None:
    for query in ("takenFrom=0001-01-01", "takenTo=9999-12-31T23:59:59Z"):
        assert (await photos.get(f"/queries/photos?{query}")).status_code == 200


async def test_photo_is_downloaded_by_variant(photos: PhotoGateway) -> None:
    (photo_id,) = await create(photos, "Grüße 1.jpg")
    path = f"/queries/photos/{photo_id}/download-url"
    assert reason_of(await photos.get(path)) == (409, "OBJECT_MISSING")
    assert reason_of(await photos.get(f"{path}?variant=256")) == (404, "VARIANT_NOT_FOUND")
    renewed = (await photos.post(f"/commands/upload/{photo_id}/renew")).json()
    await photos.put(renewed, b"0123456789")
    await complete(photos, photo_id)
    answer = (await photos.get(path)).json()
    assert (answer["variant"], answer["filename"]) == ("original", "Grüße 1.jpg")
    response = await photos.store.get(answer["url"])
    assert (response.status_code, response.content) == (200, b"0123456789")
    assert "Gr%C3%BC%C3%9Fe%201.jpg" in response.headers["content-disposition"]
    small = (await photos.get(f"{path}?variant=256")).json()
    assert small["filename"] == "Grüße 1-256.webp"
    response = await photos.get(f"{path}?variant=512")
    assert reason_of(response) == (422, "INVALID_REQUEST")


async def test_infected_photo_is_not_downloaded(photos: PhotoGateway) -> None:
    (photo_id,) = await create(photos, "a.jpg")
    await photos.arrive(photo_id)
    change = PhotoChange(photo_id, PhotoStatus.FAILED, reason="INFECTED")
    await photos.catalogue.change_photos([change])
    for variant in ("original", "256"):
        response = await photos.get(f"/queries/photos/{photo_id}/download-url?variant={variant}")
        assert reason_of(response) == (409, "PHOTO_INFECTED")


async def test_deleted_photo_is_gone(photos: PhotoGateway) -> None:
    (photo_id,) = await create(photos, "a.jpg")
    photo = await photos.arrive(photo_id, is_processed=True)
    await complete(photos, photo_id)
    path = f"/commands/photos/{photo_id}"
    response = await photos.call("DELETE", path)
    assert (response.status_code, response.content) == (204, b"")
    assert reason_of(await photos.call("DELETE", path)) == (404, "PHOTO_NOT_FOUND")
    assert reason_of(await photos.get(f"/queries/photos/{photo_id}")) == (404, "PHOTO_NOT_FOUND")
    assert await names(photos, "") == []
    with pytest.raises(NotFound):
        await photos.catalogue.get_node("acme", photo.node_id)
    # Its object and both thumbnails.
    assert len(await photos.catalogue.deletions_due(1e12, 10)) == 3


async def test_deleting_an_open_photo_cancels_it(photos: PhotoGateway) -> None:
    job = await photos.create(9 * MIB)
    photo_id = job["items"][0]["photoId"]
    await photos.post(f"/commands/upload/{photo_id}/parts")
    photo = await photos.photo(photo_id)
    await photos.call("DELETE", f"/commands/photos/{photo_id}")
    assert list(await photos.objects.open_multiparts(photo.object)) == []
    updates = await photos.latest(photo_id, job["jobId"])
    assert [update.status for update in updates] == ["CANCELLED", "CANCELLED"]


async def test_tags_are_added_and_removed(photos: PhotoGateway) -> None:
    first, second = await create(photos, "a.jpg", "b.jpg")
    path = f"/commands/photos/{first}/tags"
    answer = await photos.post(path, {"tags": ["sea", " Sommer ", "sea"]})
    assert answer.json() == {"photoId": first, "tags": ["Sommer", "sea"]}
    await photos.post(f"/commands/photos/{second}/tags", {"tags": ["sea"]})
    tags = (await photos.get("/queries/tags")).json()
    assert tags["items"] == [{"label": "Sommer", "count": 1}, {"label": "sea", "count": 2}]
    answer = await photos.call("DELETE", f"{path}?tag=Sommer&tag=unknown")
    assert answer.json()["tags"] == ["sea"]
    assert (await photos.get("/queries/tags", "bob")).json() == {"items": [], "next": None}
    (item, _) = (await photos.get("/queries/photos?sort=filename,asc")).json()["items"]
    assert item["tags"] == ["sea"]


async def test_tags_are_listed_in_pages(photos: PhotoGateway) -> None:
    (photo_id,) = await create(photos, "a.jpg")
    labels = [f"t{number}" for number in range(5)]
    await photos.post(f"/commands/photos/{photo_id}/tags", {"tags": labels})
    listed: list[str] = []
    page = (await photos.get("/queries/tags?size=2")).json()
    while True:
        listed += [tag["label"] for tag in page["items"]]
        if page["next"] is None:
            break
        page = (await photos.get(f"/queries/tags?size=2&cursor={page['next']}")).json()
    assert listed == labels


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ([""], "BAD_TAG"),
        (["a\x00"], "BAD_TAG"),
        (["\N{RIGHT-TO-LEFT OVERRIDE}a"], "BAD_TAG"),
        (["x" * 65], "BAD_TAG"),
        (["good", "  "], "BAD_TAG"),
        ([], "INVALID_REQUEST"),
        ([7], "INVALID_REQUEST"),
        ("sea", "INVALID_REQUEST"),
        ([str(number) for number in range(101)], "INVALID_REQUEST"),
    ],
    ids=lambda value: str(value)[:30],
)
async def test_bad_tags_are_refused(photos: PhotoGateway, tags: Any, reason: str) -> None:
    (photo_id,) = await create(photos, "a.jpg")
    response = await photos.post(f"/commands/photos/{photo_id}/tags", {"tags": tags})
    assert reason_of(response) == (422, reason)
    assert (await photos.get("/queries/tags")).json()["items"] == []


async def test_photo_has_a_hundred_tags_at_most(photos: PhotoGateway) -> None:
    (photo_id,) = await create(photos, "a.jpg")
    path = f"/commands/photos/{photo_id}/tags"
    await photos.post(path, {"tags": [str(number) for number in range(100)]})
    # Not a field that could be corrected: the photo has too many.
    response = await photos.post(path, {"tags": ["one more"]})
    assert reason_of(response) == (409, "TOO_MANY_TAGS")


async def test_concurrent_changes_of_a_photo_all_count(photos: PhotoGateway) -> None:
    (photo_id,) = await create(photos, "a.jpg")
    path = f"/commands/photos/{photo_id}/tags"
    await asyncio.gather(*(photos.post(path, {"tags": [str(number)]}) for number in range(10)))
    view = (await photos.get(f"/queries/photos/{photo_id}")).json()
    assert view["tags"] == sorted(str(number) for number in range(10))
