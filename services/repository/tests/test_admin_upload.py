"""`admin upload`: the story of an upload that is stuck in each stage."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from sluice_core.errors import PermissionDenied, Unavailable
from sluice_core.uploads.model import ChunkRef
from sluice_repository.admin.report import Report
from sluice_repository.admin.upload import show_upload
from support.admin import Line, admin_backends, as_json, of_kind, printed
from support.roles import HOUR, World, pieces, small_world

CHUNKS = pieces(2_300, 500)

Look = Callable[[str], Awaitable[list[Line]]]


@pytest.fixture
def look(world: World, capsys: pytest.CaptureFixture[str]) -> Look:
    """Return a function that shows an upload and returns the lines."""

    async def show(upload_id: str) -> list[Line]:
        capsys.readouterr()
        await show_upload(admin_backends(world), as_json(), upload_id, all_parts=False)
        return printed(capsys)

    return show


def runbook(lines: list[Line]) -> str:
    return str(lines[-1]["runbook"])


def advice(lines: list[Line]) -> str:
    assert lines[-1]["kind"] == "advice"
    return str(lines[-1]["text"])


async def relay_all(world: World) -> None:
    while await world.relay.relay_once():
        pass


async def test_healthy_upload_waits_for_nothing(world: World, look: Look) -> None:
    upload = await world.upload(CHUNKS)
    await world.work()
    await relay_all(world)
    lines = await look(upload.id)
    (record,) = of_kind(lines, "upload")
    assert (record["state"], record["path"]) == ("COMPLETED", "a.bin")
    (parts,) = of_kind(lines, "parts")
    assert (parts["stored"], parts["waiting"], parts["leased"]) == (3, 0, 0)
    assert not of_kind(lines, "part"), "stored parts are listed only when asked for"
    (found,) = of_kind(lines, "object")
    (node,) = of_kind(lines, "node")
    assert (found["exists"], found["size"], found["open_multiparts"]) == (True, 2_300, "")
    assert (node["state"], node["crc32c"]) == ("LIVE", found["crc32c"])
    assert not of_kind(lines, "event")
    assert (advice(lines), runbook(lines)) == (
        "It is completed and published: it waits for nothing.",
        "",
    )


async def test_open_upload_waits_for_its_client(world: World, look: Look) -> None:
    upload = await world.begin(CHUNKS)
    await world.send(upload, 0)
    lines = await look(upload.id)
    assert of_kind(lines, "times")[0]["expires"]
    assert "waits for its client's chunk 1;" in advice(lines)
    assert not runbook(lines)


async def test_killed_worker_is_named_with_its_lease(world: World, look: Look) -> None:
    upload = await world.upload(CHUNKS)
    claim = await world.deps.ledger.claim_part(upload.id, 1, "killed worker", 15)
    assert claim is not None
    lines = await look(upload.id)
    assert of_kind(lines, "times")[0]["expires"] is None, "COMPLETING never expires"
    first, second, third = of_kind(lines, "part")
    assert (first["holder"], first["fence"]) == ("killed worker", claim.fence.counter)
    assert first["lease_runs"]
    assert "holder" not in second
    assert third["state"] == "READY"
    assert "2 parts, part 2 first, wait for a worker" in advice(lines)
    (staged,) = of_kind(lines, "staged")
    assert (staged["chunks_read"], staged["bytes_read"], staged["lost"]) == (5, 2_300, "")

    world.clock.advance(16)
    lines = await look(upload.id)
    assert not of_kind(lines, "part")[0]["lease_runs"]
    assert "3 parts, part 1 first" in advice(lines)
    assert "since killed worker stopped renewing its lease" in advice(lines)
    assert runbook(lines) == "queue-old"
    # Nothing that was shown has taken the part from the workers.
    await world.work()
    await world.node(upload)


async def test_completer_is_named_and_missed(world: World, look: Look) -> None:
    upload = await world.upload(CHUNKS)
    while await world.part_worker.work_one(0):
        pass
    lines = await look(upload.id)
    assert "waits for a worker with the role completer" in advice(lines)
    await world.deps.ledger.claim_completion(upload.id, "the completer", 15)
    lines = await look(upload.id)
    (lease,) = of_kind(lines, "completion")
    assert lease["holder"] == "the completer"
    assert advice(lines).startswith("the completer completes it")
    (found,) = of_kind(lines, "object")
    assert not found["exists"]
    assert found["open_multiparts"] == of_kind(lines, "parts")[0]["multipart_id"]


async def test_lost_chunk_is_named(world: World, look: Look) -> None:
    upload = await world.upload(CHUNKS)
    await world.deps.chunks.drop_upload(upload.id)
    lines = await look(upload.id)
    assert of_kind(lines, "staged")[0]["lost"] == "0,1,2,3,4"
    assert "lost or damaged: 0, 1, 2, 3, 4" in advice(lines)


async def test_chunk_that_was_stored_meanwhile_is_not_lost(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    upload = await world.upload(CHUNKS)
    real = world.deps.chunks

    class WorkerIsFaster:
        async def read(self, upload_id: str, chunk: ChunkRef) -> AsyncIterator[bytes]:
            await world.work()
            async for block in real.read(upload_id, chunk):
                yield block

    backends = replace(admin_backends(world), chunks=WorkerIsFaster())  # type: ignore[arg-type]
    assert await show_upload(backends, as_json(), upload.id, all_parts=False)
    lines = printed(capsys)
    assert of_kind(lines, "staged")[0]["chunks_read"], "one was read after it had been dropped"
    assert of_kind(lines, "staged")[0]["lost"] == ""
    assert "lost" not in advice(lines)


async def test_events_are_shown_where_they_wait(world: World, look: Look) -> None:
    upload = await world.upload(CHUNKS)
    lines = await look(upload.id)
    assert [(e["in"], e["type"]) for e in of_kind(lines, "event")] == [
        ("ledger", "UploadInitiated")
    ]
    await world.work()
    lines = await look(upload.id)
    waiting = of_kind(lines, "event")
    assert {e["in"] for e in waiting} == {"outbox"}
    assert waiting[-1]["type"].endswith("UploadCompleted")
    assert runbook(lines) == "events-old"
    rows = await world.catalogue.outbox(10)
    await world.catalogue.withhold([row.row_id for row in rows])
    lines = await look(upload.id)
    assert all(event["withheld"] for event in of_kind(lines, "event"))
    assert runbook(lines) == "events-withheld"


async def test_missing_object_is_reported(world: World, look: Look) -> None:
    upload = await world.upload(CHUNKS)
    await world.work()
    await relay_all(world)
    await world.deps.objects.delete(upload.new.object)
    lines = await look(upload.id)
    assert "its object is missing" in advice(lines)
    assert runbook(lines) == "integrity-failure"
    # A tombstone needs none.
    await world.catalogue.delete_node(upload.new.tenant, upload.new.node_id)
    await relay_all(world)
    lines = await look(upload.id)
    assert of_kind(lines, "node")[0]["state"] == "DELETED"
    assert "its node is DELETED since" in advice(lines)


async def test_overdue_clean_up_is_reported(world: World, look: Look) -> None:
    upload = await world.begin(CHUNKS)
    await world.deps.ledger.abort(upload.id)
    await relay_all(world)
    assert advice(await look(upload.id)).startswith("It is ABORTED: it waits for nothing")
    world.clock.advance(HOUR)
    lines = await look(upload.id)
    assert "its clean-up is overdue" in advice(lines)
    assert runbook(lines) == "sweeper-behind"


async def test_crash_between_commit_and_ledger(world: World, look: Look) -> None:
    """ADR 0003: the node is live, and the ledger still COMPLETING."""
    upload = await world.upload(CHUNKS)
    real = world.deps.ledger

    class DiesBeforeFinish:
        def __getattr__(self, name: str) -> object:
            return getattr(real, name)

        async def finish(self, *_: object) -> None:
            raise Unavailable("LEDGER_UNAVAILABLE", "The ledger is away.")

    world.deps = replace(world.deps, ledger=DiesBeforeFinish())  # type: ignore[arg-type]
    world.boot()
    await world.sweeper.sweep()
    while await world.part_worker.work_one(0):
        pass
    await world.sweeper.sweep()
    await world.completion_worker.work_one(0)
    world.deps = replace(world.deps, ledger=real)
    assert advice(await look(upload.id)).startswith("Its node is committed")


@pytest.mark.parametrize("upload_id", ["another1-0a0b0c", "{nonce}-0a0b0c", "no id\x1b[31m"])
async def test_unknown_upload(
    world: World, capsys: pytest.CaptureFixture[str], upload_id: str
) -> None:
    nonce = world.deps.ledger.nonce
    upload_id = upload_id.format(nonce=nonce)
    known = await show_upload(
        admin_backends(world), Report(json_lines=False), upload_id, all_parts=False
    )
    assert not known
    text = capsys.readouterr().out
    if upload_id.startswith(nonce):
        assert "does not know this id" in text
    else:
        assert f"ids begin with {nonce}-" in text
        assert "mistyped" in text
        assert "redis-emptied.md" in text


async def test_names_and_secrets_cannot_write_to_the_terminal(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    upload = await world.begin(CHUNKS, path="a\x1b]0;title\x07.bin")
    for report in (Report(json_lines=False), as_json()):
        assert await show_upload(admin_backends(world), report, upload.id, all_parts=True)
        text = capsys.readouterr().out
        assert "title" in text
        assert text.replace("\n", "").isprintable()


async def test_backend_that_does_not_answer_hides_no_other_one(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    upload = await world.upload(CHUNKS)
    await world.work()
    away = Unavailable("STORE_UNAVAILABLE", "The store is away.")
    world.objects.before["head"] = [away]
    capsys.readouterr()
    assert not await show_upload(admin_backends(world), as_json(), upload.id, all_parts=False)
    lines = printed(capsys)
    assert of_kind(lines, "unanswered")[0]["backend"] == "objects"
    assert of_kind(lines, "node")
    assert "these did not answer: objects" in advice(lines)


async def test_refusal_of_a_backend_is_not_called_silence(world: World, look: Look) -> None:
    upload = await world.upload(CHUNKS)
    world.objects.before["head"] = [PermissionDenied("STORE_DENIED", "The store refuses.")]
    lines = await look(upload.id)
    assert "these could not be read: objects" in advice(lines)
    assert not runbook(lines), "the target is not down"


async def test_advice_fits_the_backends(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    waits = await world.upload(CHUNKS)
    backends = replace(admin_backends(world), chunks=None, queue=None)
    await show_upload(backends, as_json(), waits.id, all_parts=False)
    text = advice(printed(capsys))
    assert "its running server repeats the hints at them" in text
    await world.work()
    await relay_all(world)
    await world.deps.objects.delete(waits.new.object)
    backends = replace(admin_backends(world), keeps_objects=False)
    await show_upload(backends, as_json(), waits.id, all_parts=False)
    assert advice(printed(capsys)) == "It is completed and published: it waits for nothing."


async def test_ledger_that_fails_on_the_way_hides_no_other_backend(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    upload = await world.upload(CHUNKS)
    real = world.deps.ledger

    class FailsAfterAPart:
        def __getattr__(self, name: str) -> object:
            return getattr(real, name)

        async def inspect_parts(self, upload_id: str, after: int, _: int) -> object:
            if after:
                raise Unavailable("LEDGER_UNAVAILABLE", "The ledger is away.")
            return await real.inspect_parts(upload_id, after, 1)

    backends = replace(admin_backends(world), ledger=FailsAfterAPart())  # type: ignore[arg-type]
    assert not await show_upload(backends, as_json(), upload.id, all_parts=True)
    lines = printed(capsys)
    assert [part["number"] for part in of_kind(lines, "part")] == [1]
    assert of_kind(lines, "unanswered")[0]["backend"] == "ledger"
    assert of_kind(lines, "object")


async def test_without_a_catalogue(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with small_world(tmp_path, with_catalogue=False) as world:
        upload = await world.upload(CHUNKS)
        await world.work()
        await show_upload(admin_backends(world), as_json(), upload.id, all_parts=True)
        lines = printed(capsys)
        assert len(of_kind(lines, "part")) == 3
        assert of_kind(lines, "event")[-1]["type"] == "UploadCompleted"
        assert runbook(lines) == "events-old"
