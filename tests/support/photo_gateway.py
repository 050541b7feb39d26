"""The gateway's jobs and photos on the real application, with SQLite and a store in files."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
from starlette.types import ASGIApp

from sluice_backends.files.signed_urls import SignedUrls
from sluice_backends.files.store import FileObjectStore
from sluice_backends.files.url_keys import open_url_keys
from sluice_backends.memory.live import MemoryLiveUpdates
from sluice_backends.memory.rates import MemoryRateBuckets
from sluice_backends.sql.catalogue import SqlCatalogue, open_catalogue
from sluice_core.access.principal import Principal
from sluice_core.access.scopes import Scope
from sluice_core.errors import Unauthenticated
from sluice_core.live.updates import Audience
from sluice_core.photos.model import Owner, Photo
from sluice_core.ports.catalogue import NodeCommit
from sluice_core.ports.event_publisher import PHOTOS_TOPIC
from sluice_core.ports.object_store import ObjectStore
from sluice_core.uploads.ids import direct_upload_id
from sluice_core.uploads.model import Integrity, ObjectRef
from sluice_gateway.app import build_app
from sluice_gateway.auth.homes import CatalogueHomes
from sluice_gateway.deps import GatewayDeps
from sluice_gateway.http.authentication import Authentication
from sluice_gateway.jobs.announcements import Announcer
from sluice_gateway.jobs.idempotency import RepeatableRequests
from sluice_gateway.jobs.limits import UserLimits
from sluice_gateway.jobs.multiparts import Multiparts
from sluice_gateway.jobs.options import PhotoOptions
from sluice_gateway.jobs.services import PhotoServices
from sluice_gateway.jobs.signing import ObjectUrls
from sluice_gateway.jobs.url_audit import UrlAudit
from sluice_gateway.live.progress import ProgressBatches
from sluice_gateway.metrics import GatewayMetrics, LiveMetrics
from sluice_gateway.options import GatewayOptions
from sluice_gateway.storage.listener import ListenerOptions, object_listener
from support.catalogue_files import empty_catalogue
from support.processing_results import processed

BUCKET = "sluice"
TENANT = "acme"
API = "http://gateway.test"
OBJECTS = "http://objects.test/objects"
ANN = Owner(TENANT, "ann")
_PHOTOS = frozenset({Scope.PHOTOS_READ, Scope.PHOTOS_WRITE})
NO_LIMITS = PhotoOptions(jobs_per_minute=0, progress_per_second=0)


class NamedTokens:
    """Accepts `Bearer NAME` as this user, with one right `NAME.read` or `NAME.write`."""

    async def authenticate(self, authorization: str | None) -> Principal:
        scheme, _, token = (authorization or "").partition(" ")
        name, _, scope = token.partition(".")
        if scheme != "Bearer" or not name.isalpha():
            raise Unauthenticated("BAD_TOKEN", "The token is not valid; log in.")
        scopes = frozenset({Scope(f"photos:{scope}")}) if scope else _PHOTOS
        return Principal("rival" if name == "rival" else TENANT, name, scopes)


@dataclass
class Environment:
    """What surrounds the commands; tests change it."""

    retry_after_seconds: float | None = None
    """Pressure."""
    created: list[ObjectRef] = field(default_factory=list)
    """Notifications of objects."""
    reprocessed: list[str] = field(default_factory=list)
    failures: list[Exception] = field(default_factory=list)
    """Errors that the next notifications raise."""

    async def pressure(self) -> float | None:
        return self.retry_after_seconds

    async def object_created(self, ref: ObjectRef, *, happened_at: float) -> None:
        assert happened_at > 0
        if self.failures:
            raise self.failures.pop(0)
        self.created.append(ref)

    async def reprocess(self, photo: Photo) -> None:
        self.reprocessed.append(photo.photo_id)


class _Pressure:
    def __init__(self, environment: Environment) -> None:
        self._environment = environment

    async def retry_after_seconds(self) -> float | None:
        return await self._environment.pressure()


def photo_services(
    catalogue: SqlCatalogue,
    objects: ObjectStore,
    metrics: GatewayMetrics,
    environment: Environment,
    options: PhotoOptions = NO_LIMITS,
) -> PhotoServices:
    """Compose the services as a process does."""
    updates = MemoryLiveUpdates()
    return PhotoServices(
        catalogue=catalogue,
        homes=CatalogueHomes(catalogue, BUCKET, "test/"),
        urls=ObjectUrls(objects, options),
        multiparts=Multiparts(objects, catalogue),
        object_created=environment.object_created,
        reprocessing=environment.reprocess,
        updates=updates,
        announcer=Announcer(catalogue, updates),
        progress=ProgressBatches(updates, LiveMetrics()),
        limits=UserLimits(
            MemoryRateBuckets(),
            metrics.rates,
            jobs_per_minute=options.jobs_per_minute,
            progress_per_second=options.progress_per_second,
        ),
        pressure=_Pressure(environment),
        repeatable=RepeatableRequests(catalogue, options),
        url_audit=UrlAudit(catalogue),
        metrics=metrics.jobs,
        options=options,
    )


@dataclass
class PhotoGateway:
    """The application, its clients, and what is behind it."""

    app: ASGIApp
    http: httpx2.AsyncClient
    store: httpx2.AsyncClient
    catalogue: SqlCatalogue
    objects: FileObjectStore
    services: PhotoServices
    environment: Environment
    metrics: GatewayMetrics

    async def call(
        self, method: str, path: str, body: Any = None, user: str = "ann", **headers: str
    ) -> httpx2.Response:
        """Send a request of a user, its body as JSON."""
        sent = {"authorization": f"Bearer {user}"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        if body is None:
            return await self.http.request(method, path, headers=sent)
        return await self.http.request(method, path, json=body, headers=sent)

    async def get(self, path: str, user: str = "ann", **headers: str) -> httpx2.Response:
        return await self.call("GET", path, None, user, **headers)

    async def post(
        self, path: str, body: Any = None, user: str = "ann", **headers: str
    ) -> httpx2.Response:
        return await self.call("POST", path, body, user, **headers)

    async def create(self, *sizes: int, user: str = "ann") -> Any:
        """Create a job of photos of these sizes; return the answer."""
        files = [jpeg(f"{number}.jpg", size) for number, size in enumerate(sizes or (10,))]
        response = await self.post("/commands/upload-jobs", {"files": files}, user)
        assert response.status_code == 201, response.text
        return response.json()

    async def put(self, signed: Any, content: bytes) -> int:
        """Put bytes by a signed URL; return the status."""
        response = await self.store.put(
            signed["presignedUrl"], content=content, headers=signed["headers"]
        )
        return response.status_code

    async def photo(self, photo_id: str, user: str = "ann") -> Photo:
        return await self.catalogue.get_photo(Owner(TENANT, user), photo_id)

    async def arrive(self, photo_id: str, *, is_processed: bool = False) -> Photo:
        """Commit the node of a photo, as when the processor has adopted its object."""
        photo = await self.photo(photo_id)
        await self.catalogue.adopt_object(found_object(photo))
        if is_processed:
            result = processed(photo.node_id)
            await self.catalogue.record_processed(TENANT, photo.node_id, result)
        return photo

    async def events(self) -> list[str]:
        """Return the types of the photo events in the outbox, in order."""
        rows = await self.catalogue.outbox(10_000)
        return [
            row.event.type.rpartition(".")[2] for row in rows if row.event.topic == PHOTOS_TOPIC
        ]

    async def latest(self, *keys: str) -> Sequence[Any]:
        """Return the live states of ann's photos and jobs."""
        return await self.services.updates.latest(Audience(TENANT, "ann"), keys)


