"""The contract of live updates: published by one process, heard by another."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sluice_core.live.updates import Audience, ProgressTick, Update
from sluice_core.ports.live_updates import LiveUpdates
from support.live_updates import (
    ALL,
    ANN,
    BOB,
    CAPACITY,
    Factory,
    Replicas,
    memory,
    next_entries,
    photo_update,
    redis,
    wait_for_photo,
)


@pytest.fixture(params=ALL, ids=lambda factory: cast(str, factory.__name__))
async def replicas(request: pytest.FixtureRequest) -> AsyncIterator[Replicas]:
    factory = cast(Factory, request.param)
    async with factory() as opened:
        yield opened


async def test_update_reaches_the_listeners_of_its_user(replicas: Replicas) -> None:
    update = photo_update("p1", "PROCESSING", version=3, sent=1000)
    async with replicas.there.listen(ANN) as ann, replicas.there.listen(BOB) as bob:
        start = ann.log.last
        await replicas.here.publish(BOB, [photo_update("p2")])
        await wait_for_photo(bob, photo_update("p2"))
        await replicas.here.publish(ANN, [update])
        (entry,) = await next_entries(ann, start)
        assert entry.update == update
        assert entry.sequence > start
        assert bob.log.find("p1") is None


async def test_two_listeners_of_a_user_hear_the_same(replicas: Replicas) -> None:
    async with replicas.there.listen(ANN) as first:
        await replicas.here.publish(ANN, [photo_update("p1")])
        await wait_for_photo(first, photo_update("p1"))
        async with replicas.there.listen(ANN) as second, replicas.here.listen(ANN) as third:
            await replicas.here.publish(ANN, [photo_update("p2")])
            for listening in (first, second, third):
                await wait_for_photo(listening, photo_update("p2"))
                assert listening.log.find("p1") is not None


async def test_listener_that_leaves_does_not_end_the_others(replicas: Replicas) -> None:
    async with replicas.there.listen(ANN) as stays:
        async with replicas.there.listen(ANN):
            pass
        await replicas.here.publish(ANN, [photo_update("p1")])
        await wait_for_photo(stays, photo_update("p1"))


async def test_reader_that_comes_back_gets_what_it_missed(replicas: Replicas) -> None:
    async with replicas.there.listen(ANN) as before:
        await replicas.here.publish(ANN, [photo_update("p1"), photo_update("p2")])
        await wait_for_photo(before, photo_update("p2"))
        cursor = before.log.last
    await replicas.here.publish(ANN, [photo_update("p2", "UPLOADING", version=2)])
    await replicas.here.publish(ANN, [photo_update("p3"), photo_update("p2", "FAILED", version=3)])
    async with replicas.there.listen(ANN) as after:
        missed = await next_entries(after, cursor)
        assert [entry.update.key for entry in missed] == ["p3", "p2"]
        assert missed[1].update.status == "FAILED"
        assert after.log.after(missed[-1].sequence) == []


async def test_reader_who_missed_too_much_needs_a_snapshot(replicas: Replicas) -> None:
    async with replicas.there.listen(ANN) as listening:
        start = listening.log.last
        last = photo_update(f"p{CAPACITY}")
        await replicas.here.publish(ANN, [photo_update(f"p{n}") for n in range(CAPACITY)])
        await wait_for_photo(listening, photo_update(f"p{CAPACITY - 1}"))
        whole = listening.log.after(start)
        assert whole is not None
        assert len(whole) == CAPACITY
        await replicas.here.publish(ANN, [last])
        await wait_for_photo(listening, last)
        assert listening.log.after(start) is None
        after_first = listening.log.after(whole[0].sequence)
        assert after_first is not None
        assert [entry.update.key for entry in after_first] == [
            f"p{n}" for n in range(1, CAPACITY + 1)
        ]


async def test_log_is_bounded_for_a_late_listener_too(replicas: Replicas) -> None:
    async with replicas.there.listen(ANN) as listening:
        start = listening.log.last
    for n in range(3 * CAPACITY):
        await replicas.here.publish(ANN, [photo_update(f"p{n}")])
    async with replicas.there.listen(ANN) as listening:
        assert len(listening.log) == CAPACITY
        assert listening.log.after(start) is None
        assert listening.log.after(listening.log.floor) is not None


async def test_cursor_from_the_future_needs_a_snapshot(replicas: Replicas) -> None:
    async with replicas.there.listen(ANN) as listening:
        assert listening.log.after(listening.log.last) == []
        assert listening.log.after(listening.log.last + 1) is None


async def test_repeated_and_late_updates_are_ignored(replicas: Replicas) -> None:
    newest = photo_update("p1", "COMPLETED", version=5, sent=1000)
    async with replicas.there.listen(ANN) as listening:
        await replicas.here.publish(ANN, [newest])
        await wait_for_photo(listening, newest)
        cursor = listening.log.last
        await replicas.here.publish(ANN, [newest, photo_update("p1", "PROCESSING", version=4)])
        await replicas.here.publish(ANN, [photo_update("other")])
        (entry,) = await next_entries(listening, cursor)
        assert entry.update.key == "other"
        assert listening.log.find("p1") == newest


async def test_progress_moves_forward_only(replicas: Replicas) -> None:
    async with replicas.there.listen(ANN) as listening:
        await replicas.here.publish(ANN, [photo_update("p1", total=1000)])
        for sent, total in ((300, 1000), (200, 1000), (400, 9000), (9000, 9000), (1000, 1000)):
            await replicas.here.post_progress(ANN, [ProgressTick("job-1", "p1", sent, total)])
            if (sent, total) == (400, 9000):
                await wait_for_photo(
                    listening, photo_update("p1", "UPLOADING", sent=400, total=1000)
                )
        await wait_for_photo(listening, photo_update("p1", "UPLOADING", sent=1000))


async def test_progress_of_an_ended_photo_changes_nothing(replicas: Replicas) -> None:
    ended = photo_update("p1", "CANCELLED", version=2, sent=10)
    await replicas.here.publish(ANN, [ended])
    await replicas.here.post_progress(ANN, [ProgressTick("job-1", "p1", 900, 1000)])
    assert await replicas.there.latest(ANN, ["p1"]) == [ended]


async def test_status_change_keeps_the_bytes_of_the_ticks(replicas: Replicas) -> None:
    """The catalogue has no progress: its updates say 0 bytes until the upload has ended."""
    await replicas.here.publish(ANN, [photo_update("p1")])
    await replicas.here.post_progress(ANN, [ProgressTick("job-1", "p1", 700, 1000)])
    await replicas.here.publish(ANN, [photo_update("p1", "UPLOADING", version=2)])
    assert await replicas.there.latest(ANN, ["p1"]) == [
        photo_update("p1", "UPLOADING", version=2, sent=700)
    ]
    await replicas.here.publish(ANN, [photo_update("p1", "QUEUED", version=3)])
    assert await replicas.there.latest(ANN, ["p1"]) == [
        photo_update("p1", "UPLOADING", version=3, sent=700)
    ]
    for retried in (
        photo_update("p1", "FAILED", version=4, sent=700),
        photo_update("p1", "QUEUED", version=5),
    ):
        await replicas.here.publish(ANN, [retried])
        assert await replicas.there.latest(ANN, ["p1"]) == [retried]


async def test_progress_of_an_unknown_photo_is_uploading(replicas: Replicas) -> None:
    await replicas.here.post_progress(ANN, [ProgressTick("job-1", "p1", 5, 10)])
    (latest,) = await replicas.there.latest(ANN, ["p1"])
    assert latest == Update("job-1", "p1", "UPLOADING", 5, 10, 0)


async def test_latest_states_are_found_by_id(replicas: Replicas) -> None:
    job = Update("job-1", "", "IN_PROGRESS", 5, 10, 1)
    await replicas.here.publish(ANN, [photo_update("p1"), job])
    assert await replicas.there.latest(ANN, ["p1", "missing", "job-1"]) == [
        photo_update("p1"),
        None,
        job,
    ]
    assert await replicas.there.latest(BOB, ["p1"]) == [None]
    assert await replicas.there.latest(ANN, []) == []


@pytest.mark.parametrize(
    "audience",
    [Audience("{a}", "b:c"), Audience("", "ü/*"), Audience("a:b", "c"), Audience("a", "b:c")],
)
async def test_names_of_users_do_not_collide(replicas: Replicas, audience: Audience) -> None:
    others = {Audience("{a}", "b:c"), Audience("a:b", "c"), Audience("a", "b:c")} - {audience}
    async with replicas.there.listen(audience) as listening:
        for other in others:
            await replicas.here.publish(other, [photo_update("foreign")])
        await replicas.here.publish(audience, [photo_update("own")])
        await wait_for_photo(listening, photo_update("own"))
        assert listening.log.find("foreign") is None


async def test_updates_of_many_publishers_arrive_once(replicas: Replicas) -> None:
    """Concurrent publishers on both sides; a slow reader sees each photo's last state."""
    async with replicas.there.listen(ANN) as listening:
        start = listening.log.last

        async def publish(updates: LiveUpdates, photo: str) -> None:
            for version in range(1, 30):
                await updates.publish(ANN, [photo_update(photo, "UPLOADING", version=version)])

        sides = (replicas.here, replicas.there)
        await asyncio.gather(*(publish(side, f"p{n}") for n, side in enumerate(sides * 3)))
        final = {f"p{n}": photo_update(f"p{n}", "UPLOADING", version=29) for n in range(6)}
        for update in final.values():
            await wait_for_photo(listening, update)
        entries = listening.log.after(start)
        assert entries is not None
        assert {entry.update.key: entry.update for entry in entries} == final
        sequences = [entry.sequence for entry in entries]
        assert sequences == sorted(set(sequences))


