"""The gateway of the standalone, and the listener of the objects that it keeps in files."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Final

from starlette.types import ASGIApp

from sluice_backends.files.signed_urls import SignedUrls
from sluice_backends.files.store import FileObjectStore
from sluice_backends.files.url_keys import open_url_keys
from sluice_common.process.data_dir import DataDir
from sluice_common.security.audit import RefusalSink
from sluice_common.security.exposure import check_exposure
from sluice_common.security.tls.servers import open_server_tls
from sluice_common.settings import SluiceSettings
from sluice_common.settings.security import Tls
from sluice_core.addresses import Address
from sluice_core.combinations import CatalogueKind, Events, Objects
from sluice_core.ports.object_listener import ObjectCreated
from sluice_core.ports.object_store import ObjectStore
from sluice_core.uploads.model import ObjectRef
from sluice_gateway.auth.first_user import link_for_first_user
from sluice_gateway.backends import GatewayBackends, open_live_updates
from sluice_gateway.background import Work as BackgroundWork
from sluice_gateway.background import background_work, projector_of, working
from sluice_gateway.bootstrap import PhotoHooks, open_gateway
from sluice_gateway.deps import GatewayDeps
from sluice_gateway.http.first_request import FirstRequest
from sluice_gateway.http.server import ContextSource, bind, serving_http
from sluice_gateway.metrics import GatewayMetrics
from sluice_gateway.options import ADDRESS, SERVICE_NAME, GatewayOptions
from sluice_gateway.projection.adoption import PhotoAdopter
from sluice_gateway.projection.projector import Projector
from sluice_gateway.settings import gateway_options, http_options
from sluice_gateway.storage.listener import PATH, ListenerOptions, object_listener
from sluice_gateway.tus.routes import open_tus
from sluice_processor.nodes.handler import NodeProcessor
from sluice_processor.sources.store_notifications import Notice, NoticeKind
from sluice_processor.sources.work import sort_notices
from sluice_repository.backends import Storage

OBJECTS_ADDRESS: Final = "SLUICE_OBJECTS_ADDRESS"


@dataclass(frozen=True, slots=True)
class ObjectUrls:
    """Signed URLs of objects in files, and the bound socket on which they will be served."""

    listener: socket.socket
    address: Address
    origin: str
    urls: SignedUrls


@asynccontextmanager
async def binding_objects(
    settings: SluiceSettings, data_dir: DataDir
) -> AsyncIterator[ObjectUrls | None]:
    """Bind the listener of objects in the block; None where nothing makes nodes of them.

    It comes before the store, whose URLs contain the address.

    Raise `ConfigurationError` for an address that is not usable, or not allowed without TLS.
    """
    is_served = (
        settings.objects is Objects.FILES
        and settings.catalogue is not CatalogueKind.OFF
        and settings.events is Events.LOG
        and settings.processor.enabled
    )
    if not is_served:
        yield None
        return
    # Signed URLs are the credentials: it needs TLS off loopback, and no keys.
    check_exposure(settings, rpc={OBJECTS_ADDRESS: settings.objects_address})
    with bind(OBJECTS_ADDRESS, settings.objects_address) as listener:
        address = settings.objects_address.with_port(listener.getsockname()[1])
        scheme = "http" if settings.tls.cert_file is None else "https"
        origin = settings.gateway.objects_url or f"{scheme}://{address}"
        urls = SignedUrls(await open_url_keys(data_dir.url_keys), f"{origin}{PATH}")
        yield ObjectUrls(listener, address, origin, urls)


@dataclass(frozen=True, slots=True)
class StandaloneGateway:
    """The gateway, ready to serve on its bound sockets."""

    address: Address
    deps: GatewayDeps
    objects: ObjectUrls | None
    _listener: socket.socket
    _contexts: ContextSource | None
    _work: Sequence[BackgroundWork]
    _store: ObjectStore
    _object_created: ObjectCreated

    async def login_link(self) -> str | None:
        """Return a link by which the first user logs in once; None where there is no such user.

        Whoever reads the output of the server may use it, so only for this machine.
        """
        accounts = self.deps.accounts
        if accounts is None or not self.address.is_loopback:
            return None
        # A fragment, which browsers send to no server, so that no log has it.
        return f"{self.deps.options.issuer}/#login={await link_for_first_user(accounts)}"

    @asynccontextmanager
    async def with_tus(self, target: str) -> AsyncIterator[StandaloneGateway]:
        """Add resumable uploads, which go to the intake as those of every client do.

        Args:
            target: socket of this process, where the tokens of the gateway count even if the server
                has no keys otherwise, so that an upload belongs to its user.
        """
        photos = None if self.deps.photos is None else self.deps.photos.catalogue
        plaintext = Tls()
        async with open_tus(
            self.deps.authentication, target, target, plaintext, photos=photos
        ) as tus:
            yield replace(self, deps=replace(self.deps, tus=tus))

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until `stop`, then end live sessions and drain requests."""
        deps, options = self.deps, self.deps.options
        http = http_options(options)
        async with AsyncExitStack() as stack:
            enter = stack.enter_async_context
            await enter(working(self._work, stop))
            if self.objects is not None:
                store = self._store
                assert isinstance(store, FileObjectStore), "binding_objects requires files"
                origins = (*options.own_origins, *options.origins)
                app = object_listener(
                    store,
                    self.objects.urls,
                    self._object_created,
                    ListenerOptions(origins),
                    deps.metrics.http,
                    deps.refusals,
                )
                await enter(serving_http(self.objects.listener, app, http, self._contexts))
            assert deps.hub is not None, "open_gateway opens one"
            end = deps.hub.sessions.stop
            api = FirstRequest(lambda: _build_app(deps))
            await enter(serving_http(self._listener, api, http, self._contexts, end))
            await stop.wait()


