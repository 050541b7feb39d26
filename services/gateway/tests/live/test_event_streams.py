"""Server-sent events on a real uvicorn and socket."""

from __future__ import annotations

import json

import pytest

from sluice_core.live.updates import ProgressTick
from sluice_gateway.live.clocks import Instant
from sluice_gateway.live.hub import audience_of
from sluice_gateway.live.options import LiveOptions
from support.live_gateway import EventStream, JobTable, event_stream, running_gateway, user
from support.live_updates import photo_update
from support.waiting import until


@pytest.fixture
def jobs() -> JobTable:
    table = JobTable()
    table.add("job-1", "ann", photo_update("p1"), photo_update("p2"))
    table.add("empty", "ann")
    table.add("secret", "bob")
    return table


async def snapshot_of(events: EventStream) -> tuple[list[str], str | None]:
    """Read a snapshot; return the ids of its photos, and the id of its last event."""
    photos = []
    while True:
        kind, data, identity = await events.next_event()
        assert kind == "snapshot"
        photos += [update["photoId"] for update in data["updates"]]
        if data["complete"]:
            return photos, identity
        assert identity is None


async def test_snapshot_comes_first_and_then_changes(jobs: JobTable) -> None:
    async with running_gateway(jobs=jobs) as gateway, event_stream(gateway) as events:
        assert events.status == 200
        assert events.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert events.headers["cache-control"] == "no-store"
        assert await events.next_block() == {"retry": "2000"}
        photos, identity = await snapshot_of(events)
        assert photos == ["p1", "p2"]
        await gateway.publish(photo_update("other", job_id="empty"))
        await gateway.publish(photo_update("p2", "FAILED", version=2))
        kind, change, changed_id = await events.next_event()
        assert (kind, change["photoId"], change["status"]) == ("change", "p2", "FAILED")
        assert changed_id == str(change["sequence"])
        assert identity is not None
        assert int(changed_id) > int(identity)


async def test_job_without_photos_has_an_empty_snapshot(jobs: JobTable) -> None:
    async with running_gateway(jobs=jobs) as gateway, event_stream(gateway, "empty") as events:
        photos, identity = await snapshot_of(events)
        assert photos == []
        assert identity is not None


async def test_last_event_id_resumes_without_a_snapshot(jobs: JobTable) -> None:
    async with running_gateway(jobs=jobs) as gateway:
        async with event_stream(gateway) as events:
            _, identity = await snapshot_of(events)
        await gateway.publish(photo_update("p1", "PROCESSING", version=2))
        async with event_stream(gateway, last_event_id=identity) as events:
            kind, change, _ = await events.next_event()
            assert (kind, change["photoId"]) == ("change", "p1")
            assert jobs.snapshots == 1


@pytest.mark.parametrize("last_event_id", ["1", "9007199254740991"])
async def test_id_that_the_log_does_not_know_gets_a_snapshot(
    jobs: JobTable, last_event_id: str
) -> None:
    async with (
        running_gateway(jobs=jobs) as gateway,
        event_stream(gateway, last_event_id=last_event_id) as events,
    ):
        assert (await snapshot_of(events))[0] == ["p1", "p2"]


async def test_large_snapshot_comes_in_pieces(jobs: JobTable) -> None:
    jobs.add("large", "ann", *(photo_update(f"p{n}", job_id="large") for n in range(25)))
    options = LiveOptions(batch_updates=10)
    async with (
        running_gateway(jobs=jobs, options=options) as gateway,
        event_stream(gateway, "large") as events,
    ):
        sizes = [len((await events.next_event())[1]["updates"]) for _ in range(3)]
        assert sizes == [10, 10, 5]


async def test_change_during_a_snapshot_is_not_missed(jobs: JobTable) -> None:
    """It is published between the reading of the catalogue and the end of the snapshot."""
    async with running_gateway(jobs=jobs) as gateway:
        read = jobs.snapshot

        async def read_and_publish(*arguments: object) -> object:
            states = await read(*arguments)  # type: ignore[arg-type]
            await gateway.publish(photo_update("p2", "COMPLETED", version=2))
            return states

        jobs.snapshot = read_and_publish  # type: ignore[method-assign,assignment]
        async with event_stream(gateway) as events:
            await snapshot_of(events)
            _, change, _ = await events.next_event()
            assert (change["photoId"], change["status"]) == ("p2", "COMPLETED")


async def test_progress_is_in_the_snapshot_and_in_changes(jobs: JobTable) -> None:
    ann = audience_of(user("ann"))
    async with running_gateway(jobs=jobs) as gateway:
        await gateway.hub.updates.post_progress(ann, [ProgressTick("job-1", "p1", 250, 1000)])
        async with event_stream(gateway) as events:
            _, data, _ = await events.next_event()
            assert [update["progress"] for update in data["updates"]] == [25, 0]
            await gateway.hub.updates.post_progress(ann, [ProgressTick("job-1", "p1", 900, 1000)])
            assert (await events.next_event())[1]["progress"] == 90


