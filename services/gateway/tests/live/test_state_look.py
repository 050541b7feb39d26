"""What a process has not published, because it died after its commit, reaches open sessions."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from sluice_core.errors import Unavailable
from sluice_core.live.updates import Audience, Update
from sluice_gateway.live.looking import LOOK_SECONDS, StateLook, looking
from support.live_gateway import JobTable, LiveGateway, event_stream, running_gateway, stomp_client
from support.live_updates import photo_update
from support.waiting import until

JOB = "/topic/job/job-1"


def job_update(status: str, version: int) -> Update:
    return Update("job-1", "", status, 0, 1000, version)


def committed(jobs: JobTable, status: str, version: int) -> None:
    """Change the photo and its job in the catalogue; nobody publishes it."""
    jobs.add(
        "job-1", "ann", photo_update("p1", status, version=version), job_update(status, version)
    )


@pytest.fixture
def jobs() -> JobTable:
    table = JobTable()
    committed(table, "UPLOADING", 1)
    return table


async def test_unpublished_change_is_heard_within_a_second(jobs: JobTable) -> None:
    """By SSE and by STOMP, after two looks; the clients notice nothing but the change."""
    assert 2 * LOOK_SECONDS < 1.0
    async with (
        running_gateway(jobs=jobs) as gateway,
        looking(gateway.hub),
        event_stream(gateway) as events,
        stomp_client(gateway) as client,
    ):
        assert (await events.next_event())[0] == "snapshot"
        await client.connect()
        await client.subscribe(JOB)
        for _ in range(2):
            await client.next_message()
        committed(jobs, "COMPLETED", 2)
        kind, change, _ = await events.next_event()
        assert (kind, change["photoId"], change["status"]) == ("change", "p1", "COMPLETED")
        assert (await client.next_message())["status"] == "COMPLETED"


class CountedUpdates:
    """Counts the calls of `publish` of a gateway."""

    def __init__(self, gateway: LiveGateway, monkeypatch: pytest.MonkeyPatch) -> None:
        self.calls: list[Sequence[Update]] = []
        publish = gateway.hub.updates.publish

        async def counted(audience: Audience, updates: Sequence[Update]) -> None:
            self.calls.append(updates)
            await publish(audience, updates)

        monkeypatch.setattr(gateway.hub.updates, "publish", counted)


async def test_look_publishes_only_what_stays_unpublished(
    jobs: JobTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What its own process publishes a moment later, and what is known, is left alone."""
    async with running_gateway(jobs=jobs) as gateway, event_stream(gateway) as events:
        await events.next_event()
        look, counted = StateLook(gateway.hub), CountedUpdates(gateway, monkeypatch)
        await look.look()
        await look.look()
        assert counted.calls == []
        committed(jobs, "PROCESSING", 2)
        await look.look()
        await gateway.publish(*jobs.states["job-1"])
        await events.next_event()
        await events.next_event()
        counted.calls.clear()
        await look.look()
        await look.look()
        assert counted.calls == []
        committed(jobs, "COMPLETED", 3)
        await look.look()
        assert counted.calls == []
        await look.look()
        assert len(counted.calls) == 1
        await look.look()
        await look.look()
        assert len(counted.calls) == 1


async def test_resumed_session_is_looked_at_like_others(
    jobs: JobTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a snapshot the log says what is published."""
    async with running_gateway(jobs=jobs) as gateway, event_stream(gateway) as events:
        await events.next_event()
        committed(jobs, "PROCESSING", 2)
        await gateway.publish(*jobs.states["job-1"])
        await events.next_event()
        sequence = (await events.next_event())[2]
        async with event_stream(gateway, last_event_id=sequence) as resumed:
            assert resumed.status == 200
            look, counted = StateLook(gateway.hub), CountedUpdates(gateway, monkeypatch)
            await look.look()
            await look.look()
            assert counted.calls == []


async def test_ended_and_closed_jobs_are_not_looked_at(
    jobs: JobTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    versions = jobs.versions

    async def noted(job_ids: Sequence[str]) -> object:
        asked.extend(job_ids)
        return await versions(job_ids)

    monkeypatch.setattr(jobs, "versions", noted)
    async with running_gateway(jobs=jobs) as gateway:
        look = StateLook(gateway.hub)
        async with event_stream(gateway) as events:
            await events.next_event()
            await look.look()
            assert asked == ["job-1"]
            committed(jobs, "COMPLETED", 2)
            await gateway.publish(*jobs.states["job-1"])
            await events.next_event()
            await events.next_event()
            asked.clear()
            await look.look()
            assert asked == []
        committed(jobs, "UPLOADING", 3)
        async with event_stream(gateway) as events:
            await events.next_event()
        await until(lambda: not list(gateway.hub.readers), 10.0, "the session has ended")
        await look.look()
        assert asked == []


async def test_look_goes_on_after_an_outage(
    jobs: JobTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = [ValueError("a defect"), Unavailable("CATALOGUE_UNAVAILABLE", "Try again.")]
    versions = jobs.versions

    async def failing(job_ids: Sequence[str]) -> object:
        if failures:
            raise failures.pop()
        return await versions(job_ids)

    monkeypatch.setattr(jobs, "versions", failing)
    async with (
        running_gateway(jobs=jobs) as gateway,
        looking(gateway.hub),
        event_stream(gateway) as events,
    ):
        await events.next_event()
        committed(jobs, "COMPLETED", 2)
        assert (await events.next_event())[1]["status"] == "COMPLETED"
        assert failures == []
