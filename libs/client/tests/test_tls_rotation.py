"""Certificates that are replaced while a client runs."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from sluice_client import Client, ClientOptions, TlsFailed, TlsOptions
from support.certificates import Authority, Issued, TlsPaths, write_tls
from support.certificates import replace as replace_file
from support.fake_intake import CHUNK_BYTES, FakeIntake
from support.fake_repository import FakeRepository, serving_both
from support.token_table import TokenTable

DATA = random.Random(7).randbytes(4 * CHUNK_BYTES)


@pytest.fixture(autouse=True)
def _unrationed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Check the files at every call."""
    monkeypatch.setattr("sluice_client.watched_files.CHECK_SECONDS", 0.0)


@pytest.fixture(scope="module")
def old() -> Authority:
    return Authority("the old authority")


@pytest.fixture(scope="module")
def new() -> Authority:
    return Authority("the new authority")


@pytest.fixture
def paths(tmp_path: Path, old: Authority) -> TlsPaths:
    return write_tls(tmp_path / "tls", old, old.issue())


@pytest.fixture
def options(fast_options: ClientOptions, paths: TlsPaths) -> ClientOptions:
    tls = TlsOptions(ca_file=paths.ca, cert_file=paths.cert, key_file=paths.key)
    return replace(fast_options, tls=tls)


@pytest.fixture
def table() -> TokenTable:
    """Not for its tokens: it sees which connections calls come from."""
    return TokenTable("t")


@pytest.fixture
async def server(
    intake: FakeIntake, repository: FakeRepository, table: TokenTable
) -> AsyncIterator[Server]:
    async with Server(intake, repository, table) as server:
        yield server


class Server:
    """A server that requires client certificates and can change its own."""

    def __init__(self, intake: FakeIntake, repository: FakeRepository, table: TokenTable) -> None:
        self._fakes = intake, repository
        self._table = table
        self._running = AsyncExitStack()
        self._port = 0

    async def __aenter__(self) -> Server:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._running.aclose()

    async def start(self, issued: Issued, *client_cas: Authority) -> str:
        """Serve, instead of what was served before. Return the address of the first time."""
        await self._running.aclose()
        credentials = grpc.ssl_server_credentials(
            [(issued.key, issued.cert)],
            root_certificates=b"".join(one.pem for one in client_cas),
            require_client_auth=True,
        )
        address = await self._running.enter_async_context(
            serving_both(
                *self._fakes, credentials=credentials, interceptors=[self._table], port=self._port
            )
        )
        self._port = int(address.rpartition(":")[2])
        return f"https://{address}"


async def test_new_files_are_used_for_the_next_call(
    server: Server, options: ClientOptions, paths: TlsPaths, old: Authority, new: Authority
) -> None:
    """The server trusts and shows the new authority only, and so does the client by then."""
    target = await server.start(old.issue(), old)
    async with Client(target, token="t", options=options) as client:
        await client.limits()
        await server.start(new.issue(), new)
        write_tls(paths.folder, new, new.issue())
        await client.create_drive("d")


async def test_calls_in_progress_end_on_the_old_connection(
    server: Server,
    options: ClientOptions,
    paths: TlsPaths,
    intake: FakeIntake,
    table: TokenTable,
    old: Authority,
    new: Authority,
) -> None:
    target = await server.start(old.issue(), old)
    intake.hold_from = 2
    async with Client(target, token="t", options=options) as client:
        upload = asyncio.create_task(client.upload(DATA, drive="d", path="p", streams=1))
        await intake.received(2)
        before = table.peers[-1]
        replace_file(paths.ca, old.pem + new.pem)
        old.issue().write(paths)
        await client.create_drive("d")
        assert table.peers[-1] != before, "a new connection"
        await intake.release()
        await upload
        assert intake.calls["UploadStream"] == 1, "the stream was not reopened"
        assert intake.completed[0].data == DATA
        retired = client._connections[0]._channels._retired
        async with asyncio.timeout(10):
            while not all(one.is_closed for one in retired):
                await client.create_drive("d")
        assert len(retired) >= 1


async def test_cancelled_call_does_not_lose_the_change(
    server: Server, options: ClientOptions, paths: TlsPaths, table: TokenTable, old: Authority
) -> None:
    """It is cancelled while a thread reads the new files."""
    target = await server.start(old.issue(), old)
    async with Client(target, token="t", options=options) as client:
        await client.create_drive("d")
        old.issue().write(paths)
        call = asyncio.create_task(client.create_drive("d"))
        await asyncio.sleep(0)
        call.cancel()
        await asyncio.wait([call])
        assert call.cancelled()
        await client.create_drive("d")
    assert len(set(table.peers)) == 2


async def test_download_in_progress_is_not_disturbed(
    server: Server,
    options: ClientOptions,
    paths: TlsPaths,
    repository: FakeRepository,
    old: Authority,
) -> None:
    """Every block of it meets new files and a call of another kind."""
    repository.put("d", "p", DATA)
    target = await server.start(old.issue(), old)
    async with Client(target, token="t", options=options) as client:
        read = b""
        async for block in client.read(drive="d", path="p"):
            read += block
            old.issue().write(paths)
            await client.create_drive("d")
        assert read == DATA
    assert repository.read_from == [0]


async def test_idle_client_keeps_one_connection(
    server: Server, options: ClientOptions, table: TokenTable, old: Authority
) -> None:
    """Unchanged files are no reason to connect again."""
    target = await server.start(old.issue(), old)
    async with Client(target, token="t", options=options) as client:
        for _ in range(5):
            await client.create_drive("d")
    assert len(set(table.peers)) == 1


@pytest.mark.parametrize("broken", ["no ca", "empty ca", "other key", "no key"])
async def test_unusable_files_leave_the_last_good_ones(
    server: Server,
    options: ClientOptions,
    paths: TlsPaths,
    table: TokenTable,
    old: Authority,
    broken: str,
) -> None:
    target = await server.start(old.issue(), old)
    async with Client(target, token="t", options=options) as client:
        await client.create_drive("d")
        match broken:
            case "no ca":
                paths.ca.unlink()
            case "empty ca":
                paths.ca.write_bytes(b"")
            case "other key":
                replace_file(paths.key, old.issue().key)
            case _:
                paths.key.unlink()
        await client.create_drive("d")
        assert len(set(table.peers)) == 1
        write_tls(paths.folder, old, old.issue())
        await client.create_drive("d")
        assert len(set(table.peers)) == 2, "whole files are used again"


async def test_server_that_rotates_first_is_waited_for(
    server: Server, options: ClientOptions, paths: TlsPaths, old: Authority, new: Authority
) -> None:
    """A client that was connected goes on trying until its files follow."""
    target = await server.start(old.issue(), old)
    async with Client(target, token="t", options=options) as client:
        await client.limits()
        await server.start(new.issue(), old, new)
        waiting = asyncio.create_task(client.create_drive("d"))
        await _failed_once(client)
        assert not waiting.done()
        replace_file(paths.ca, new.pem)
        await waiting


async def _failed_once(client: Client) -> None:
    """Return when the server's certificate is known to be refused."""
    with pytest.raises(TlsFailed, match="SERVER_NOT_TRUSTED") as caught:
        await client._intake.limits()
    assert caught.value.retryable
