"""A processor on embedded adapters, with a scripted decoder."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from sluice_backends.files.store import FileObjectStore
from sluice_backends.sql.catalogue import open_catalogue
from sluice_core.catalogue.processing import Processing
from sluice_core.objects.body import BytesBody
from sluice_core.ports.catalogue import MAX_DOWNLOAD_URL_SECONDS, Catalogue, DrivePolicy, NodeCommit
from sluice_core.ports.event_publisher import EventRecord
from sluice_core.ports.object_store import ObjectAttributes, ObjectStore
from sluice_core.uploads.model import ObjectRef
from sluice_processor.deps import ProcessorDeps
from sluice_processor.images.decoding import prepare, process_image
from sluice_processor.images.model import ImageOptions, ProcessedImage
from sluice_processor.metrics import ProcessorMetrics
from sluice_processor.nodes.handler import NodeProcessor, Outcome, Work
from sluice_processor.options import ProcessorOptions
from support.catalogue_files import empty_catalogue
from support.commits import BUCKET, DRIVE, TENANT, finished_upload
from support.faulty_objects import FaultyObjects
from support.pictures import as_stored, exif, quadrants, saved

IMAGES = ImageOptions(thumbnail_sizes=(32, 64))
PHOTO = saved(as_stored(quadrants(), 6), "JPEG", quality=92, exif=exif(6))


class Decoder:
    """Decodes in this process, after awaiting `on_call` and raising `errors`."""

    def __init__(self, options: ImageOptions = IMAGES) -> None:
        prepare()
        self._options = options
        self.errors: list[Exception] = []
        self.on_call: Callable[[], Awaitable[None]] | None = None
        self.calls = 0

    async def process(
        self, source: int | Path, sizes: Sequence[int] | None = None
    ) -> ProcessedImage:
        self.calls += 1
        if self.on_call is not None:
            await self.on_call()
        if self.errors:
            raise self.errors.pop(0)
        assert isinstance(source, int)
        return process_image(source, self._options, sizes or self._options.thumbnail_sizes)


@dataclass(slots=True)
class Darkroom:
    """One handler and its dependencies."""

    catalogue: Catalogue
    store: ObjectStore
    objects: FaultyObjects
    decoder: Decoder
    deps: ProcessorDeps
    processor: NodeProcessor

    @property
    def metrics(self) -> ProcessorMetrics:
        return self.deps.metrics

    async def upload(self, content: bytes, path: str = "a.jpg", **known: bytes) -> NodeCommit:
        """Create a node with this content, as the completer does."""
        commit = finished_upload(path, content=content, sha256=known.get("sha256"))
        commit = replace(commit, content_type="text/plain")
        await self.put(commit.object, content)
        await self.catalogue.commit_node(commit)
        return commit

    async def put(self, ref: ObjectRef, content: bytes) -> None:
        await self.store.put(ref, BytesBody(content), ObjectAttributes())

    async def process(self, commit: NodeCommit) -> Outcome:
        return await self.processor.process(Work(TENANT, commit.node_id, since=time.time()))

    async def result(self, commit: NodeCommit) -> Processing | None:
        found = await self.catalogue.processing_of(TENANT, [commit.node_id])
        return found.get(commit.node_id)

    async def events(self, name: str) -> list[EventRecord]:
        rows = await self.catalogue.outbox(1000)
        return [row.event for row in rows if row.event.type == f"sluice.events.v1.{name}"]

    async def bytes_of(self, ref: ObjectRef) -> bytes | None:
        info = await self.store.head(ref)
        if info is None:
            return None
        return b"".join([block async for block in self.store.read(ref, 0, info.size)])

    async def scheduled_deletions(self) -> list[str]:
        later = time.time() + 2 * MAX_DOWNLOAD_URL_SECONDS
        return sorted(one.object.key for one in await self.catalogue.deletions_due(later, 1000))


def stored_thumbnails(root: Path) -> list[str]:
    """Return the folders of all thumbnails in an embedded store under `root`."""
    return [name for _, folders, _ in os.walk(root) for name in folders if name.endswith(".webp")]


@asynccontextmanager
async def darkroom(
    folder: Path, options: ProcessorOptions | None = None
) -> AsyncIterator[Darkroom]:
    """Open a handler with its own catalogue and store in `folder`, and one drive."""
    options = options or ProcessorOptions(images=IMAGES)
    url = await empty_catalogue(folder)
    async with AsyncExitStack() as stack:
        catalogue = await stack.enter_async_context(open_catalogue(url))
        store = await stack.enter_async_context(FileObjectStore(folder / "objects", fsync=False))
        await catalogue.create_drive(TENANT, DRIVE, BUCKET, "pre/", DrivePolicy())
        await store.check(BUCKET)
        objects, decoder, metrics = FaultyObjects(store), Decoder(), ProcessorMetrics()
        deps = ProcessorDeps(catalogue, objects, decoder, metrics, options)
        yield Darkroom(catalogue, store, objects, decoder, deps, NodeProcessor(deps))
