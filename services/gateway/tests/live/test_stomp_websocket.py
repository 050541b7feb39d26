"""STOMP on a real uvicorn and socket, with the `websockets` library as the client."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from sluice_core.live.updates import ProgressTick
from sluice_gateway.live.hub import audience_of
from sluice_gateway.live.options import LiveOptions
from sluice_gateway.live.stomp.closing import CloseCode
from sluice_gateway.live.stomp.frames import MAX_FRAME_BYTES
from support.live_gateway import JobTable, running_gateway, stomp_client, user
from support.live_updates import photo_update
from support.waiting import until

JOB = "/topic/job/job-1"


@pytest.fixture
def jobs() -> JobTable:
    table = JobTable()
    table.add("job-1", "ann", photo_update("p1"), photo_update("p2"))
    table.add("job-2", "ann")
    table.add("secret", "bob")
    return table


async def test_subscriber_gets_a_snapshot_and_then_changes(jobs: JobTable) -> None:
    async with running_gateway(jobs=jobs) as gateway, stomp_client(gateway) as client:
        assert client.socket.subprotocol == "v12.stomp"
        assert (await client.connect()).command == "CONNECTED"
        await client.subscribe(JOB)
        first, second = await client.next_message(), await client.next_message()
        assert (first["photoId"], second["photoId"]) == ("p1", "p2")
        assert first["sequence"] == 0, "half a snapshot is nothing to resume from"
        await gateway.publish(photo_update("p1", "COMPLETED", version=2, sent=1000))
        change = await client.next_message()
        assert (change["status"], change["progress"]) == ("COMPLETED", 100)
        assert change["sequence"] > second["sequence"] > 0


async def test_job_topic_has_nothing_of_other_jobs(jobs: JobTable) -> None:
    async with running_gateway(jobs=jobs) as gateway, stomp_client(gateway) as client:
        await client.connect()
        await client.subscribe("/topic/job/job-2", "two")
        await client.subscribe("/user/queue/progress", "all", ("after", "1"))
        snapshot = [await client.next_frame() for _ in range(2)]
        assert {frame.header("subscription") for frame in snapshot} == {"all"}
        await gateway.publish(photo_update("p1", version=2), photo_update("q", job_id="job-2"))
        seen = set()
        for _ in range(3):
            frame = await client.next_frame()
            seen.add((frame.header("subscription"), json.loads(frame.body)["photoId"]))
        assert seen == {("all", "p1"), ("all", "q"), ("two", "q")}


async def test_client_that_comes_back_gets_what_it_missed(jobs: JobTable) -> None:
    async with running_gateway(jobs=jobs) as gateway:
        async with stomp_client(gateway) as client:
            await client.connect()
            await client.subscribe(JOB)
            await client.next_message()
            sequence = (await client.next_message())["sequence"]
        snapshots = jobs.snapshots
        await gateway.publish(photo_update("p2", "PROCESSING", version=2))
        async with stomp_client(gateway) as client:
            await client.connect()
            await client.subscribe(JOB, "s", ("after", str(sequence)))
            missed = await client.next_message()
            assert (missed["photoId"], missed["status"]) == ("p2", "PROCESSING")
            assert jobs.snapshots == snapshots


async def test_progress_reaches_the_snapshot_and_subscribers(jobs: JobTable) -> None:
    ann = audience_of(user("ann"))
    async with running_gateway(jobs=jobs) as gateway, stomp_client(gateway) as client:
        await gateway.hub.updates.post_progress(ann, [ProgressTick("job-1", "p1", 250, 1000)])
        await client.connect()
        await client.subscribe(JOB)
        first = await client.next_message()
        assert (first["photoId"], first["progress"], first["status"]) == ("p1", 25, "UPLOADING")
        await client.next_message()
        await gateway.hub.updates.post_progress(ann, [ProgressTick("job-1", "p1", 500, 1000)])
        assert (await client.next_message())["bytesSent"] == 500


async def test_reused_id_gets_nothing_of_its_former_topic(jobs: JobTable) -> None:
    """The snapshot of the former topic is read when the id already belongs to another one."""
    read, may_go_on = jobs.snapshot, asyncio.Event()

    async def read_slowly(*arguments: Any) -> Any:
        states = await read(*arguments)
        await may_go_on.wait()
        return states

    jobs.snapshot = read_slowly  # type: ignore[method-assign,assignment]
    async with running_gateway(jobs=jobs) as gateway, stomp_client(gateway) as client:
        await client.connect()
        await client.subscribe(JOB)
        await until(lambda: jobs.snapshots == 1)
        both = "UNSUBSCRIBE\nid:s\n\n\0SUBSCRIBE\nid:s\ndestination:/topic/job/job-2\n\n\0"
        await client.socket.send(both)
        await until(lambda: jobs.asked == 2)
        may_go_on.set()
        await until(lambda: jobs.snapshots == 2)
        await gateway.publish(photo_update("q", job_id="job-2"))
        assert (await client.next_message())["jobId"] == "job-2"


@pytest.mark.parametrize("destination", ["/topic/job/secret", "/topic/job/missing"])
async def test_jobs_of_others_and_missing_ones_look_alike(jobs: JobTable, destination: str) -> None:
    async with running_gateway(jobs=jobs) as gateway, stomp_client(gateway) as client:
        await client.connect()
        await client.send("SUBSCRIBE", ("id", "s"), ("destination", destination))
        code, reason, (error,) = await client.closed()
        assert (code, reason) == (CloseCode.POLICY_VIOLATION, "JOB_NOT_FOUND")
        assert error.command == "ERROR"
        body = json.loads(error.body)
        assert body["reason"] == "JOB_NOT_FOUND"
        assert "secret" not in body["detail"]


async def test_user_hears_nothing_of_other_users(jobs: JobTable) -> None:
    async with running_gateway(jobs=jobs) as gateway, stomp_client(gateway) as client:
        await client.connect("bob")
        await client.subscribe("/user/queue/progress", "s", ("after", "1"))
        await gateway.publish(photo_update("p1", version=2), owner="ann")
        await gateway.publish(photo_update("own", job_id="secret"), owner="bob")
        assert (await client.next_message())["photoId"] == "own"


async def test_bad_token_is_refused_by_an_error_frame() -> None:
    async with running_gateway() as gateway, stomp_client(gateway) as client:
        assert (await client.connect("no letters 1")).header("message") == "BAD_TOKEN"
        code, reason, _ = await client.closed()
        assert (code, reason) == (CloseCode.POLICY_VIOLATION, "BAD_TOKEN")


async def test_two_tokens_are_refused() -> None:
    async with running_gateway() as gateway, stomp_client(gateway) as client:
        answer = await client.connect("ann", ("authorization", "Bearer bob"))
        assert answer.header("message") == "AMBIGUOUS_CREDENTIALS"


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "https://photos.example.evil"])
async def test_foreign_origin_is_refused(origin: str) -> None:
    async with running_gateway() as gateway:
        with pytest.raises(InvalidStatus) as refused:
            async with stomp_client(gateway, origin=origin):
                pytest.fail("accepted")
        assert refused.value.response.status_code == 403


async def test_client_without_origin_is_no_browser() -> None:
    async with running_gateway() as gateway, stomp_client(gateway, origin=None) as client:
        assert (await client.connect()).command == "CONNECTED"


async def test_repeated_origin_is_refused() -> None:
    async with running_gateway() as gateway:
        with pytest.raises(InvalidStatus) as refused:
            async with stomp_client(
                gateway, additional_headers=[("Origin", "https://evil.example")]
            ):
                pytest.fail("accepted")
        assert refused.value.response.status_code == 400


@pytest.mark.parametrize(("offered", "status"), [(["v10.stomp", "v11.stomp"], 400), (["x"], 400)])
async def test_other_subprotocols_are_refused(offered: list[str], status: int) -> None:
    async with running_gateway() as gateway:
        with pytest.raises(InvalidStatus) as refused:
            async with stomp_client(gateway, subprotocols=offered):
                pytest.fail("accepted")
        assert refused.value.response.status_code == status


async def test_frames_may_be_cut_and_sent_as_bytes(jobs: JobTable) -> None:
    async with running_gateway(jobs=jobs) as gateway, stomp_client(gateway) as client:
        frame = b"\n\r\nCONNECT\r\naccept-version:1.2\nhost:h\nAuthorization:Bearer ann\n\n\0\n"
        frame += b"SUBSCRIBE\nid:1\ndestination:/topic/job/job-1\n\n\0"
        for piece in (frame[:7], frame[7:60], frame[60:]):
            await client.socket.send(piece)
        assert (await client.next_frame()).command == "CONNECTED"
        assert (await client.next_message())["photoId"] == "p1"


async def test_message_above_the_limit_ends_the_session() -> None:
    async with running_gateway() as gateway, stomp_client(gateway) as client:
        await client.connect()
        await client.socket.send("SEND\n\n" + "x" * MAX_FRAME_BYTES)
        assert (await client.closed())[0] == CloseCode.TOO_LARGE


async def test_frame_above_the_limit_ends_the_session() -> None:
    async with running_gateway() as gateway, stomp_client(gateway) as client:
        await client.connect()
        await client.socket.send("SEND\n\n" + "x" * (MAX_FRAME_BYTES // 2))
        await client.socket.send("x" * (MAX_FRAME_BYTES // 2))
        code, _, (error,) = await client.closed()
        assert (code, error.header("message")) == (CloseCode.TOO_LARGE, "FRAME_TOO_LARGE")


async def test_catalogue_that_is_down_asks_to_come_back(jobs: JobTable) -> None:
    jobs.is_down = True
    async with running_gateway(jobs=jobs) as gateway, stomp_client(gateway) as client:
        await client.connect()
        await client.subscribe(JOB)
        code, reason, _ = await client.closed()
        assert (code, reason) == (CloseCode.TRY_AGAIN_LATER, "CATALOGUE_UNAVAILABLE")


async def test_disconnect_ends_with_its_receipt() -> None:
    async with running_gateway() as gateway, stomp_client(gateway) as client:
        await client.connect()
        await client.send("DISCONNECT", ("receipt", "bye"))
        code, _, (receipt,) = await client.closed()
        assert (code, receipt.header("receipt-id")) == (CloseCode.NORMAL, "bye")
        await until(lambda: len(gateway.hub.sessions) == 0, what="the session is counted no more")


async def test_quiet_session_gets_heart_beats() -> None:
    options = LiveOptions(heart_beat_ms=20)
    async with running_gateway(options=options) as gateway, stomp_client(gateway) as client:
        connected = await client.connect("ann", ("heart-beat", "0,20"))
        assert connected.header("heart-beat") == "20,20"
        async with asyncio.timeout(30):
            assert [await client.socket.recv() for _ in range(3)] == ["\n"] * 3


async def test_client_without_its_heart_beats_is_ended() -> None:
    options = LiveOptions(heart_beat_ms=20)
    async with running_gateway(options=options) as gateway, stomp_client(gateway) as client:
        await client.connect("ann", ("heart-beat", "20,0"))
        code, reason, frames = await client.closed()
        assert (code, reason) == (CloseCode.TRY_AGAIN_LATER, "HEART_BEAT_MISSED")
        assert frames == []


async def test_sessions_of_a_user_are_bounded() -> None:
    options = LiveOptions(max_sessions_per_user=1)
    async with running_gateway(options=options) as gateway:
        async with stomp_client(gateway) as first, stomp_client(gateway) as second:
            await first.connect()
            assert (await second.connect()).header("message") == "TOO_MANY_SESSIONS_OF_USER"
            code, reason, _ = await second.closed()
            assert code == CloseCode.TRY_AGAIN_LATER
            assert reason == "TOO_MANY_SESSIONS_OF_USER retry-after-ms=5000"
            async with stomp_client(gateway) as other:
                assert (await other.connect("bob")).command == "CONNECTED"
        await until(lambda: len(gateway.hub.sessions) == 0)
        async with stomp_client(gateway) as again:
            assert (await again.connect()).command == "CONNECTED"


async def test_sessions_of_a_replica_are_bounded() -> None:
    """Before credentials: sockets that say nothing count too, for as long as they may."""
    options = LiveOptions(max_sessions=1)
    async with running_gateway(options=options) as gateway, stomp_client(gateway):
        with pytest.raises(InvalidStatus) as refused:
            async with stomp_client(gateway):
                pytest.fail("accepted")
        assert refused.value.response.status_code == 503
        assert refused.value.response.headers["retry-after"] == "5"


async def test_stopping_replica_sends_its_clients_elsewhere() -> None:
    """No ERROR frame, the code of a restart, and a time to come back; no new sessions."""
    async with running_gateway() as gateway, stomp_client(gateway) as client:
        await client.connect()
        await gateway.hub.sessions.stop()
        code, reason, frames = await client.closed()
        assert (code, reason, frames) == (CloseCode.RESTART, "RESTART retry-after-ms=5000", [])
        with pytest.raises(InvalidStatus) as refused:
            async with stomp_client(gateway):
                pytest.fail("accepted")
        assert refused.value.response.status_code == 503


async def test_client_that_leaves_is_forgotten(jobs: JobTable) -> None:
    async with running_gateway(jobs=jobs) as gateway:
        async with stomp_client(gateway) as client:
            await client.connect()
            await client.subscribe(JOB)
            client.socket.transport.abort()
        await until(lambda: len(gateway.hub.sessions) == 0)
        registry = gateway.hub.metrics.registry
        labels = {"transport": "stomp", "reason": "GONE"}
        await until(
            lambda: registry.get_sample_value("sluice_gateway_live_ended_total", labels) == 1
        )
        assert (
            registry.get_sample_value("sluice_gateway_live_sessions", {"transport": "stomp"}) == 0
        )
