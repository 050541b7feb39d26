"""The supervisor of intake workers: concurrent starts, exits and restarts."""

from __future__ import annotations

import argparse
import asyncio
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sluice_core.addresses import Address
from sluice_core.combinations import Coordination
from sluice_intake.workers import supervisor as workers
from sluice_intake.workers.metrics_targets import read_targets, write_targets

WORKERS = 5


async def test_workers_ready_at_once_are_all_in_the_targets_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "targets.json"
    at_once = 0
    most = 0
    guard = threading.Lock()

    def slowly(target: Path, addresses: Sequence[str]) -> None:
        nonlocal at_once, most
        with guard:
            at_once += 1
            most = max(most, at_once)
        # The first writer is the slowest, and would overwrite the targets of the others.
        time.sleep(0.05 / len(addresses))
        write_targets(target, addresses)
        with guard:
            at_once -= 1

    async def ready_at_once(
        worker: Any, _stop: object, publish: Callable[[], Any], _is_any_serving: object
    ) -> None:
        await asyncio.sleep(0)
        worker.metrics = [f"127.0.0.1:{id(worker)}"]
        worker.ready.set()
        await publish()

    monkeypatch.setattr(workers, "write_targets", slowly)
    monkeypatch.setattr(workers._Worker, "keep_running", ready_at_once)
    settings: Any = SimpleNamespace(
        coordination=Coordination.REDIS,
        intake_address=Address("127.0.0.1", 0),
        metrics_address=Address("127.0.0.1", 0),
        channelz_address=None,
        drain_seconds=1.0,
        grpc=SimpleNamespace(reuse_port=False),
    )
    arguments = argparse.Namespace(workers=WORKERS, metrics_targets=file, ready_file=None)
    await workers.run_workers(settings, arguments, asyncio.Event())
    assert most == 1
    assert len(set(read_targets(file))) == WORKERS


async def test_stopping_an_exited_worker_is_no_failure(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", "")
    await process.wait()
    while True:  # until it cannot be signalled any more
        try:
            process.terminate()
        except ProcessLookupError:
            break
        await asyncio.sleep(0.01)
    exited: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_later(0.05, exited.set_result, 0)
    worker = workers._Worker(tmp_path, {}, drain_seconds=1.0)
    await worker._stop_process(process, exited)
    assert exited.result() == 0


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Record the restart backoffs instead of waiting for them."""
    recorded: list[float] = []

    async def pause(_stop: object, seconds: float) -> None:
        recorded.append(seconds)

    monkeypatch.setattr(workers, "wait_at_most", pause)
    return recorded


def ending(monkeypatch: pytest.MonkeyPatch, stop: asyncio.Event, ends: int) -> workers._Worker:
    """Return a worker whose process exits with 69 at once; `stop` is set after `ends` exits."""
    worker, runs = workers._Worker(Path(), {}, drain_seconds=1.0), 0

    async def run_once(*_: object) -> int:
        nonlocal runs
        runs += 1
        worker.ready.set()
        if runs > ends:
            stop.set()
        return 69

    monkeypatch.setattr(worker, "_run_once", run_once)
    return worker


async def nothing() -> None:
    pass


async def test_exiting_worker_is_restarted_while_another_serves(
    monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    stop = asyncio.Event()
    await ending(monkeypatch, stop, 8).keep_running(stop, nothing, lambda: True)
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]


async def test_supervisor_fails_when_no_worker_serves(
    monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    stop = asyncio.Event()
    with pytest.raises(workers.WorkersFailedError, match="5 times, last with 69"):
        await ending(monkeypatch, stop, 100).keep_running(stop, nothing, lambda: False)
    assert pauses == [1, 2, 4, 8]


async def test_long_run_resets_the_restart_backoff(
    monkeypatch: pytest.MonkeyPatch, pauses: list[float]
) -> None:
    monkeypatch.setattr(workers, "_GOOD_RUN_SECONDS", 0.0)
    stop = asyncio.Event()
    await ending(monkeypatch, stop, 7).keep_running(stop, nothing, lambda: False)
    assert pauses == [1] * 7
