"""Catalogue contract for listings of photos."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from sluice_core.photos.changes import PhotoChange
from sluice_core.photos.model import Photo
from sluice_core.photos.states import PhotoStatus
from sluice_core.ports.gateway import GatewayCatalogue
from sluice_core.ports.photos import PhotoCursor, PhotoFilter, PhotoSort
from support.photo_jobs import ANN, BEN, RIVAL, new_job, process_object

DAY = 86_400.0
NAMES = ("b.jpg", "a.jpg", "B.jpg", "Straße 100%_x.PNG", "日本.jpg", "é.jpg", "a\u0308.jpg")
KEYS: dict[PhotoSort, Callable[[Photo], Any]] = {
    PhotoSort.CREATED: lambda photo: (photo.created_at, photo.photo_id),
    PhotoSort.DATED: lambda photo: (photo.dated_at, photo.photo_id),
    PhotoSort.FILENAME: lambda photo: (photo.filename.encode(), photo.photo_id),
}


async def some_photos(catalogue: GatewayCatalogue) -> list[Photo]:
    """Create photos in two jobs, some of them taken at the same time, and other owners' ones."""
    made = [
        photo
        for names in (NAMES, NAMES[:3])
        for photo in (await catalogue.create_job(new_job(*names))).photos
    ]
    for number, photo in enumerate(made[:4]):
        await process_object(catalogue, photo)
        taken_at = DAY * (1 + number // 2)
        await catalogue.change_photos(
            [PhotoChange(photo.photo_id, PhotoStatus.COMPLETED, taken_at=taken_at)]
        )
    for owner in (BEN, RIVAL):
        await catalogue.create_job(new_job(*NAMES, owner=owner))
    return [await catalogue.get_photo(ANN, photo.photo_id) for photo in made]


async def listed(catalogue: GatewayCatalogue, wanted: PhotoFilter, limit: int = 100) -> list[Photo]:
    """Return all photos of a listing, read page by page."""
    found: list[Photo] = []
    after: PhotoCursor | None = None
    while True:
        page = await catalogue.list_photos(ANN, limit, after, wanted)
        found += page.photos
        assert len({photo.photo_id for photo in found}) == len(found), "a page repeats a photo"
        after = page.next_after
        if after is None:
            return found
        assert len(page.photos) == limit


@pytest.mark.parametrize("descending", [True, False])
@pytest.mark.parametrize("sort", list(PhotoSort))
async def test_pages_cover_a_listing_in_its_order(
    catalogue: GatewayCatalogue, sort: PhotoSort, descending: bool
) -> None:
    """Also where many photos have the same value."""
    expected = sorted(await some_photos(catalogue), key=KEYS[sort], reverse=descending)
    wanted = PhotoFilter(sort=sort, descending=descending)
    for limit in (1, 3, 100):
        assert await listed(catalogue, wanted, limit) == expected
    skipped = await catalogue.list_photos(ANN, 2, None, wanted, skip=4)
    assert list(skipped.photos) == expected[4:6]
    on = await catalogue.list_photos(ANN, 2, skipped.next_after, wanted, skip=1)
    assert list(on.photos) == expected[7:9]


async def test_photos_are_filtered(catalogue: GatewayCatalogue) -> None:
    made = await some_photos(catalogue)
    await catalogue.add_tags(ANN, made[1].photo_id, ["sea", "Sea"])
    await catalogue.add_tags(ANN, made[7].photo_id, ["sea"])
    completed = PhotoStatus.COMPLETED
    filters: list[tuple[PhotoFilter, Callable[[Photo], bool]]] = [
        (PhotoFilter(), lambda _: True),
        (PhotoFilter(status=completed), lambda photo: photo.status is completed),
        (PhotoFilter(status=PhotoStatus.FAILED), lambda _: False),
        (PhotoFilter(tag="sea"), lambda photo: photo.photo_id in tagged),
        (PhotoFilter(tag="Sea"), lambda photo: photo.photo_id == made[1].photo_id),
        (PhotoFilter(tag="none"), lambda _: False),
        (PhotoFilter(taken_from=DAY, taken_to=2 * DAY), lambda p: p.dated_at == DAY),
        (PhotoFilter(taken_to=3 * DAY), lambda photo: photo.taken_at is not None),
        (PhotoFilter(taken_from=3 * DAY), lambda photo: photo.taken_at is None),
        (
            PhotoFilter(tag="sea", status=completed, text="a"),
            lambda photo: photo.photo_id == made[1].photo_id,
        ),
    ]
    tagged = {made[1].photo_id, made[7].photo_id}
    for wanted, expected in filters:
        found = {photo.photo_id for photo in await listed(catalogue, wanted, 2)}
        assert found == {photo.photo_id for photo in made if expected(photo)}, wanted


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("A.JPG", {"a.jpg"}),
        ("b", {"b.jpg", "B (2).jpg"}),
        ("strasse", {"Straße 100%_x.PNG"}),
        ("100%_", {"Straße 100%_x.PNG"}),
        ("_x.png", {"Straße 100%_x.PNG"}),
        ("%", {"Straße 100%_x.PNG"}),
        ("_", {"Straße 100%_x.PNG"}),
        ("本", {"日本.jpg"}),
        ("Ä", {"a\u0308.jpg"}),
        ("E\u0301", {"é.jpg"}),
        ("'; DROP", set()),
    ],
)
async def test_a_search_finds_parts_of_names(
    catalogue: GatewayCatalogue, text: str, names: set[str]
) -> None:
    await catalogue.create_job(new_job(*NAMES))
    found = await listed(catalogue, PhotoFilter(text=text))
    assert {photo.filename for photo in found} == names


async def test_a_deleted_photo_is_not_listed(catalogue: GatewayCatalogue) -> None:
    first, second = (await catalogue.create_job(new_job("a.jpg", "b.jpg"))).photos
    await catalogue.delete_photo(ANN, first.photo_id)
    assert await listed(catalogue, PhotoFilter()) == [second]
