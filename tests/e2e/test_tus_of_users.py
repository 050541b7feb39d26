"""Resumable uploads of registered users to `sluice serve`, without keys and by TLS."""

from __future__ import annotations

import sqlite3
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from support.certificates import Authority, write_tls
from support.gateway import ANN, BOB
from support.pictures import as_stored, quadrants, saved
from support.server import StandaloneServer, standalone
from support.tus import BODY_TYPE, RESUMABLE, encoded
from support.waiting import until

CAT = {"email": "cat@example.com", "password": "correct horse"}
DAN = {"email": "dan@example.com", "password": "battery staple"}
AUTHORITY = Authority()
PHOTO = saved(as_stored(quadrants(), 6), "JPEG", quality=92)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandaloneServer]:
    with standalone(tmp_path_factory.mktemp("server") / "data") as running:
        yield running


@dataclass
class User:
    """A registered user of a server."""

    http: aiohttp.ClientSession
    base: str
    context: ssl.SSLContext | None
    token: str = ""
    user_id: str = ""

    async def call(
        self, method: str, path: str, body: Any = None, **named: Any
    ) -> aiohttp.ClientResponse:
        headers = {**named.pop("headers", {})}
        if self.token:
            headers["authorization"] = f"Bearer {self.token}"
        if body is not None:
            named["json"] = body
        answer = await self.http.request(
            method, self.base + path, headers=headers, ssl=self.context or True, **named
        )
        await answer.read()
        return answer

    async def upload(self, content: bytes, metadata: Mapping[str, str]) -> str:
        """Upload by tus in one request; return the upload's path."""
        headers = {
            **RESUMABLE,
            "upload-length": str(len(content)),
            "upload-metadata": encoded(metadata),
            "content-type": BODY_TYPE,
        }
        answer = await self.call("POST", "/files", headers=headers, data=content)
        assert answer.status == 201, await answer.text()
        return answer.headers["location"]

    async def photo(self, photo_id: str) -> Any:
        return await (await self.call("GET", f"/queries/photos/{photo_id}")).json()


@asynccontextmanager
async def users_of(
    server: StandaloneServer, *credentials: Mapping[str, str], is_tls: bool = False
) -> AsyncIterator[list[User]]:
    context = ssl.create_default_context(cadata=AUTHORITY.pem.decode()) if is_tls else None
    scheme = "https" if is_tls else "http"
    async with aiohttp.ClientSession() as http:
        users = []
        for each in credentials:
            user = User(http, f"{scheme}://{server.gateway_address}", context)
            answer = await user.call("POST", "/api/auth/register", dict(each))
            session = await answer.json()
            user.token, user.user_id = session["token"], session["user"]["userId"]
            users.append(user)
        yield users


def owners_of(server: StandaloneServer, path: str) -> set[tuple[str, str]]:
    """Return tenant and drive of every live node with this path."""
    database = server.data_dir / "catalogue.sqlite"
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        found = connection.execute(
            "SELECT drives.tenant, drives.name FROM nodes JOIN drives USING (drive_id)"
            " WHERE nodes.path = ? AND nodes.state = 'LIVE'",
            (path.encode(),),
        )
        return {(str(as_text(tenant)), str(name)) for tenant, name in found}


def as_text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


async def test_tus_upload_lands_with_its_user(server: StandaloneServer) -> None:
    """The gRPC services of a server without keys take every caller for the local one."""
    async with users_of(server, ANN, BOB) as (ann, bob):
        place = await ann.upload(b"of ann", {"path": "letter"})
        await bob.upload(b"of bob", {"path": "letter"})
        assert (await bob.call("HEAD", place, headers=RESUMABLE)).status == 404
        local = User(ann.http, ann.base, None)
        await local.upload(b"of nobody", {"path": "letter"})
        expected = {(ann.user_id, "photos"), (bob.user_id, "photos"), ("default", "photos")}
        assert owners_of(server, "letter") == expected
        forged = User(ann.http, ann.base, None, "abc")
        assert (await forged.call("HEAD", place, headers=RESUMABLE)).status == 401


async def test_server_with_tls_calls_itself(tmp_path: Path) -> None:
    """Its certificate is from an authority that neither it nor this machine trusts."""
    paths = write_tls(tmp_path / "tls", AUTHORITY, AUTHORITY.issue())
    environment = {
        "SLUICE_TLS__CERT_FILE": str(paths.cert),
        "SLUICE_TLS__KEY_FILE": str(paths.key),
    }
    with standalone(tmp_path / "data", environment) as server:
        async with users_of(server, ANN, is_tls=True) as (ann,):
            await ann.upload(b"secret", {"path": "letter"})
            assert owners_of(server, "letter") == {(ann.user_id, "photos")}


async def test_photo_of_a_job_arrives_by_tus(server: StandaloneServer) -> None:
    async with users_of(server, CAT, DAN) as (ann, bob):
        file = {"filename": "a.jpg", "mimeType": "image/jpeg", "bytes": len(PHOTO)}
        body = {"files": [file], "strategy": "tus"}
        job = await (await ann.call("POST", "/commands/upload-jobs", body)).json()
        (item,) = job["items"]
        photo_id, where = item["photoId"], item["presignedUrl"]
        foreign = await bob.call("POST", where, headers=item["headers"])
        assert (foreign.status, (await foreign.json())["reason"]) == (404, "PHOTO_NOT_FOUND")
        other = {**item["headers"], "upload-length": str(len(PHOTO) + 1)}
        refused = await ann.call("POST", where, headers=other)
        assert (refused.status, (await refused.json())["reason"]) == (422, "BAD_PHOTO_SIZE")

        created = await ann.call(item["method"], where, headers=item["headers"])
        assert created.status == 201
        assert (await ann.photo(photo_id))["status"] == "UPLOADING"
        early = await ann.call("POST", f"/commands/upload/{photo_id}/finalize")
        assert (await early.json())["reason"] == "OBJECT_MISSING"
        headers = {**RESUMABLE, "upload-offset": "0", "content-type": BODY_TYPE}
        location = created.headers["location"]
        assert (await ann.call("PATCH", location, headers=headers, data=PHOTO)).status == 204

        async def completed() -> bool:
            return bool((await ann.photo(photo_id))["status"] == "COMPLETED")

        await until(completed)
        photo = await ann.photo(photo_id)
        assert (photo["filename"], len(photo["thumbnails"])) == ("a.jpg", 2)
        again = await ann.call("POST", where, headers=item["headers"])
        assert (again.status, (await again.json())["reason"]) == (409, "PHOTO_ENDED")
