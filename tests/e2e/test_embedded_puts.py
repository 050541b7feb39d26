"""From a signed PUT to the embedded object listener to a processed node, without S3 or events."""

from __future__ import annotations

import io
import socket
from pathlib import Path

import aiohttp

from sluice_backends.files.signed_urls import SignedUrls
from sluice_backends.files.store import FileObjectStore
from sluice_backends.files.url_keys import open_url_keys
from sluice_core.catalogue.processing import ProcessingState
from sluice_core.objects.marks import path_mark, upload_mark
from sluice_core.ports.object_store import ObjectAttributes
from sluice_core.uploads.ids import new_node_id
from sluice_core.uploads.model import ObjectRef
from sluice_gateway.metrics import HttpMetrics
from sluice_gateway.storage.listener import ListenerOptions, object_listener
from sluice_processor.nodes.handler import Outcome, Work
from sluice_processor.options import ProcessorOptions
from sluice_processor.sources.store_notifications import Notice, NoticeKind
from sluice_processor.sources.work import sort_notices
from support.commits import BUCKET, DRIVE, TENANT
from support.object_listener import serving_app
from support.pictures import as_stored, exif, quadrants, saved
from support.processor import IMAGES, darkroom

PHOTO = saved(as_stored(quadrants(), 6), "JPEG", quality=92, exif=exif(6))


async def test_put_photo_becomes_a_processed_node(tmp_path: Path) -> None:
    """The notification takes the way of a store's; path and type come from the signed URL."""
    outcomes: list[Outcome] = []
    listening = socket.create_server(("127.0.0.1", 0))
    address = f"http://127.0.0.1:{listening.getsockname()[1]}/objects"
    urls = SignedUrls(await open_url_keys(tmp_path / "url-keys.json"), address)
    options = ProcessorOptions(images=IMAGES, bucket=BUCKET)
    async with darkroom(tmp_path, options) as room:

        async def object_created(ref: ObjectRef, *, happened_at: float) -> None:
            found = sort_notices([Notice(NoticeKind.CREATED, ref, happened_at)])
            outcomes.extend([await room.processor.process(work) for work in found.works])

        node_id, upload_id = new_node_id(), new_node_id()
        assert isinstance(room.store, FileObjectStore)
        app = object_listener(room.store, urls, object_created, ListenerOptions(), HttpMetrics())
        async with serving_app(app, listening), aiohttp.ClientSession() as http:
            for id_, mark in ((node_id, path_mark("job/Grüße.jpg")), (upload_id, upload_mark("u"))):
                ref = ObjectRef(BUCKET, f"pre/{TENANT}/{DRIVE}/{id_}")
                attributes = ObjectAttributes("image/jpeg", metadata=mark)
                signed = await urls.put(ref, 60, len(PHOTO), attributes)
                body = io.BytesIO(PHOTO)
                async with http.put(signed.url, data=body, headers=signed.headers) as response:
                    assert response.status == 200
        assert [outcome.kind for outcome in outcomes] == ["adopted", "announced"]
        node = await room.catalogue.find_node(TENANT, DRIVE, "job/Grüße.jpg")
        assert (node.node_id, node.size, node.content_type) == (node_id, len(PHOTO), "image/jpeg")
        # The work of its event, which the transaction of the adoption has written.
        assert await room.processor.process(Work(TENANT, node_id)) == Outcome("processed")
        (found,) = (await room.catalogue.processing_of(TENANT, [node_id])).values()
        assert (found.state, len(found.thumbnails)) == (ProcessingState.PROCESSED, 2)