STATUSES = st.sampled_from(["QUEUED", "UPLOADING", "PROCESSING", "COMPLETED", "FAILED"])
PHOTOS = st.sampled_from(["p1", "p2"])
CHANGES = st.lists(
    st.one_of(
        st.builds(
            lambda photo, status, version, sent, total: photo_update(
                photo, status, version=version, sent=min(sent, total), total=total
            ),
            PHOTOS,
            STATUSES,
            st.integers(0, 4),
            st.integers(0, 9),
            st.integers(0, 9),
        ),
        st.builds(
            lambda photo, sent, more: ProgressTick("job-1", photo, sent, sent + more),
            PHOTOS,
            st.integers(0, 9),
            st.integers(0, 3),
        ),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(CHANGES, min_size=1, max_size=4))
async def test_redis_and_memory_agree_on_random_histories(
    histories: list[list[Update | ProgressTick]],
) -> None:
    """The rules in Lua are those in Python; each history belongs to a user of its own."""
    async with memory() as ours, redis() as theirs:
        for number, history in enumerate(histories):
            user = replace(ANN, subject=f"user-{number}")
            for change in history:
                for side in (ours.here, theirs.here):
                    if isinstance(change, Update):
                        await side.publish(user, [change])
                    else:
                        await side.post_progress(user, [change])
                keys = ["p1", "p2"]
                assert await theirs.there.latest(user, keys) == await ours.there.latest(user, keys)