@asynccontextmanager
async def open_standalone_gateway(
    settings: SluiceSettings,
    storage: Storage,
    objects: ObjectUrls | None,
    processor: NodeProcessor | None,
    metrics: GatewayMetrics,
    wake: asyncio.Event,
    is_ready: Callable[[], Awaitable[bool]],
    refusals: RefusalSink,
) -> AsyncIterator[StandaloneGateway | None]:
    """Bind and open the gateway in the block; None without a catalogue.

    Args:
        processor: makes nodes of objects that clients put.
        wake: set when this process publishes an event.
        refusals: takes refused callers for the audit log.

    Raise `ConfigurationError` for an address or keys that cannot be used.
    """
    if storage.catalogue is None:
        yield None
        return
    check_exposure(settings, rpc={ADDRESS: settings.gateway_address}, services=(SERVICE_NAME,))
    tls = open_server_tls(settings.tls, metrics.registry)
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        listener = stack.enter_context(bind(ADDRESS, settings.gateway_address))
        address = settings.gateway_address.with_port(listener.getsockname()[1])
        options = _with_listener(gateway_options(settings, address), objects)
        live = await enter(open_live_updates(settings, metrics.registry))
        backends = GatewayBackends(storage.catalogue, storage.objects, live)
        projector = projector_of(backends, metrics)
        hooks = _hooks(settings, backends, storage.objects, projector, processor)
        deps = await enter(open_gateway(settings, options, backends, hooks, metrics, is_ready))
        yield StandaloneGateway(
            address,
            replace(deps, refusals=refusals),
            objects,
            listener,
            None if tls is None else tls.https_contexts(),
            background_work(settings, backends, projector, metrics, wake, hooks.object_created),
            storage.objects,
            hooks.object_created,
        )


def _build_app(deps: GatewayDeps) -> ASGIApp:
    """Import FastAPI and build the application: whoever uploads by gRPC needs neither."""
    from sluice_gateway.app import build_app

    return build_app(deps)


def _with_listener(options: GatewayOptions, objects: ObjectUrls | None) -> GatewayOptions:
    """Let the pages of the gateway send photos to the listener."""
    if objects is None:
        return options
    return replace(options, object_origins=(*options.object_origins, objects.origin))


def _hooks(
    settings: SluiceSettings,
    backends: GatewayBackends,
    objects: ObjectStore,
    projector: Projector,
    processor: NodeProcessor | None,
) -> PhotoHooks:
    """Return what becomes of objects.

    When `object_created` returns, the node is in the catalogue, and so is the event that leads to
    its processing. A client whose request fails repeats it, and so notifies again.

    Args:
        processor: of this process; None without one, or with one in other processes.
    """
    if processor is None:
        # With Kafka, processors in other processes follow the events.
        has_processor = settings.events is Events.KAFKA
        adopter = PhotoAdopter(backends.catalogue, objects)
        return PhotoHooks(adopter, projector.look_at if has_processor else None)

    async def object_created(ref: ObjectRef, *, happened_at: float) -> None:
        found = sort_notices([Notice(NoticeKind.CREATED, ref, happened_at)])
        for work in found.works:
            await processor.process(work)

    return PhotoHooks(object_created, projector.look_at)
