"""Catalogue contract for tags."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import select

from sluice.photos.v1 import events_pb2
from sluice_backends.sql.catalogue import SqlCatalogue
from sluice_backends.sql.schema import tags
from sluice_core.errors import FailedPrecondition
from sluice_core.photos.names import MAX_TAGS_OF_PHOTO
from sluice_core.ports.gateway import GatewayCatalogue
from sluice_core.ports.tags import TagCount
from support.photo_jobs import ANN, BEN, RIVAL, names_of, new_job, photo_events


async def test_tags_are_added_and_removed(catalogue: GatewayCatalogue) -> None:
    photo = (await catalogue.create_job(new_job())).photos[0].photo_id
    assert list(await catalogue.add_tags(ANN, photo, ["sea", "beach"])) == ["beach", "sea"]
    assert list(await catalogue.add_tags(ANN, photo, ["sea", "日本"])) == ["beach", "sea", "日本"]
    assert list(await catalogue.remove_tags(ANN, photo, ["sea", "none"])) == ["beach", "日本"]
    assert await catalogue.tags_of([photo, "ph_none"]) == {photo: ["beach", "日本"]}
    assert await catalogue.tags_of([]) == {}


async def test_a_change_of_tags_has_one_event_with_all(catalogue: GatewayCatalogue) -> None:
    photo = (await catalogue.create_job(new_job())).photos[0]
    for _ in range(2):  # a repeat has none
        await catalogue.add_tags(ANN, photo.photo_id, ["b", "a"])
    for _ in range(2):
        await catalogue.remove_tags(ANN, photo.photo_id, ["a"])
    events = await photo_events(catalogue, photo.node_id)
    assert names_of(events) == ["PhotoQueued", "PhotoTagsChanged", "PhotoTagsChanged"]
    changed = [
        list(event.tags) for event in events if isinstance(event, events_pb2.PhotoTagsChanged)
    ]
    assert changed == [["a", "b"], ["b"]]
    assert (await catalogue.get_photo(ANN, photo.photo_id)).version == 3
    assert (await catalogue.get_job(ANN, photo.job_id)).version == 3


async def test_tags_are_compared_exactly(catalogue: GatewayCatalogue) -> None:
    photo = (await catalogue.create_job(new_job())).photos[0].photo_id
    labels = sorted(["sea", "Sea", "séa", "se", "sea ", "ß", "ss", "日", "\U0001f3d6", "x" * 64])
    assert list(await catalogue.add_tags(ANN, photo, labels)) == labels
    assert [tag.label for tag in (await catalogue.list_tags(ANN, 100)).tags] == labels


async def test_tags_are_counted_page_by_page(catalogue: GatewayCatalogue) -> None:
    first, second = (await catalogue.create_job(new_job("a.jpg", "b.jpg"))).photos
    await catalogue.add_tags(ANN, first.photo_id, ["a", "b", "c"])
    await catalogue.add_tags(ANN, second.photo_id, ["b"])
    page = await catalogue.list_tags(ANN, 2)
    assert page.tags == (TagCount("a", 1), TagCount("b", 2))
    assert page.next_after == "b"
    rest = await catalogue.list_tags(ANN, 2, page.next_after)
    assert (rest.tags, rest.next_after) == ((TagCount("c", 1),), "")


async def test_tags_of_owners_are_separate(catalogue: GatewayCatalogue) -> None:
    for owner in (ANN, BEN, RIVAL):
        photo = (await catalogue.create_job(new_job(owner=owner))).photos[0]
        await catalogue.add_tags(owner, photo.photo_id, ["a"])
    for owner in (ANN, BEN, RIVAL):
        assert (await catalogue.list_tags(owner, 10)).tags == (TagCount("a", 1),)


async def test_a_tag_goes_with_its_last_photo(catalogue: SqlCatalogue) -> None:
    first, second = (await catalogue.create_job(new_job("a.jpg", "b.jpg"))).photos
    for photo in (first, second):
        await catalogue.add_tags(ANN, photo.photo_id, ["a"])
    await catalogue.delete_photo(ANN, first.photo_id)
    assert (await catalogue.list_tags(ANN, 10)).tags == (TagCount("a", 1),)
    await catalogue.remove_tags(ANN, second.photo_id, ["a"])
    assert (await catalogue.list_tags(ANN, 10)).tags == ()
    async with catalogue._db.read() as connection:
        assert (await connection.execute(select(tags))).all() == []


async def test_a_tag_is_added_while_its_last_photo_loses_it(catalogue: GatewayCatalogue) -> None:
    first = (await catalogue.create_job(new_job())).photos[0].photo_id
    second = (await catalogue.create_job(new_job())).photos[0].photo_id
    for _ in range(5):
        await catalogue.add_tags(ANN, first, ["a", "b"])
        await asyncio.gather(
            catalogue.remove_tags(ANN, first, ["a", "b"]),
            catalogue.add_tags(ANN, second, ["b", "a"]),
        )
        assert await catalogue.tags_of([first, second]) == {second: ["a", "b"]}
        await catalogue.remove_tags(ANN, second, ["a", "b"])
    assert (await catalogue.list_tags(ANN, 10)).tags == ()


async def test_a_photo_has_a_bounded_number_of_tags(catalogue: GatewayCatalogue) -> None:
    photo = (await catalogue.create_job(new_job())).photos[0].photo_id
    await catalogue.add_tags(ANN, photo, [f"t{n:03}" for n in range(MAX_TAGS_OF_PHOTO)])
    await catalogue.add_tags(ANN, photo, ["t000"])
    with pytest.raises(FailedPrecondition, match="TOO_MANY_TAGS"):
        await catalogue.add_tags(ANN, photo, ["another"])
    assert len((await catalogue.tags_of([photo]))[photo]) == MAX_TAGS_OF_PHOTO
