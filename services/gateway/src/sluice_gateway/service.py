"""The gateway process: command line and lifecycle."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Final

from sluice_common.backends.storage import open_database_catalogue, open_objects
from sluice_common.direct.targets import check_forwarding
from sluice_common.process.command import add_ready_file, announce, run_command, service_parser
from sluice_common.rpc.host import METRICS, process_name, traced
from sluice_common.security.audit import writing_refusals
from sluice_common.security.exposure import check_exposure
from sluice_common.security.tls.servers import open_server_tls
from sluice_common.settings import SluiceSettings
from sluice_common.telemetry.exposition import exposing
from sluice_core.combinations import CatalogueKind, Events
from sluice_core.configuration import ConfigurationError
from sluice_gateway.app import build_app
from sluice_gateway.backends import GatewayBackends, open_live_updates
from sluice_gateway.background import background_work, projector_of, working
from sluice_gateway.bootstrap import PhotoHooks, open_gateway
from sluice_gateway.http.server import bind, serving_http
from sluice_gateway.metrics import GatewayMetrics
from sluice_gateway.options import ADDRESS, SERVICE_NAME
from sluice_gateway.projection.adoption import PhotoAdopter
from sluice_gateway.settings import gateway_options, http_options
from sluice_gateway.tus.options import TusOptions
from sluice_gateway.tus.routes import open_tus
from sluice_gateway.user_command import SUBCOMMAND, add_user_command, asked_password, user_main

STORE_RETRY_SECONDS: Final = 10.0
"""As long as a store may stall: what hangs is not tried again, since a client waits for it."""


def run(arguments: Sequence[str]) -> int:
    """Run the process until it stops and return the exit code.

    Args:
        arguments: without the program's name.
    """
    parser = service_parser(
        "sluice-gateway", "Serve the HTTP API of photo uploads for browsers and phones."
    )
    add_ready_file(parser)
    add_user_command(parser.add_subparsers(dest="command", metavar=""))
    parsed = parser.parse_args(arguments)
    if parsed.command != SUBCOMMAND or parsed.show_settings:
        return run_command(parser, arguments, _main)
    password = asked_password(parsed)  # here, where an interrupt ends the process
    return run_command(
        parser, arguments, lambda settings, given, _: user_main(settings, given, password)
    )


def check_settings(settings: SluiceSettings) -> None:
    """Raise `ConfigurationError` for settings with which a gateway cannot run on its own."""
    combination = settings.supported_combination
    if settings.catalogue is CatalogueKind.OFF:
        raise ConfigurationError(
            f"{combination.name!r} has no catalogue, in which a gateway keeps users and photos; "
            "set SLUICE_CATALOGUE"
        )
    options = gateway_options(settings, settings.gateway_address)
    if combination.standalone_only and (options.is_keyless or not options.has_accounts):
        raise ConfigurationError(
            f"{combination.name!r} keeps everything in one process, photos and their objects too: "
            "use `sluice serve`, which has the gateway. A separate one can only issue tokens for "
            "it: then set SLUICE_AUTH__MODE=jwt, and SLUICE_AUTH__ISSUER to its URL"
        )


async def _main(
    settings: SluiceSettings, arguments: argparse.Namespace, stop: asyncio.Event
) -> None:
    check_settings(settings)
    check_exposure(
        settings,
        rpc={ADDRESS: settings.gateway_address},
        services=(SERVICE_NAME,),
        metrics={METRICS: settings.metrics_address},
    )
    check_forwarding(
        settings,
        {
            "SLUICE_INTAKE_SERVER": settings.intake_server,
            "SLUICE_REPOSITORY_SERVER": settings.repository_server,
        },
    )
    metrics = GatewayMetrics()
    tls = open_server_tls(settings.tls, metrics.registry)
    contexts = None if tls is None else tls.https_contexts()
    ready = asyncio.Event()

    async def is_ready() -> bool:
        return ready.is_set()

    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        await enter(traced(settings, "sluice-gateway", process_name()))
        catalogue = await enter(open_database_catalogue(settings))
        assert catalogue is not None, "check_settings requires one"
        listener = stack.enter_context(bind(ADDRESS, settings.gateway_address))
        address = settings.gateway_address.with_port(listener.getsockname()[1])
        options = gateway_options(settings, address)
        live = await enter(open_live_updates(settings, metrics.registry))
        backends, hooks = GatewayBackends(catalogue, None, live), None
        if not settings.supported_combination.standalone_only:
            # Otherwise one process has the objects, and the photos with them: `sluice serve`.
            objects = await enter(
                open_objects(settings, metrics.s3, retry_seconds=STORE_RETRY_SECONDS)
            )
            backends = replace(backends, objects=objects)
            projector = projector_of(backends, metrics)
            has_events = settings.events is not Events.OFF
            hooks = PhotoHooks(
                PhotoAdopter(catalogue, objects),
                projector.look_at if has_events else None,
            )
        deps = await enter(open_gateway(settings, options, backends, hooks, metrics, is_ready))
        hub = deps.hub
        assert hub is not None, "open_gateway opens one"
        if hooks is not None:
            # Nothing is published in this process, so the projector is not woken.
            wake = asyncio.Event()
            created = hooks.object_created
            work = background_work(settings, backends, projector, metrics, wake, created)
            await enter(working(work, stop))
        uploads = open_tus(
            deps.authentication,
            settings.intake_server,
            settings.repository_server,
            settings.tls,
            # Without keys the services take every caller for the local one.
            TusOptions(local_only=options.is_keyless),
            None if hooks is None else catalogue,
        )
        refusals = await enter(writing_refusals(catalogue.append_audit, metrics.audit.dropped))
        deps = replace(deps, tus=await enter(uploads), refusals=refusals)
        await enter(exposing(settings.metrics_address, metrics.registry, ready.is_set, contexts))
        http = http_options(options)
        end = hub.sessions.stop
        await enter(serving_http(listener, build_app(deps), http, contexts, end))
        await asyncio.to_thread(announce, "gateway", address, arguments.ready_file)
        ready.set()
        try:
            await stop.wait()
        finally:
            # First the probes learn it, so that no new requests arrive during the drain.
            ready.clear()
