"""Several intakes on one port: `sluice-intake --workers N`.

One process keeps about one core busy. Each worker is `sluice-intake` itself, with the same settings
and a metrics address of its own; the kernel spreads new connections over them (SO_REUSEPORT). This
process takes no connection: it holds the port, starts the workers, passes on the stop signal and
starts a worker again that ended by itself. The connections of that worker break, and their clients
go on at another one.

The workers share nothing but the backends, so uploads have to live in Redis.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Literal

import structlog

from sluice_common.process.command import announce
from sluice_common.settings import SluiceSettings
from sluice_core.addresses import Address
from sluice_core.combinations import Coordination
from sluice_core.concurrency.waiting import wait_at_most
from sluice_core.configuration import EXIT_CONFIGURATION, ConfigurationError
from sluice_intake.workers.metrics_targets import read_targets, write_targets

_START_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 0.02
_RESTART_SECONDS: Final = 1.0
_LONGEST_PAUSE_SECONDS: Final = 30.0
_GOOD_RUN_SECONDS: Final = 60.0
"""A worker that ran this long is started again as soon as one that never ended before."""
_GIVE_UP_ENDS: Final = 5
"""Where no worker takes calls and one has ended this often in a row, another start helps nobody."""
_AFTER_DRAIN_SECONDS: Final = 10.0

_log = structlog.get_logger(__name__)


class WorkersFailedError(Exception):
    """A worker could not be kept running; all of them end, and the process with exit code 1."""


async def run_workers(
    settings: SluiceSettings, arguments: argparse.Namespace, stop: asyncio.Event
) -> None:
    """Keep `arguments.workers` workers running until `stop`; return when all have ended.

    Raises `ConfigurationError` when the settings do not allow it, or a worker does not start for
    its configuration (it has said why); `WorkersFailedError` when one ends again and again.
    """
    if settings.coordination is not Coordination.REDIS:
        raise ConfigurationError(
            "--workers: several processes share uploads only through Redis; "
            "set SLUICE_COORDINATION=redis, or run one process"
        )
    with (
        tempfile.TemporaryDirectory(prefix="sluice-intake-") as scratch,
        _reserved(settings.intake_address, settings.grpc.reuse_port) as address,
    ):
        folder = Path(scratch)
        workers = [
            _Worker(folder, _environment(settings, address, index), settings.drain_seconds)
            for index in range(arguments.workers)
        ]

        publishing = asyncio.Lock()

        async def publish() -> None:
            if arguments.metrics_targets is None:
                return
            # One after the other: workers become ready at the same moment, and the last one to
            # write has to be one that knew of all of them.
            async with publishing:
                targets = [target for worker in workers for target in worker.metrics]
                await asyncio.to_thread(write_targets, arguments.metrics_targets, targets)

        def anybody() -> bool:
            return any(worker.takes_calls for worker in workers)

        async with asyncio.TaskGroup() as group:
            for worker in workers:
                group.create_task(worker.keep_running(stop, publish, anybody))
            group.create_task(_announce(workers, stop, address, arguments.ready_file))


async def _announce(
    workers: list[_Worker], stop: asyncio.Event, address: Address, ready_file: Path | None
) -> None:
    for worker in workers:
        await worker.ready.wait()
    if stop.is_set():
        return
    await asyncio.to_thread(announce, "intake", address, ready_file)
    for worker in workers:
        for target in worker.metrics:
            sys.stdout.write(f"{'metrics':<11} {target}\n")
    sys.stdout.flush()


class _Worker:
    """One worker process after the other, in one place."""

    def __init__(self, folder: Path, environment: Mapping[str, str], drain_seconds: float) -> None:
        self.ready = asyncio.Event()
        """Set once the worker takes calls for the first time, or never will."""
        self.metrics: list[str] = []
        """Where the running worker is scraped; the port may have been picked at its start."""
        self.takes_calls = False
        self._environment = environment
        self._drain_seconds = drain_seconds
        name = os.urandom(8).hex()
        self._ready_file = folder / f"{name}.ready"
        self._targets_file = folder / f"{name}.json"

    async def keep_running(
        self,
        stop: asyncio.Event,
        publish: Callable[[], Awaitable[None]],
        anybody: Callable[[], bool],
    ) -> None:
        """Start, and start again, until `stop`; leaves no process behind, however it ends.

        Args:
            anybody: whether some worker takes calls. While one does, this one is tried again for
                good, with growing pauses: to end them all would turn its clients away too.
        """
        ends = 0
        try:
            while not stop.is_set():
                begun = time.monotonic()
                code = await self._run_once(stop, publish)
                if stop.is_set():
                    return
                if code == EXIT_CONFIGURATION and not self.ready.is_set():
                    raise ConfigurationError("--workers: a worker cannot work with these settings")
                if not self.ready.is_set():
                    raise WorkersFailedError(f"a worker ended with {code} before it was ready")
                ends = 1 if time.monotonic() - begun >= _GOOD_RUN_SECONDS else ends + 1
                if ends >= _GIVE_UP_ENDS and not anybody():
                    raise WorkersFailedError(f"a worker ended {ends} times, now with {code}")
                pause = min(_RESTART_SECONDS * 2 ** (ends - 1), _LONGEST_PAUSE_SECONDS)
                _log.error("worker.ended", exit_code=code, again_seconds=pause)
                await wait_at_most(stop, pause)
        finally:
            self.ready.set()

    async def _run_once(self, stop: asyncio.Event, publish: Callable[[], Awaitable[None]]) -> int:
        """One process from its start to its end; returns its exit code."""
        for file in (self._ready_file, self._targets_file):
            file.unlink(missing_ok=True)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "sluice_intake"),
            *("--parent", str(os.getpid())),
            *("--ready-file", str(self._ready_file)),
            *("--metrics-targets", str(self._targets_file)),
            env=self._environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            # A terminal's Ctrl-C goes to a whole group: the worker would hear of it twice, and
            # would take the second time for impatience.
            start_new_session=True,
        )
        ended = asyncio.ensure_future(process.wait())
        stopped = asyncio.ensure_future(stop.wait())
        try:
            await self._wait_until_ready(ended, stopped)
            if self._ready_file.exists():
                self.metrics = await asyncio.to_thread(read_targets, self._targets_file)
                self.ready.set()
                self.takes_calls = True
                await publish()
            await asyncio.wait({ended, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.takes_calls = False
            stopped.cancel()
            await self._end(process, ended)
        return ended.result()

    async def _wait_until_ready(
        self, ended: asyncio.Future[int], stopped: asyncio.Future[Literal[True]]
    ) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not (self._ready_file.exists() or ended.done() or stopped.done()):
            if time.monotonic() > deadline:
                raise WorkersFailedError(f"a worker was not ready after {_START_SECONDS:g} s")
            await asyncio.sleep(_LOOK_SECONDS)

    async def _end(self, process: asyncio.subprocess.Process, ended: asyncio.Future[int]) -> None:
        """Let a running worker drain; one that does not end after that is killed."""
        if ended.done():
            return
        with suppress(ProcessLookupError):  # it ended just now, and nobody has been told yet
            process.terminate()
        done, _ = await asyncio.wait({ended}, timeout=self._drain_seconds + _AFTER_DRAIN_SECONDS)
        if not done:
            _log.error("worker.killed", pid=process.pid)
            with suppress(ProcessLookupError):
                process.kill()
            await ended


def _environment(settings: SluiceSettings, address: Address, index: int) -> dict[str, str]:
    """The environment of one worker: this one's, and addresses that do not collide."""
    environment = {
        **os.environ,
        "SLUICE_INTAKE_ADDRESS": str(address),
        "SLUICE_METRICS_ADDRESS": str(_counted(settings.metrics_address, index)),
        "SLUICE_GRPC__REUSE_PORT": "true",
    }
    if settings.channelz_address is not None:
        environment["SLUICE_CHANNELZ_ADDRESS"] = str(_counted(settings.channelz_address, index))
    return environment


def _counted(address: Address, index: int) -> Address:
    """The address of one worker: ports count up from the setting, and 0 picks a free one."""
    return address.with_port(address.port + index) if address.port else address


@contextmanager
def _reserved(address: Address, shared: bool) -> Iterator[Address]:
    """Hold the port of the workers while they come and go; yields the actual address.

    A socket that does not listen gets no connection, and keeps the port from everybody else.

    Args:
        shared: others may listen on it already: the operator runs several on purpose.
    """
    if not shared:
        # Fails where somebody listens, also one who would share the port.
        with _bound(address, socket.SO_REUSEADDR):
            pass
    with _bound(address, socket.SO_REUSEPORT) as held:
        yield address.with_port(held.getsockname()[1])


def _bound(address: Address, option: int) -> socket.socket:
    held = socket.socket(socket.AF_INET6 if ":" in address.host else socket.AF_INET)
    try:
        held.setsockopt(socket.SOL_SOCKET, option, 1)
        held.bind((address.host, address.port))
    except OSError:
        held.close()
        raise ConfigurationError(
            f"SLUICE_INTAKE_ADDRESS: cannot listen on {address}; is another server running there?"
        ) from None
    return held
