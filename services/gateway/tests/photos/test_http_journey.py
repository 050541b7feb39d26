"""A batch from log-in to download over real sockets, as docs/gateway.md has it."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from yarl import URL

from sluice_backends.sql.catalogue import SqlCatalogue
from sluice_core.photos.changes import PhotoChange
from sluice_core.photos.model import Owner
from sluice_core.photos.states import PhotoStatus
from sluice_gateway.deps import GatewayDeps
from support.gateway import BOB, Gateway, Reply, running_gateway
from support.object_listener import ObjectListener, running_listener
from support.photo_gateway import Environment, found_object, jpeg, photo_services
from support.processing_results import processed

JSON = {"content-type": "application/json"}
LARGE = 9_000_000


@dataclass
class Phone:
    """A client with a session."""

    gateway: Gateway
    listener: ObjectListener
    http: aiohttp.ClientSession
    token: str
    user_id: str

    async def post(self, path: str, body: Any = None, **headers: str) -> Reply:
        sent = {"authorization": f"Bearer {self.token}", **headers}
        return await self.gateway.call("POST", path, json=body, headers=sent)

    async def get(self, path: str, **headers: str) -> Reply:
        return await self.gateway.get(path, self.token, **headers)

    async def put(self, signed: Any, content: bytes) -> int:
        url = URL(signed["presignedUrl"], encoded=True)
        body = io.BytesIO(content)
        async with self.http.put(url, data=body, headers=signed["headers"]) as answer:
            return answer.status


@pytest.fixture
async def phone(tmp_path: Path) -> AsyncIterator[Phone]:
    async with AsyncExitStack() as stack:
        listener = await stack.enter_async_context(running_listener(tmp_path / "store"))

        def extend(deps: GatewayDeps, catalogue: SqlCatalogue) -> GatewayDeps:
            services = photo_services(catalogue, listener.store, deps.metrics, Environment())
            return replace(deps, photos=services)

        gateway = await stack.enter_async_context(running_gateway(tmp_path, extend=extend))
        session = await gateway.register()
        user_id = session["user"]["userId"]
        yield Phone(gateway, listener, gateway.http, session["token"], user_id)


async def process(phone: Phone, photo_id: str) -> None:
    """Do what the processor does with an object of the store."""
    catalogue = phone.gateway.catalogue
    photo = await catalogue.get_photo(Owner(phone.user_id, phone.user_id), photo_id)
    await catalogue.adopt_object(found_object(photo))
    await catalogue.record_processed(photo.owner.tenant, photo.node_id, processed(photo.node_id))
    await catalogue.change_photos([PhotoChange(photo_id, PhotoStatus.COMPLETED)])


async def test_batch_goes_from_log_in_to_thumbnail(phone: Phone) -> None:
    body = {"files": [jpeg("small.jpg", 10), jpeg("large.jpg", LARGE)]}
    reply = await phone.post("/commands/upload-jobs", body, **{"idempotency-key": "batch-1"})
    assert reply.status == 201, reply.content
    job = reply.json()
    small, large = job["items"]
    assert await phone.put(small, b"0123456789") == 200
    parts = (await phone.post(f"/commands/upload/{large['photoId']}/parts")).json()
    for part in parts["parts"]:
        assert await phone.put(part, bytes(part["bytes"])) == 200
    for item in job["items"]:
        reply = await phone.post(f"/commands/upload/{item['photoId']}/finalize")
        assert reply.json()["status"] == "PROCESSING", reply.content
        await process(phone, item["photoId"])
    view = (await phone.get(f"/queries/upload-jobs/{job['jobId']}")).json()
    assert (view["status"], view["completedCount"], view["progress"]) == ("COMPLETED", 2, 100)
    (listed, _) = (await phone.get("/queries/photos?sort=filename,desc")).json()["items"]
    assert listed["filename"] == "small.jpg"
    assert len(listed["thumbnails"]) == 2
    download = (await phone.get(f"/queries/photos/{small['photoId']}/download-url")).json()
    async with phone.http.get(URL(download["url"], encoded=True)) as answer:
        assert await answer.read() == b"0123456789"


async def test_unchanged_job_is_304_on_the_wire(phone: Phone) -> None:
    job = (await phone.post("/commands/upload-jobs", {"files": [jpeg()]})).json()
    path = f"/queries/upload-jobs/{job['jobId']}"
    first = await phone.get(path)
    again = await phone.get(path, **{"if-none-match": first.headers["etag"]})
    assert (again.status, again.content) == (304, b"")
    # The connection serves the next request.
    assert (await phone.get(path)).status == 200


async def test_two_connections_create_one_job(phone: Phone) -> None:
    body = {"files": [jpeg()]}
    replies = await asyncio.gather(
        *(phone.post("/commands/upload-jobs", body, **{"idempotency-key": "k"}) for _ in range(5))
    )
    assert {reply.status for reply in replies} == {201}
    assert len({reply.content for reply in replies}) == 1


async def test_users_do_not_see_each_other(phone: Phone) -> None:
    job = (await phone.post("/commands/upload-jobs", {"files": [jpeg()]})).json()
    other = (await phone.gateway.register(BOB))["token"]
    for path in (
        f"/queries/upload-jobs/{job['jobId']}",
        f"/queries/photos/{job['items'][0]['photoId']}",
    ):
        assert (await phone.gateway.get(path, other)).status == 404


async def test_commands_take_json_only(phone: Phone) -> None:
    """A form of a foreign page could send other types without asking first."""
    headers = {"authorization": f"Bearer {phone.token}", "content-type": "text/plain"}
    for path in ("/commands/upload-jobs", "/commands/upload/progress", "/commands/upload/x/parts"):
        reply = await phone.gateway.call("POST", path, data=b"{}", headers=headers)
        assert (reply.status, reply.reason) == (415, "UNSUPPORTED_MEDIA_TYPE")
    large = io.BytesIO(b'{"files":"' + b"x" * 1024 * 1024 + b'"}')
    headers |= JSON
    reply = await phone.gateway.call("POST", "/commands/upload-jobs", data=large, headers=headers)
    assert (reply.status, reply.reason) == (413, "MESSAGE_TOO_LARGE")


async def test_wrong_methods_name_the_right_ones(phone: Phone) -> None:
    for path in ("/commands/upload-jobs", "/commands/upload/progress"):
        reply = await phone.get(path)
        assert (reply.status, reply.reason) == (405, "METHOD_NOT_ALLOWED")
        assert "POST" in reply.headers["allow"]


async def test_allow_names_the_methods_of_all_routes(phone: Phone) -> None:
    """Each method of a path may be a route of its own."""
    reply = await phone.get("/commands/photos/ph_1/tags")
    assert (reply.status, reply.headers["allow"]) == (405, "DELETE, POST")
    reply = await phone.post("/queries/upload-jobs/job_1/events", {})
    assert (reply.status, reply.reason) == (405, "METHOD_NOT_ALLOWED")
    assert reply.headers["allow"] == "GET"
