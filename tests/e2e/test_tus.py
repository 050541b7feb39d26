"""Resumable uploads through a gateway to a server process: the files that they become."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from support.foreign_clients import node_client
from support.gateway import Gateway, TusBackend, running_gateway
from support.server import StandaloneServer, standalone
from support.tus import CutPatch, TusClient, content_at, delete_at, finish, node_paths

MIB = 1024 * 1024
DRIVE = "photos"
EXAMPLES = Path(__file__).resolve().parents[2] / "docs" / "examples"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StandaloneServer]:
    with standalone(tmp_path_factory.mktemp("server") / "data") as running:
        yield running


@asynccontextmanager
async def gateway_of(
    server: StandaloneServer, folder: Path, repository: str | None = None
) -> AsyncIterator[Gateway]:
    folder.mkdir(exist_ok=True)
    backend = TusBackend(server.address, repository or server.repository_address)
    async with running_gateway(folder, tus=backend) as gateway:
        yield gateway


@pytest.fixture
async def tus(server: StandaloneServer, tmp_path: Path) -> AsyncIterator[TusClient]:
    async with gateway_of(server, tmp_path) as gateway:
        yield TusClient(gateway)


async def stored(server: StandaloneServer, path: str) -> str:
    """Return the SHA-256 of a node."""
    return sha256(await content_at(server.repository_address, DRIVE, path))


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("size", [0, 1, MIB, MIB + 1, 9 * MIB + 7])
async def test_upload_becomes_a_file(server: StandaloneServer, tus: TusClient, size: int) -> None:
    content = random.Random(size).randbytes(size)
    target = f"sizes/{size}"
    path = await tus.created(size, {"path": target})
    if size > 0:
        assert (await tus.patch(path, 0, content)).headers["upload-offset"] == str(size)
    assert await stored(server, target) == sha256(content)
    assert await tus.offset(path) == size


async def test_stored_upload_can_be_terminated(server: StandaloneServer, tus: TusClient) -> None:
    path = (await tus.create(5, {"path": "unwanted"}, b"hello")).headers["location"]
    assert "unwanted" in await node_paths(server.repository_address, DRIVE)
    assert (await tus.send("DELETE", path)).status == 204
    assert "unwanted" not in await node_paths(server.repository_address, DRIVE)


async def test_deleted_file_is_gone_for_its_upload(
    server: StandaloneServer, tus: TusClient
) -> None:
    """By a termination, and by anybody else: a client that resumes has to begin anew."""
    terminated = (await tus.create(5, {"path": "unwanted"}, b"hello")).headers["location"]
    assert (await tus.send("DELETE", terminated)).status == 204
    replaced = (await tus.create(5, {"path": "removed"}, b"hello")).headers["location"]
    assert (await tus.head(replaced)).status == 200
    await delete_at(server.repository_address, DRIVE, "removed")
    for path in (terminated, replaced):
        assert (await tus.head(path)).status == 410
        for reply in (await tus.patch(path, 5, b""), await tus.send("DELETE", path)):
            assert (reply.status, reply.reason) == (410, "UPLOAD_GONE")
            assert reply.json()["metadata"] == {"state": "DELETED"}


async def partials_of(tus: TusClient, content: bytes, cuts: tuple[int, ...]) -> str:
    """Upload the pieces between the cuts; return the `Upload-Concat` of the whole."""
    paths = []
    for begin, end in zip((0, *cuts), (*cuts, len(content)), strict=True):
        path = await tus.created(end - begin, upload_concat="partial")
        if end > begin:
            assert (await tus.patch(path, 0, content[begin:end])).status == 204
        paths.append(path)
    return f"final;{' '.join(paths)}"


async def test_final_upload_is_its_partial_uploads(
    server: StandaloneServer, tus: TusClient
) -> None:
    content = random.Random(1).randbytes(10 * MIB + 3)
    concat = await partials_of(tus, content, (5, 5, 2 * MIB, 9 * MIB + 1))
    first = await tus.create(metadata={"path": "whole"}, upload_concat=concat)
    assert first.status == 201
    assert "upload-offset" not in first.headers
    assert await stored(server, "whole") == sha256(content)
    described = await tus.head(first.headers["location"])
    assert described.headers["upload-concat"] == concat
    assert described.headers["upload-offset"] == described.headers["upload-length"]
    refused = await tus.patch(first.headers["location"], len(content), b"")
    assert (refused.status, refused.reason) == (403, "UPLOAD_IS_FINAL")
    again = await tus.create(metadata={"path": "whole"}, upload_concat=concat)
    assert (again.status, again.headers["location"]) == (201, first.headers["location"])
    paths = await node_paths(server.repository_address, DRIVE)
    assert not [path for path in paths if path.startswith(".tus/")]


async def test_interrupted_concatenation_continues(
    server: StandaloneServer, tus: TusClient, tmp_path: Path
) -> None:
    """The repository is away from one replica when the partial uploads are to be read."""
    content = random.Random(2).randbytes(3 * MIB)
    concat = await partials_of(tus, content, (MIB + 1,))
    async with gateway_of(server, tmp_path / "cut-off", "127.0.0.1:1") as cut_off:
        failed = await TusClient(cut_off).create(metadata={"path": "late"}, upload_concat=concat)
        assert (failed.status, failed.reason) == (503, "INTAKE_UNAVAILABLE")
    done = await tus.create(metadata={"path": "late"}, upload_concat=concat)
    assert done.status == 201
    assert await stored(server, "late") == sha256(content)


@pytest.mark.slow
async def test_killed_server_keeps_what_was_acknowledged(tmp_path: Path) -> None:
    """SIGKILL inside a body and between bodies; the upload goes on behind its offset."""
    content = random.Random(4).randbytes(12 * MIB + 5)
    with standalone(tmp_path / "data") as server:
        async with gateway_of(server, tmp_path / "gateway") as gateway:
            tus = TusClient(gateway)
            path = await tus.created(len(content), {"path": "survivor"})
            acknowledged = 0
            for size in (3 * MIB + 1, 4 * MIB):
                body = content[acknowledged : acknowledged + size]
                assert (await tus.patch(path, acknowledged, body)).status == 204
                acknowledged += size
                rest = content[acknowledged:]
                cut = await CutPatch.begin(tus, path, acknowledged, len(rest), rest[: 2 * MIB])
                async with asyncio.timeout(60):
                    while await tus.offset(path) < acknowledged + MIB:  # noqa: ASYNC110
                        await asyncio.sleep(0.02)
                acknowledged = await tus.offset(path)
                await asyncio.to_thread(server.kill)
                assert (await tus.head(path)).status == 503
                await asyncio.to_thread(server.start)
                cut.reset()
                async with asyncio.timeout(60):
                    while (await tus.head(path)).status != 200:  # noqa: ASYNC110 - reconnects
                        await asyncio.sleep(0.1)
                offset = await tus.offset(path)
                assert offset >= acknowledged
                acknowledged = offset
            await finish(tus, path, content)
            assert await stored(server, "survivor") == sha256(content)


async def test_examples_run_as_documented(
    server: StandaloneServer, tus: TusClient, tmp_path: Path
) -> None:
    """docs/examples: with curl in two halves, with tus-js-client at once."""
    file = tmp_path / "example.jpg"
    file.write_bytes(random.Random(6).randbytes(3 * MIB + 1))
    node = await asyncio.to_thread(node_client, "tus")
    for command, said in (
        (("sh", str(EXAMPLES / "tus_upload.sh")), f"{file.stat().st_size} of 3145729 bytes"),
        (("node", str(EXAMPLES / "tus_upload.js")), "uploaded: http"),
    ):
        process = await asyncio.create_subprocess_exec(
            *command,
            tus.gateway.url,
            str(file),
            env=node.environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        printed, errors = await process.communicate()
        assert process.returncode == 0, errors.decode()
        assert said in printed.decode()
    paths = await node_paths(server.repository_address, DRIVE)
    examples = [path for path in paths if path.endswith("/example.jpg")]
    assert len(examples) == 2
    for path in examples:
        assert await stored(server, path) == sha256(file.read_bytes())


@pytest.mark.long
@pytest.mark.measures
async def test_memory_does_not_grow_with_the_upload(
    server: StandaloneServer, tus: TusClient
) -> None:
    """The gateway runs in this process, which makes the body as it goes."""
    size, block = 256 * MIB, random.Random(5).randbytes(MIB)
    process = psutil.Process()
    peak = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal peak
        for _ in range(size // MIB):
            yield block
            peak = max(peak, process.memory_info().rss)

    warm = await tus.created(8 * MIB, {"path": "warm"})
    await tus.patch(warm, 0, block * 8)
    before = process.memory_info().rss
    path = await tus.created(size, {"path": "large"})
    assert (await tus.patch(path, 0, body())).headers["upload-offset"] == str(size)
    assert peak - before < 48 * MIB
