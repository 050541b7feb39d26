"""Serving of RPCs beside the background roles, with an ordered drain."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from sluice_common.rpc.host import RpcHost
from sluice_repository.deps import RepositoryDeps
from sluice_repository.role_set import Role, run_roles

RPC_SHARE: Final = 0.6
"""Share of the drain for RPCs in flight. Background work drains afterwards, in the rest, because
an upload that completes during the drain still needs its workers."""


async def serve_with_roles(
    host: RpcHost,
    roles: Iterable[Role],
    deps: RepositoryDeps | None,
    stop: asyncio.Event,
    drain_seconds: float,
) -> None:
    """Serve until `stop`, then drain.

    Args:
        deps: dependencies of the roles; None without background work.
        drain_seconds: drain time of the whole process.
    """
    roles_stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        if deps is not None:
            group.create_task(run_roles(roles, deps, roles_stop), name="roles")
        await host.serve_until(stop, drain_seconds * RPC_SHARE)
        roles_stop.set()
