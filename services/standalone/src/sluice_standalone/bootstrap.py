"""Composition root of the standalone: every service in one process."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Final

from sluice_common.process.data_dir import DataDir
from sluice_common.rates.limiter import RateLimiter
from sluice_common.rates.opening import open_rate_limiter
from sluice_common.rpc.host import METRICS, RpcHost, Service, hosting, process_name, traced
from sluice_common.security.audit import log_refusals, writing_refusals
from sluice_common.security.opening import open_authenticator
from sluice_common.settings import SluiceSettings
from sluice_common.telemetry.tracing import Tracing
from sluice_core.addresses import Address
from sluice_core.combinations import Coordination, Durability, Events
from sluice_gateway.projection.log_source import TOPICS as PROJECTED_TOPICS
from sluice_intake.bootstrap import intake_deps, intake_service
from sluice_intake.drives import DefaultDrives, DriveDirectory
from sluice_intake.metrics import IntakeMetrics
from sluice_intake.settings import intake_options
from sluice_processor.bootstrap import open_processor
from sluice_processor.metrics import ProcessorMetrics
from sluice_processor.nodes.handler import NodeProcessor
from sluice_processor.settings import processor_options
from sluice_processor.source_set import Source, check_sources, run_sources, sources_of
from sluice_processor.sources.log import WakingPublisher
from sluice_repository.backends import Storage
from sluice_repository.bootstrap import repository_deps, repository_service
from sluice_repository.role_set import ALL_ROLES, Role
from sluice_repository.rpc.drives import DriveRegistry
from sluice_repository.serving import serve_with_roles
from sluice_standalone.backends import Backends, open_backends
from sluice_standalone.data_dir import announce_addresses, open_data_dir
from sluice_standalone.drives import open_directory
from sluice_standalone.gateway import (
    ObjectUrls,
    StandaloneGateway,
    binding_objects,
    open_standalone_gateway,
)
from sluice_standalone.metrics import StandaloneMetrics
from sluice_standalone.own_keys import with_own_keys
from sluice_standalone.recorded_settings import record_settings

INTAKE: Final = "SLUICE_INTAKE_ADDRESS"
REPOSITORY: Final = "SLUICE_REPOSITORY_ADDRESS"

_DURABILITY_TEXTS: Final[Mapping[Coordination, Mapping[Durability, str]]] = {
    Coordination.EMBEDDED: {
        Durability.MEMORY: "accepted chunks survive kill -9 of this process, not a power cut",
        Durability.FSYNC: "accepted chunks survive a power cut",
    },
    Coordination.REDIS: {
        Durability.MEMORY: "accepted chunks live as long as Redis",
        Durability.REPLICATED: "accepted chunks survive the loss of one Redis server",
        Durability.FSYNC: "accepted chunks survive a power cut of Redis",
    },
    Coordination.MEMORY: {
        Durability.MEMORY: "nothing is kept, this combination only measures",
    },
}


async def serve(settings: SluiceSettings, stop: asyncio.Event, *, own_keys: bool = False) -> None:
    """Run every service until `stop`; return when all of them have stopped.

    Args:
        own_keys: require tokens, and make the key in the data directory that signs them.

    Raise `ConfigurationError` for settings that cannot work, an ExceptionGroup when a role fails.
    """
    instance = process_name()
    async with traced(settings, "sluice", instance) as tracing:
        with open_data_dir(settings.data_dir) as data_dir:
            if own_keys:
                settings = with_own_keys(settings, data_dir)
            metrics = StandaloneMetrics()
            async with AsyncExitStack() as stack:
                objects = await stack.enter_async_context(binding_objects(settings, data_dir))
                urls = None if objects is None else objects.urls
                backends = await stack.enter_async_context(
                    open_backends(settings, metrics.repository, data_dir, urls)
                )
                # After the backends have been opened: a server that cannot start has used nothing.
                record_settings(data_dir, settings)
                await _serve(
                    settings, data_dir, backends, objects, metrics, instance, tracing, stop
                )


async def _serve(
    settings: SluiceSettings,
    data_dir: DataDir,
    backends: Backends,
    objects: ObjectUrls | None,
    metrics: StandaloneMetrics,
    instance: str,
    tracing: Tracing,
    stop: asyncio.Event,
) -> None:
    metrics.intake.ledger.budget_bytes.set(settings.budget_bytes)
    metrics.disk.watch(data_dir.root)
    addresses = {INTAKE: settings.intake_address, REPOSITORY: settings.repository_address}
    wake, gateway_wake = asyncio.Event(), asyncio.Event()
    publisher = WakingPublisher(backends.storage.publisher, wake)
    publisher = WakingPublisher(publisher, gateway_wake, PROJECTED_TOPICS)
    storage = replace(backends.storage, publisher=publisher)
    deps = repository_deps(settings, backends.coordination, storage, metrics.repository, instance)
    is_serving = asyncio.Event()

    async def is_ready() -> bool:
        return is_serving.is_set() and not stop.is_set()

    async with AsyncExitStack() as stack:
        processor, sources = await stack.enter_async_context(
            _sources(settings, storage, metrics.processor, wake)
        )
        limiter = await stack.enter_async_context(open_rate_limiter(settings, metrics.registry))
        services = _services(settings, backends, metrics.intake, limiter)
        authenticator = await stack.enter_async_context(
            open_authenticator(
                settings.auth,
                metrics.registry,
                allow_insecure=settings.allow_insecure,
                require_strong=not settings.is_development,
            )
        )
        write = log_refusals if storage.catalogue is None else storage.catalogue.append_audit
        refusals = await stack.enter_async_context(
            writing_refusals(write, metrics.intake.rpc.audit_dropped)
        )
        gateway = await stack.enter_async_context(
            open_standalone_gateway(
                settings,
                storage,
                objects,
                processor,
                metrics.gateway,
                gateway_wake,
                is_ready,
                refusals,
            )
        )
        registry = metrics.registry
        host = await stack.enter_async_context(
            hosting(
                settings,
                services,
                addresses,
                registry,
                authenticator,
                tracing,
                limiter,
                refusals,
                None if gateway is None else gateway.deps.authentication.authenticator,
            )
        )
        if gateway is not None and host.own_target is not None:
            gateway = await stack.enter_async_context(gateway.with_tus(host.own_target))
        link = None if gateway is None else await gateway.login_link()
        announced = _announcement(settings, host, gateway)
        stack.enter_context(announce_addresses(data_dir, announced))
        _print(_banner(settings, data_dir, host, gateway, link))
        is_serving.set()
        async with asyncio.TaskGroup() as group:
            group.create_task(run_sources(sources, stop), name="processor")
            if gateway is not None:
                group.create_task(gateway.run(stop), name="gateway")
            roles = ALL_ROLES - {Role.API}
            await serve_with_roles(host, roles, deps, stop, settings.drain_seconds)
    _print("stopped")


@asynccontextmanager
async def _sources(
    settings: SluiceSettings, storage: Storage, metrics: ProcessorMetrics, wake: asyncio.Event
) -> AsyncIterator[tuple[NodeProcessor | None, tuple[Source, ...]]]:
    """Open the processor; yield it with its sources: the event log, or none.

    With Kafka, separate `sluice-processor` processes consume the events.
    """
    catalogue = storage.catalogue
    is_embedded = settings.processor.enabled and settings.events is Events.LOG
    if not is_embedded or catalogue is None:
        yield None, ()
        return
    options = processor_options(settings)
    await check_sources(settings)
    async with open_processor(options, catalogue, storage.objects, metrics, lazy=True) as processor:
        yield processor, sources_of(settings, processor, metrics, wake)


def _services(
    settings: SluiceSettings,
    backends: Backends,
    metrics: IntakeMetrics,
    limiter: RateLimiter | None,
) -> tuple[Service, ...]:
    drives: DriveDirectory = DefaultDrives()
    repository: tuple[Service, ...] = ()
    storage = backends.storage
    if storage.catalogue is not None:
        # In one process the directory reads the catalogue, without a gRPC call.
        drives, catalogue = open_directory(storage.catalogue, settings.bucket)
        registry = DriveRegistry(catalogue, default_bucket=settings.bucket, auto_create=True)
        ledger = backends.coordination.ledger
        repository = (repository_service(settings, catalogue, storage.objects, ledger, registry),)
    deps = intake_deps(backends.coordination, drives, metrics, intake_options(settings), limiter)
    return (intake_service(deps), *repository)


def _announcement(
    settings: SluiceSettings, host: RpcHost, gateway: StandaloneGateway | None
) -> Mapping[str, str]:
    """Return the addresses under the names in server.json that clients and scripts read."""
    names = {"intake": INTAKE, "repository": REPOSITORY, "metrics": METRICS}
    addresses = {name: host.addresses[setting] for name, setting in names.items()}
    if gateway is not None:
        addresses["gateway"] = gateway.address
        if gateway.objects is not None:
            addresses["objects"] = gateway.objects.address
    return {name: _target(settings, address) for name, address in addresses.items()}


def _banner(
    settings: SluiceSettings,
    data_dir: DataDir,
    host: RpcHost,
    gateway: StandaloneGateway | None,
    link: str | None,
) -> str:
    intake: Address = host.addresses[INTAKE]
    scheme = "http" if settings.tls.cert_file is None else "https"
    promise = _DURABILITY_TEXTS[settings.coordination][settings.durability]
    has_own_keys = settings.auth.secret_file == data_dir.auth_secret
    token = (f"token       {data_dir.admin_token.absolute()}",) if has_own_keys else ()
    http = () if gateway is None else (f"gateway     {gateway.deps.options.issuer}",)
    login = () if link is None else (f"log in      {link}  (once)",)
    return "\n".join(
        (
            f"intake      {intake}",
            f"repository  {host.addresses[REPOSITORY]}",
            *http,
            *login,
            f"metrics     {scheme}://{host.addresses[METRICS]}/metrics",
            f"data        {data_dir.root.absolute()}",
            *token,
            f"durability  {settings.durability}: {promise}",
            f"upload      sluice upload FILE --drive first --server {_target(settings, intake)}",
        )
    )


def _target(settings: SluiceSettings, address: Address) -> str:
    """Return an address for a client on this machine; without TLS it needs no scheme."""
    return str(address) if settings.tls.cert_file is None else f"https://{address}"


def _print(text: str) -> None:
    """Print to standard output for the operator; logs go to standard error."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