def found_object(photo: Photo) -> NodeCommit:
    """Return the commit of the processor for the object of a photo."""
    return NodeCommit(
        upload_id=direct_upload_id(photo.node_id),
        node_id=photo.node_id,
        tenant=photo.owner.tenant,
        drive=photo.drive,
        path=photo.path,
        size=photo.size,
        content_type=photo.content_type,
        crc32c=0,
        sha256=None,
        metadata={},
        object=photo.object,
        if_absent=False,
        integrity=Integrity.CRC,
    )


def jpeg(filename: str = "a.jpg", size: int = 10) -> dict[str, Any]:
    """Return a file of a new job."""
    return {"filename": filename, "mimeType": "image/jpeg", "bytes": size}


def reason_of(response: httpx2.Response) -> tuple[int, str]:
    """Return status and reason of a refusal, which has to be a problem document."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    document = response.json()
    assert document["status"] == response.status_code
    assert document["requestId"] == response.headers["x-request-id"]
    return response.status_code, str(document["reason"])


@asynccontextmanager
async def photo_gateway(
    folder: Path, options: PhotoOptions = NO_LIMITS, *, min_part_bytes: int = 1
) -> AsyncIterator[PhotoGateway]:
    """Open the application, without sockets."""
    environment, metrics = Environment(), GatewayMetrics()
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        catalogue = await enter(open_catalogue(await empty_catalogue(folder)))
        urls = SignedUrls(await open_url_keys(folder / "url-keys.json"), OBJECTS)
        objects = await enter(
            FileObjectStore(
                folder / "objects", fsync=False, urls=urls, min_part_bytes=min_part_bytes
            )
        )
        await objects.check(BUCKET)
        services = photo_services(catalogue, objects, metrics, environment, options)

        async def is_ready() -> bool:
            return True

        deps = GatewayDeps(
            Authentication(NamedTokens()),
            metrics,
            GatewayOptions(issuer=API, audience="sluice"),
            is_ready,
            photos=services,
        )
        app = build_app(deps)
        created = environment.object_created
        listener = object_listener(objects, urls, created, ListenerOptions(), metrics.http)
        http = await enter(client_of(app, API))
        store = await enter(client_of(listener, OBJECTS))
        yield PhotoGateway(app, http, store, catalogue, objects, services, environment, metrics)


def client_of(app: ASGIApp, base_url: str) -> httpx2.AsyncClient:
    """Return a client that calls the application in this process."""
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url=base_url)
