"""Supervisor of several intake processes on one port: `sluice-intake --workers N`."""

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
_POLL_SECONDS: Final = 0.02
_RESTART_SECONDS: Final = 1.0
"""The first backoff before a restart; it doubles with every exit in a row."""
_MAX_BACKOFF_SECONDS: Final = 30.0
_GOOD_RUN_SECONDS: Final = 60.0
"""A run of this length resets the restart backoff."""
_MAX_EXITS: Final = 5
"""Exits of one worker in a row after which the process fails, if no worker is serving."""
_AFTER_DRAIN_SECONDS: Final = 10.0

_log = structlog.get_logger(__name__)


class WorkersFailedError(Exception):
    """A worker could not be kept running: all workers stop and the process exits with code 1."""


async def run_workers(
    settings: SluiceSettings, arguments: argparse.Namespace, stop: asyncio.Event
) -> None:
    """Keep `arguments.workers` workers running until `stop`; return when all have exited.

    One process uses about one core. Each worker is `sluice-intake` with the same settings and its
    own metrics address; the kernel distributes new connections among them (SO_REUSEPORT). The
    supervisor accepts no connections: it reserves the port, starts the workers, forwards the stop
    signal and restarts a worker that exits. The connections of that worker break, and their
    clients reconnect to another one. Workers share only the backends, so the uploads must be in
    Redis.

    Raise `ConfigurationError` when the settings do not allow workers or a worker refuses them
    (it has logged why); `WorkersFailedError` when a worker keeps exiting.
    """
    if settings.coordination is not Coordination.REDIS:
        raise ConfigurationError(
            "--workers: several processes share uploads only through Redis; "
            "set SLUICE_COORDINATION=redis, or run one process"
        )
    with (
        tempfile.TemporaryDirectory(prefix="sluice-intake-") as scratch,
        _reserve_port(settings.intake_address, settings.grpc.reuse_port) as address,
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
            # Serialized: workers may become ready at the same moment, and the last write must
            # contain the targets of all of them.
            async with publishing:
                targets = [target for worker in workers for target in worker.metrics]
                await asyncio.to_thread(write_targets, arguments.metrics_targets, targets)

        def is_any_serving() -> bool:
            return any(worker.is_serving for worker in workers)

        async with asyncio.TaskGroup() as group:
            for worker in workers:
                group.create_task(worker.keep_running(stop, publish, is_any_serving))
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
    """One worker slot, which runs one process at a time."""

    def __init__(self, folder: Path, environment: Mapping[str, str], drain_seconds: float) -> None:
        self.ready = asyncio.Event()
        """Set once the worker serves for the first time or has failed."""
        self.metrics: list[str] = []
        """The metrics addresses of the running worker, whose port may be picked at its start."""
        self.is_serving = False
        self._environment = environment
        self._drain_seconds = drain_seconds
        name = os.urandom(8).hex()
        self._ready_file = folder / f"{name}.ready"
        self._targets_file = folder / f"{name}.json"

    async def keep_running(
        self,
        stop: asyncio.Event,
        publish: Callable[[], Awaitable[None]],
        is_any_serving: Callable[[], bool],
    ) -> None:
        """Start and restart the process until `stop`; leave no process behind.

        Args:
            is_any_serving: returns whether any worker is serving. While one is, restarts
                continue with backoff: stopping all workers would disconnect its clients too.
        """
        exits = 0
        try:
            while not stop.is_set():
                began = time.monotonic()
                code = await self._run_once(stop, publish)
                if stop.is_set():
                    return
                if code == EXIT_CONFIGURATION and not self.ready.is_set():
                    raise ConfigurationError(
                        "--workers: a worker cannot run with these settings; see its log"
                    )
                if not self.ready.is_set():
                    raise WorkersFailedError(f"a worker exited with {code} before it was ready")
                exits = 1 if time.monotonic() - began >= _GOOD_RUN_SECONDS else exits + 1
                if exits >= _MAX_EXITS and not is_any_serving():
                    raise WorkersFailedError(f"a worker exited {exits} times, last with {code}")
                backoff = min(_RESTART_SECONDS * 2 ** (exits - 1), _MAX_BACKOFF_SECONDS)
                _log.error("worker.exited", exit_code=code, restart_seconds=backoff)
                await wait_at_most(stop, backoff)
        finally:
            self.ready.set()

    async def _run_once(self, stop: asyncio.Event, publish: Callable[[], Awaitable[None]]) -> int:
        """Run one process until it exits; return its exit code."""
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
            # Ctrl-C signals the whole process group: the worker would receive it twice and treat
            # the second signal as a request to exit at once.
            start_new_session=True,
        )
        ended = asyncio.ensure_future(process.wait())
        stopped = asyncio.ensure_future(stop.wait())
        try:
            await self._wait_until_ready(ended, stopped)
            if self._ready_file.exists():
                self.metrics = await asyncio.to_thread(read_targets, self._targets_file)
                self.ready.set()
                self.is_serving = True
                await publish()
            await asyncio.wait({ended, stopped}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.is_serving = False
            stopped.cancel()
            await self._stop_process(process, ended)
        return ended.result()

    async def _wait_until_ready(
        self, ended: asyncio.Future[int], stopped: asyncio.Future[Literal[True]]
    ) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not (self._ready_file.exists() or ended.done() or stopped.done()):
            if time.monotonic() > deadline:
                raise WorkersFailedError(f"a worker was not ready after {_START_SECONDS:g} s")
            await asyncio.sleep(_POLL_SECONDS)

    async def _stop_process(
        self, process: asyncio.subprocess.Process, ended: asyncio.Future[int]
    ) -> None:
        """Let a running worker drain; kill it if it does not exit in time."""
        if ended.done():
            return
        with suppress(ProcessLookupError):  # it exited, and the event loop has not noticed yet
            process.terminate()
        done, _ = await asyncio.wait({ended}, timeout=self._drain_seconds + _AFTER_DRAIN_SECONDS)
        if not done:
            _log.error("worker.killed", pid=process.pid)
            with suppress(ProcessLookupError):
                process.kill()
            await ended


def _environment(settings: SluiceSettings, address: Address, index: int) -> dict[str, str]:
    """Return the environment of one worker: that of this process with its own addresses."""
    environment = {
        **os.environ,
        "SLUICE_INTAKE_ADDRESS": str(address),
        "SLUICE_METRICS_ADDRESS": str(_worker_address(settings.metrics_address, index)),
        "SLUICE_GRPC__REUSE_PORT": "true",
    }
    if settings.channelz_address is not None:
        environment["SLUICE_CHANNELZ_ADDRESS"] = str(
            _worker_address(settings.channelz_address, index)
        )
    return environment


def _worker_address(address: Address, index: int) -> Address:
    """Return the address of one worker: ports count up from the setting, 0 picks a free one."""
    return address.with_port(address.port + index) if address.port else address


@contextmanager
def _reserve_port(address: Address, is_shared: bool) -> Iterator[Address]:
    """Reserve the port of the workers while they start and exit; yield the actual address.

    A socket that does not listen receives no connections, but prevents other servers from binding
    the port.

    Args:
        is_shared: other servers may listen on the port already, as the operator configured.
    """
    if not is_shared:
        # Fails if another server listens, even one that would share the port.
        with _bind(address, socket.SO_REUSEADDR):
            pass
    with _bind(address, socket.SO_REUSEPORT) as held:
        yield address.with_port(held.getsockname()[1])


def _bind(address: Address, option: int) -> socket.socket:
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
