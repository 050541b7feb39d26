"""Roles of a repository process and the task group that runs them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from enum import StrEnum

import structlog

from sluice_repository.deps import RepositoryDeps
from sluice_repository.roles.completer import Completer
from sluice_repository.roles.gauges import GaugeRefresher
from sluice_repository.roles.parts import PartStorer
from sluice_repository.roles.relay import Relay
from sluice_repository.roles.sweeper import Sweeper
from sluice_repository.roles.verifier import Verifier
from sluice_repository.work.queue_worker import QueueWorker

_log = structlog.get_logger(__name__)

Loop = Callable[[asyncio.Event], Coroutine[None, None, None]]


class Role(StrEnum):
    """The roles of a repository process; one process runs any set of them."""

    API = "api"
    PARTS = "parts"
    COMPLETER = "completer"
    SWEEPER = "sweeper"
    RELAY = "relay"


ALL_ROLES = frozenset(Role)


async def run_roles(roles: Iterable[Role], deps: RepositoryDeps, stop: asyncio.Event) -> None:
    """Run the background roles until `stop` is set (`api` is served by the gRPC server).

    After `stop` the roles take no new items. Items in progress have `drain_seconds`; then they are
    cancelled and returned, so that another process takes them at once. Cancellation does the same
    without the wait.
    """
    roles = set(roles)
    for role in roles:
        deps.metrics.role_running.labels(role).set(1)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(loop(stop), name=name) for name, loop in _loops(roles, deps)]
        await stop.wait()
        # The relay waits on this event, not on `stop`.
        deps.relay_wakeup.set()
        if not tasks:
            return
        _, pending = await asyncio.wait(tasks, timeout=deps.options.drain_seconds)
        for task in pending:
            _log.warning("drain.timed_out", task=task.get_name())
            task.cancel()


def _loops(roles: set[Role], deps: RepositoryDeps) -> list[tuple[str, Loop]]:
    loops: list[tuple[str, Loop]] = []
    options = deps.options
    completer = Completer(deps) if Role.COMPLETER in roles else None
    if Role.PARTS in roles:
        storer = PartStorer(deps, completer)
        loops += [
            (name, QueueWorker(deps, storer, name).run)
            for name in (f"parts-{number}" for number in range(options.part_workers))
        ]
    if completer is not None:
        loops += [
            (name, QueueWorker(deps, completer, name).run)
            for name in (f"completer-{number}" for number in range(options.completion_workers))
        ]
        if deps.catalogue is not None:
            loops.append(("verifier", Verifier(deps, deps.catalogue).run))
    if Role.SWEEPER in roles:
        loops.append(("sweeper", Sweeper(deps).run))
        loops.append(("gauges", GaugeRefresher(deps).run))
    if Role.RELAY in roles:
        loops.append(("relay", Relay(deps).run))
    return loops