@pytest.mark.parametrize(
    ("job_id", "name", "last_event_id", "status", "reason"),
    [
        ("secret", "ann", None, 404, "JOB_NOT_FOUND"),
        ("missing", "ann", None, 404, "JOB_NOT_FOUND"),
        ("job-1", "no letters", None, 401, "BAD_TOKEN"),
        ("job-1", "ann\r\nAuthorization: Bearer bob", None, 401, "AMBIGUOUS_CREDENTIALS"),
        ("job-1", "ann", "x", 400, "BAD_SEQUENCE"),
        ("job-1", "ann", "-1", 400, "BAD_SEQUENCE"),
    ],
)
async def test_refusal_comes_before_the_stream_begins(
    jobs: JobTable, job_id: str, name: str, last_event_id: str | None, status: int, reason: str
) -> None:
    async with (
        running_gateway(jobs=jobs) as gateway,
        event_stream(gateway, job_id, name, last_event_id) as events,
    ):
        assert events.status == status
        body = await events.reader.readexactly(int(events.headers["content-length"]))
        assert json.loads(body)["reason"] == reason


@pytest.mark.parametrize("method", ["HEAD", "POST"])
async def test_other_methods_open_no_stream(jobs: JobTable, method: str) -> None:
    async with (
        running_gateway(jobs=jobs) as gateway,
        event_stream(gateway, method=method) as events,
    ):
        assert (events.status, events.headers["allow"]) == (405, "GET")
        assert len(gateway.hub.sessions) == 0


async def test_sessions_of_both_transports_count_together(jobs: JobTable) -> None:
    options = LiveOptions(max_sessions_per_user=1)
    async with running_gateway(jobs=jobs, options=options) as gateway:
        async with event_stream(gateway) as first, event_stream(gateway) as second:
            assert (first.status, second.status) == (200, 503)
        await until(lambda: len(gateway.hub.sessions) == 0, what="the client has left")
        async with event_stream(gateway) as third:
            assert third.status == 200


async def test_quiet_stream_is_kept_alive_by_comments(jobs: JobTable) -> None:
    options = LiveOptions(keep_alive_seconds=0.02)
    async with (
        running_gateway(jobs=jobs, options=options) as gateway,
        event_stream(gateway) as events,
    ):
        await snapshot_of(events)
        assert await events.next_block() == {"": ""}
        assert await events.next_block() == {"": ""}


async def test_stopping_replica_ends_the_stream_with_a_retry(jobs: JobTable) -> None:
    async with running_gateway(jobs=jobs) as gateway, event_stream(gateway) as events:
        await snapshot_of(events)
        await gateway.hub.sessions.stop()
        assert await events.rest() == b"retry: 5000\n\n"
        async with event_stream(gateway) as refused:
            assert refused.status == 503


async def test_catalogue_that_is_down_is_named_at_the_end(jobs: JobTable) -> None:
    jobs.is_down = True
    async with running_gateway(jobs=jobs) as gateway, event_stream(gateway) as events:
        kind, data, _ = await events.next_event()
        assert (kind, data["reason"]) == ("error", "CATALOGUE_UNAVAILABLE")
        assert await events.rest() == b""


async def test_stream_ends_with_its_token_after_a_warning(jobs: JobTable) -> None:
    """Time passes for the clock alone; a change makes the stream look at it."""
    now = 1_000.0
    async with running_gateway(jobs=jobs, clock=lambda: Instant(now, now)) as gateway:
        gateway.users.expires_at = 1_100.0
        async with event_stream(gateway) as events:
            await snapshot_of(events)
            now = 1_050.0
            await gateway.publish(photo_update("p1", "UPLOADING", version=2))
            assert await events.next_event() == (
                "session",
                {"type": "TOKEN_EXPIRES", "secondsLeft": 50},
                None,
            )
            assert (await events.next_event())[0] == "change"
            now = 1_100.0
            await gateway.publish(photo_update("p1", "PROCESSING", version=3))
            kind, data, _ = await events.next_event()
            assert (kind, data["reason"]) == ("error", "TOKEN_EXPIRED")
            assert await events.rest() == b""


async def test_stream_ends_with_the_key_of_its_token(jobs: JobTable) -> None:
    async with running_gateway(jobs=jobs) as gateway, event_stream(gateway) as events:
        await snapshot_of(events)
        gateway.users.is_key_withdrawn = True
        await gateway.publish(photo_update("p1", "UPLOADING", version=2))
        kind, data, _ = await events.next_event()
        assert (kind, data["reason"]) == ("error", "TOKEN_EXPIRED")
        assert await events.rest() == b""
