"""Resumable uploads by tus-js-client and by Uppy, which run in Node."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.foreign_clients import Command, node_client
from support.gateway import Gateway, TusBackend, running_gateway
from support.server import StandaloneServer, standalone
from support.tus import content_at, node_paths

MIB = 1024 * 1024
CONTENT = random.Random(3).randbytes(24 * MIB + 7)
RUN_SECONDS = 120


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandaloneServer]:
    with standalone(tmp_path_factory.mktemp("server") / "data") as running:
        yield running


@dataclass
class JsClient:
    """The script, and what it uploads where."""

    command: Command
    gateway: Gateway
    server: StandaloneServer
    folder: Path

    async def run(self, **options: Any) -> Any:
        """Run it to its end; return what it prints."""
        given = {
            "endpoint": f"{self.gateway.url}/files/",
            "file": str(self.folder / "photo.bin"),
            "storage": str(self.folder / "urls.json"),
            **options,
        }
        process = await asyncio.create_subprocess_exec(
            *self.command.arguments,
            json.dumps(given),
            env=self.command.environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(RUN_SECONDS):
                printed, errors = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode == 0, errors.decode()
        return json.loads(printed)

    async def stored(self, path: str) -> bytes:
        return await content_at(self.server.repository_address, "photos", path)

    async def status(self, url: str) -> int:
        headers = {"tus-resumable": "1.0.0"}
        path = url.removeprefix(self.gateway.url)
        return (await self.gateway.call("HEAD", path, headers=headers)).status


@pytest.fixture
async def client(server: StandaloneServer, tmp_path: Path) -> AsyncIterator[JsClient]:
    command = await asyncio.to_thread(node_client, "tus")
    (tmp_path / "photo.bin").write_bytes(CONTENT)
    backend = TusBackend(server.address, server.repository_address)
    async with running_gateway(tmp_path, tus=backend) as gateway:
        yield JsClient(command, gateway, server, tmp_path)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"chunkSize": 5 * MIB},
        {"chunkSize": 1_300_007},
        {"uploadDataDuringCreation": True},
        {"uploadDataDuringCreation": True, "chunkSize": 5 * MIB},
    ],
)
async def test_tus_js_client_uploads(client: JsClient, options: dict[str, Any]) -> None:
    path = f"{len(options)}-{options.get('chunkSize')}.bin"
    done = await client.run(metadata={"path": path}, **options)
    assert {status for _, status in done["requests"]} <= {201, 204}
    assert await client.stored(path) == CONTENT


async def test_tus_js_client_uploads_in_parallel(client: JsClient) -> None:
    """Partial uploads on connections of their own, then a final one."""
    done = await client.run(metadata={"path": "parallel.bin"}, parallelUploads=4)
    methods = [method for method, _ in done["requests"]]
    assert (methods.count("POST"), methods.count("PATCH")) == (5, 4)
    assert await client.stored("parallel.bin") == CONTENT
    paths = await node_paths(client.server.repository_address, "photos")
    assert not [path for path in paths if path.startswith(".tus/")], "the parts are gone"


@pytest.mark.parametrize("parallel", [1, 3])
async def test_tus_js_client_resumes_after_abort(client: JsClient, parallel: int) -> None:
    path = f"resumed-{parallel}.bin"
    done = await client.run(metadata={"path": path}, parallelUploads=parallel, abortAt=2 * MIB)
    assert done["before"]["aborted"]
    assert done["requests"][0] == ["HEAD", 200], "it goes on where the server is"
    assert await client.stored(path) == CONTENT


async def test_tus_js_client_terminates(client: JsClient) -> None:
    ended = await client.run(metadata={"path": "never.bin"}, abortAt=2 * MIB, terminate=True)
    assert ["DELETE", 204] in ended["requests"]
    assert "never.bin" not in await node_paths(client.server.repository_address, "photos")


async def test_uppy_uploads(client: JsClient) -> None:
    done = await client.run(client="uppy", files=3, metadata=None)
    assert done["failed"] == []
    assert [await client.status(url) for url in done["urls"]] == [200] * 3
    paths = await node_paths(client.server.repository_address, "photos")
    stored = [path for path in paths if "/photo " in path]
    assert sorted(path.rpartition("/")[2] for path in stored) == [
        "photo 0.jpg",
        "photo 1.jpg",
        "photo 2.jpg",
    ]
    for path in stored:
        assert await client.stored(path) == CONTENT
