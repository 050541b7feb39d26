"""The one composition root of the standalone: every service in one process."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Final

from sluice.upload.v1 import upload_pb2
from sluice_common.addresses import Address
from sluice_common.mixtures import Coordination, Durability
from sluice_common.rpc.host import METRICS, RpcHost, Service, hosting
from sluice_common.security.authentication import LocalAuthenticator
from sluice_common.settings import SluiceSettings
from sluice_common.telemetry.metrics import Metrics
from sluice_common.telemetry.tracing import Tracing, start_tracing
from sluice_intake.bootstrap import IntakeDeps, add_intake
from sluice_intake.drives import DefaultDrives, DriveDirectory
from sluice_intake.settings import intake_options
from sluice_repository.bootstrap import repository_service
from sluice_repository.drives import DriveRegistry
from sluice_repository.roles import ALL_ROLES, RepositoryDeps, Role, run_roles
from sluice_repository.settings import repository_options
from sluice_standalone.adapters import Adapters, open_adapters
from sluice_standalone.data_dir import DataDir, announced, opened

INTAKE: Final = "SLUICE_INTAKE_ADDRESS"
REPOSITORY: Final = "SLUICE_REPOSITORY_ADDRESS"

_RPC_SHARE: Final = 0.6
"""The part of the drain that RPCs in flight get; work in hand gets the rest, after them, because
an upload that completes during the drain still needs its workers."""

_REDIS_PROMISES: Final = {
    Durability.MEMORY: "accepted chunks live as long as Redis",
    Durability.REPLICATED: "accepted chunks survive the loss of one Redis server",
    Durability.FSYNC: "accepted chunks survive a power cut of Redis",
}
_PROMISES: Final = {
    Durability.MEMORY: "accepted chunks survive kill -9 of this process, not a power cut",
    Durability.FSYNC: "accepted chunks survive a power cut",
}


async def serve(settings: SluiceSettings, stop: asyncio.Event) -> None:
    """Run everything until `stop`; returns when all of it has come to an end.

    Raises `ConfigurationError` for what can never work, an ExceptionGroup when a role broke.
    """
    instance = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
    headers = settings.otlp_headers.get_secret_value() if settings.otlp_headers else None
    tracing = start_tracing("sluice", instance, settings.otlp_endpoint, headers)
    try:
        with opened(settings.data_dir) as data_dir:
            metrics = Metrics()
            async with open_adapters(settings, metrics, data_dir) as adapters:
                await _serve(settings, data_dir, adapters, metrics, instance, tracing, stop)
    finally:
        await asyncio.to_thread(tracing.close)


async def _serve(
    settings: SluiceSettings,
    data_dir: DataDir,
    adapters: Adapters,
    metrics: Metrics,
    instance: str,
    tracing: Tracing,
    stop: asyncio.Event,
) -> None:
    metrics.budget_bytes.set(settings.budget_bytes)
    services = _services(settings, adapters, metrics)
    addresses = {INTAKE: settings.intake_address, REPOSITORY: settings.repository_address}
    roles_stop = asyncio.Event()
    rpc_seconds = settings.drain_seconds * _RPC_SHARE
    deps = RepositoryDeps(
        ledger=adapters.coordination.ledger,
        chunks=adapters.coordination.chunks,
        queue=adapters.coordination.queue,
        objects=adapters.objects,
        catalogue=adapters.catalogue,
        publisher=adapters.publisher,
        metrics=metrics,
        holder=instance,
        options=repository_options(settings, settings.drain_seconds - rpc_seconds),
    )
    async with AsyncExitStack() as stack:
        host = await stack.enter_async_context(
            hosting(settings, services, addresses, metrics, LocalAuthenticator(), tracing)
        )
        stack.enter_context(announced(data_dir, _announcement(host)))
        _say(_banner(settings, data_dir, host))
        async with asyncio.TaskGroup() as group:
            group.create_task(run_roles(ALL_ROLES - {Role.API}, deps, roles_stop), name="roles")
            await host.serve_until(stop, rpc_seconds)
            roles_stop.set()
    _say("stopped")


def _services(
    settings: SluiceSettings, adapters: Adapters, metrics: Metrics
) -> tuple[Service, ...]:
    drives: DriveDirectory = DefaultDrives()
    repository: tuple[Service, ...] = ()
    if adapters.catalogue is not None:
        registry = DriveRegistry(
            adapters.catalogue, default_bucket=settings.bucket, auto_create=True
        )
        # In one process the registry itself is the directory: nothing to ask over a wire.
        drives = registry
        repository = (repository_service(adapters.catalogue, adapters.objects, registry),)
    deps = IntakeDeps(
        ledger=adapters.coordination.ledger,
        chunks=adapters.coordination.chunks,
        queue=adapters.coordination.queue,
        drives=drives,
        metrics=metrics,
        options=intake_options(settings),
    )
    intake = Service(
        upload_pb2.DESCRIPTOR.services_by_name["IntakeService"].full_name,
        lambda server: add_intake(server, deps),
    )
    return (intake, *repository)


def _announcement(host: RpcHost) -> Mapping[str, str]:
    """The addresses under the names that clients and scripts look for."""
    names = {"intake": INTAKE, "repository": REPOSITORY, "metrics": METRICS}
    return {name: str(host.addresses[setting]) for name, setting in names.items()}


def _banner(settings: SluiceSettings, data_dir: DataDir, host: RpcHost) -> str:
    intake: Address = host.addresses[INTAKE]
    promise = _PROMISES[settings.durability]
    if settings.coordination is Coordination.REDIS:
        promise = _REDIS_PROMISES[settings.durability]
    elif settings.coordination is Coordination.MEMORY:
        promise = "nothing is kept, this mixture only measures"
    return "\n".join(
        (
            f"intake      {intake}",
            f"repository  {host.addresses[REPOSITORY]}",
            f"metrics     http://{host.addresses[METRICS]}/metrics",
            f"data        {data_dir.root.absolute()}",
            f"durability  {settings.durability}: {promise}",
            f"upload      sluice upload FILE --drive first --server {intake}",
        )
    )


def _say(text: str) -> None:
    """To the person who started it; logs go to standard error."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
