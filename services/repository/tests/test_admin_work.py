"""`admin sweep` and `admin drain`."""

from __future__ import annotations

import asyncio
import os
from dataclasses import replace

import pytest

from sluice_backends.memory.queue import InProcessQueue
from sluice_common.settings import load_settings
from sluice_core.errors import PermissionDenied
from sluice_core.ports import WorkKind
from sluice_core.ports.inspection import WorkLeft
from sluice_repository.admin import drain as drain_module
from sluice_repository.admin.drain import drain
from sluice_repository.admin.sweep import sweep
from sluice_repository.settings import repository_options
from support.admin import admin_backends, as_json, of_kind, printed
from support.roles import World, pieces

CHUNKS = pieces(2_300, 500)


async def test_sweep_repeats_lost_hints_and_counts(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    upload = await world.upload(CHUNKS)
    world.boot()  # the queue is lost
    assert await world.deps.queue.take(frozenset(WorkKind), "tests", 0) is None
    aborted = await world.begin(CHUNKS)
    await world.deps.ledger.abort(aborted.id)
    arguments = (
        load_settings(),
        world.deps.metrics,
        admin_backends(world),
        as_json(),
        asyncio.Event(),
    )
    # Two sweepers at once: every step is idempotent.
    assert all(await asyncio.gather(sweep(*arguments), sweep(*arguments)))
    lines = of_kind(printed(capsys), "swept")
    done: dict[str, int] = {}
    for line in lines:
        assert line["completed"]
        done[line["work"]] = max(line["done"], done.get(line["work"], 0))
    assert (done["requeued"], done["cleaned"]) == (3, 1)
    await world.work()
    await world.node(upload)


async def test_sweep_that_cannot_clean_an_item_says_so(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    upload = await world.begin(CHUNKS)
    await world.deps.ledger.abort(upload.id)
    world.objects.before["delete"] = [PermissionDenied("STORE_DENIED", "The store refuses.")]
    arguments = (
        load_settings(),
        world.deps.metrics,
        admin_backends(world),
        as_json(),
        asyncio.Event(),
    )
    assert not await sweep(*arguments)
    (cleaned,) = [line for line in printed(capsys) if line["work"] == "cleaned"]
    assert (cleaned["done"], cleaned["failed_items"]) == (0, 1)
    assert await sweep(*arguments), "the item stayed due, and the store takes it now"


async def test_interrupted_sweep_begins_nothing_more(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    upload = await world.begin(CHUNKS)
    await world.deps.ledger.abort(upload.id)
    stop = asyncio.Event()

    async def interrupt() -> None:
        stop.set()

    world.objects.on_call["delete"] = interrupt
    assert not await sweep(
        load_settings(), world.deps.metrics, admin_backends(world), as_json(), stop
    )
    completed = {line["work"]: line["completed"] for line in printed(capsys)}
    assert completed["cleaned"], "what had begun is ended"
    assert not completed["purged"]


async def test_sweep_with_a_full_queue_is_not_complete(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    await world.upload(CHUNKS)
    options = replace(repository_options(load_settings()), call_timeout_seconds=0.1)
    monkeypatch.setattr("sluice_repository.admin.sweep.repository_options", lambda _: options)
    backends = replace(admin_backends(world), queue=InProcessQueue(max_items=1))
    assert not await sweep(
        load_settings(), world.deps.metrics, backends, as_json(), asyncio.Event()
    )
    (hints,) = [line for line in printed(capsys) if line.get("work") == "requeued"]
    assert (hints["done"], hints["completed"]) == (1, False)


async def test_drain_waits_until_nothing_is_left(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drain_module, "POLL_SECONDS", 0.01)
    backends, stop = admin_backends(world), asyncio.Event()
    open_upload = await world.begin(CHUNKS, "open.bin")
    await world.send(open_upload, 0)
    upload = await world.upload(CHUNKS)
    assert not await drain(backends, as_json(), stop, 0)
    (left,) = of_kind(printed(capsys), "left")
    assert (left["completing"], left["uploads_with_ready_parts"]) == (1, 1)

    waiting = asyncio.create_task(drain(backends, as_json(), stop, 60))
    await world.work()
    await world.node(upload)
    while await world.relay.relay_once():
        pass
    assert await waiting
    lines = printed(capsys)
    assert of_kind(lines, "drained") == [{"kind": "drained", "open_uploads": 1}]
    assert of_kind(lines, "left")[-1]["outbox_events"] == 0


async def test_drain_takes_two_looks_at_nothing(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cluster of Redis counts an upload after it has changed it: here, at the second look."""
    monkeypatch.setattr(drain_module, "POLL_SECONDS", 0.01)
    looks = [WorkLeft(0, 0, 0), WorkLeft(1, 0, 0), WorkLeft(0, 0, 0), WorkLeft(0, 0, 0)]
    real = world.deps.ledger

    class Behind:
        def __getattr__(self, name: str) -> object:
            return getattr(real, name)

        async def work_left(self) -> WorkLeft:
            return looks.pop(0)

    backends = replace(admin_backends(world), ledger=Behind())  # type: ignore[arg-type]
    assert await drain(backends, as_json(), asyncio.Event(), 60)
    assert not looks
    assert [line["completing"] for line in of_kind(printed(capsys), "left")] == [0, 1, 0]


async def test_drain_ends_with_a_signal_and_names_withheld_events(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    await world.upload(CHUNKS)
    await world.work()
    rows = await world.catalogue.outbox(10)
    await world.catalogue.withhold([row.row_id for row in rows])
    stop = asyncio.Event()
    stop.set()
    assert not await drain(admin_backends(world), as_json(), stop, 600)
    (left,) = of_kind(printed(capsys), "left")
    assert left["withheld_outbox_events"] == len(rows)


def test_reader_that_exits_ends_the_command(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """As `… | head` does: no traceback, neither now nor when Python flushes at its exit."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as closed_pipe:
        monkeypatch.setattr("sys.stdout", closed_pipe)
        with pytest.raises(SystemExit) as ended:
            as_json().result("node", {})
        assert ended.value.code == 141
        closed_pipe.flush()
    assert not capfd.readouterr().err
