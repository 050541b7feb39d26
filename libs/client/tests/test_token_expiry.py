"""Tokens that expire during transfers: the client goes on with the next one where it was."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from sluice_client import (
    Client,
    ClientOptions,
    NotFound,
    TokenExpired,
    TokenSource,
    Unauthenticated,
    UploadState,
)
from sluice_client.tokens import Tokens
from sluice_client.uploads.intake_api import InitiateRequest
from support.fake_intake import CHUNK_BYTES, FakeIntake
from support.fake_repository import FakeRepository, serving_both
from support.scripted_faults import CallFault
from support.token_table import TokenTable

DATA = random.Random(13).randbytes(20 * CHUNK_BYTES - 5)


@pytest.fixture
def table() -> TokenTable:
    return TokenTable("t1")


@pytest.fixture
async def address(
    intake: FakeIntake, repository: FakeRepository, table: TokenTable
) -> AsyncIterator[str]:
    async with serving_both(intake, repository, interceptors=[table]) as address:
        yield address


class Issuer:
    """An async function that returns `t1`, `t2`, …; the table accepts only the newest."""

    def __init__(self, table: TokenTable) -> None:
        self._table = table
        self.issued = 0

    async def __call__(self) -> str:
        self.issued += 1
        self._table.valid = {f"t{self.issued}"}
        return f"t{self.issued}"


@pytest.fixture
def issuer(table: TokenTable) -> Issuer:
    return Issuer(table)


@pytest.fixture
async def client(
    address: str, issuer: Issuer, fast_options: ClientOptions
) -> AsyncIterator[Client]:
    async with Client(address, token=issuer, options=fast_options) as client:
        yield client


@pytest.mark.parametrize("streams", [1, 4])
@pytest.mark.parametrize("after", [0, 2, 5])
async def test_upload_goes_on_with_the_next_token(
    client: Client, intake: FakeIntake, table: TokenTable, issuer: Issuer, streams: int, after: int
) -> None:
    """Streams that fail together ask for one token; what the server has is not sent again."""
    table.expire_at["UploadStream"] = after
    result = await client.upload(DATA, drive="d", path="p", streams=streams)
    (upload,) = intake.completed
    assert upload.data == DATA
    assert (result.restarts, len(intake.uploads)) == (0, 1)
    assert intake.resent == []
    assert issuer.issued == 2
    assert table.calls["UploadStream", "t2"] >= 1


async def test_upload_survives_one_expiry_after_another(
    client: Client, intake: FakeIntake, table: TokenTable, issuer: Issuer
) -> None:
    """Each token lasts for two chunks: their number is not bounded while the upload advances."""
    due = iter(range(2, 100, 2))

    def again() -> None:
        table.expire_at["UploadStream"] = next(due)

    again()
    table.on_expiry = again
    await client.upload(DATA, drive="d", path="p", streams=1)
    assert intake.completed[0].data == DATA
    assert issuer.issued >= 6


async def test_one_way_source_survives_an_expired_token(
    client: Client, intake: FakeIntake, table: TokenTable
) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(DATA), 10_000):
            yield DATA[at : at + 10_000]

    table.expire_at["UploadStream"] = 3
    await client.upload(pieces(), drive="d", path="p")
    assert intake.completed[0].data == DATA


@pytest.mark.parametrize("method", ["GetLimits", "InitiateUpload", "CompleteUpload", "WatchUpload"])
async def test_every_step_of_an_upload_goes_on(
    client: Client, intake: FakeIntake, table: TokenTable, issuer: Issuer, method: str
) -> None:
    intake.hold_completing = 1
    table.expire_at[method] = 0
    await client.upload(DATA, drive="d", path="p")
    assert intake.completed[0].data == DATA
    assert issuer.issued == 2
    assert (table.calls[method, "t1"], table.calls[method, "t2"]) == (1, 1)


async def test_download_goes_on_where_it_was(
    client: Client, repository: FakeRepository, table: TokenTable
) -> None:
    repository.put("d", "p", DATA)
    table.expire_at["ReadNode"] = 3
    result = await client.download(drive="d", path="p")
    assert (result.data, result.verified) == (DATA, True)
    assert repository.read_from == [0, 20_000], "the first message has the node, then two blocks"


async def test_watch_goes_on(client: Client, intake: FakeIntake, table: TokenTable) -> None:
    intake.hold_completing = 4
    opened = await client._intake.initiate(_whole())
    table.expire_at["WatchUpload"] = 0
    async for snapshot in client.watch(opened.upload_id):
        assert snapshot.state is UploadState.COMPLETED
    assert (table.calls["WatchUpload", "t1"], table.calls["WatchUpload", "t2"]) == (1, 1)


async def test_pages_go_on(client: Client, repository: FakeRepository, table: TokenTable) -> None:
    for number in range(5):
        repository.put("d", f"p{number}", b"x")
    found = []
    async for node in client.list_nodes("d"):
        found.append(node.path)
        if len(found) == 2:
            table.expire()
    assert found == [f"p{number}" for number in range(5)]


async def test_new_token_in_the_file_is_used(
    address: str, fast_options: ClientOptions, intake: FakeIntake, table: TokenTable, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text("t1\n")

    def issue() -> None:
        file.write_text("t2\n")
        table.valid = {"t2"}

    table.on_expiry = issue
    table.expire_at["UploadStream"] = 2
    async with Client(address, token=file, options=fast_options) as client:
        await client.upload(DATA, drive="d", path="p", streams=1)
    assert intake.completed[0].data == DATA
    assert intake.resent == []


async def test_file_replaced_after_the_refusal_is_used(
    address: str, fast_options: ClientOptions, intake: FakeIntake, table: TokenTable, tmp_path: Path
) -> None:
    """The server's clock is a moment ahead of the one that replaces the file."""
    file = tmp_path / "token"
    file.write_text("t1\n")
    table.expire_at["UploadStream"] = 2

    async def replace_after_refusal() -> None:
        async with asyncio.timeout(20):
            await table.has_refused.wait()
        table.valid = {"t2"}
        file.write_text("t2\n")

    async with Client(address, token=file, options=fast_options) as client:
        replacing = asyncio.create_task(replace_after_refusal())
        await client.upload(DATA, drive="d", path="p", streams=1)
        await replacing
    assert intake.completed[0].data == DATA


@pytest.mark.parametrize("kind", ["text", "file", "function"])
async def test_same_token_again_ends_the_upload(
    address: str,
    fast_options: ClientOptions,
    intake: FakeIntake,
    table: TokenTable,
    tmp_path: Path,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Tokens, "replacement_seconds", 0.0)
    file = tmp_path / "token"
    file.write_text("t1")

    async def same() -> str:
        return "t1"

    sources: dict[str, TokenSource] = {"text": "t1", "file": file, "function": same}
    table.expire_at["UploadStream"] = 2
    async with Client(address, token=sources[kind], options=fast_options) as client:
        with pytest.raises(TokenExpired) as caught:
            await client.upload(DATA, drive="d", path="p", streams=1)
    assert (caught.value.reason, caught.value.retryable) == ("TOKEN_EXPIRED", False)
    assert table.calls["UploadStream", "t1"] == 1


async def test_upload_resumes_in_another_run_with_a_token(
    address: str, fast_options: ClientOptions, intake: FakeIntake, table: TokenTable, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    source.write_bytes(DATA)
    table.expire_at["UploadStream"] = 3
    async with Client(address, token="t1", options=fast_options) as client:
        with pytest.raises(TokenExpired):
            await client.upload(source, drive="d", path="p", streams=1)
    table.valid = {"t2"}
    async with Client(address, token="t2", options=fast_options) as client:
        result = await client.upload(source, drive="d", path="p", streams=1)
    assert result.skipped_bytes >= 3 * CHUNK_BYTES
    assert len(intake.uploads) == 1


async def test_tokens_that_are_expired_when_issued_end_it(
    address: str, fast_options: ClientOptions, table: TokenTable
) -> None:
    issued = 0

    async def stale() -> str:
        nonlocal issued
        issued += 1
        table.expired.add(f"stale{issued}")
        return f"stale{issued}"

    async with Client(address, token=stale, options=fast_options) as client:
        with pytest.raises(TokenExpired):
            await client.limits()
    assert issued <= 5


async def test_refused_token_is_replaced(client: Client, table: TokenTable, issuer: Issuer) -> None:
    """Its key was withdrawn before it expired."""
    await client.limits()
    table.valid = {"another"}
    assert [drive async for drive in client.list_drives()] == []
    assert (table.calls["ListDrives", "t1"], issuer.issued) == (1, 2)


async def test_refused_replacement_is_not_retried(
    address: str, fast_options: ClientOptions
) -> None:
    issued = 0

    async def wrong() -> str:
        nonlocal issued
        issued += 1
        return f"wrong{issued}"

    async with Client(address, token=wrong, options=fast_options) as client:
        for _ in range(3):
            with pytest.raises(Unauthenticated, match="BAD_TOKEN"):
                await client.limits()
    assert issued == 2


async def test_stream_goes_on_after_a_refused_token(
    client: Client, intake: FakeIntake, table: TokenTable, issuer: Issuer
) -> None:
    intake.call_faults["UploadStream"] = [
        CallFault(grpc.StatusCode.UNAUTHENTICATED, reason="BAD_TOKEN")
    ]
    await client.upload(DATA, drive="d", path="p", streams=1)
    assert intake.completed[0].data == DATA
    assert issuer.issued == 2
    assert table.calls["UploadStream", "t1"] == table.calls["UploadStream", "t2"] == 1


async def test_missing_credentials_ask_for_no_token(
    client: Client, intake: FakeIntake, issuer: Issuer
) -> None:
    intake.call_faults["UploadStream"] = [
        CallFault(grpc.StatusCode.UNAUTHENTICATED, reason="NO_CREDENTIALS")
    ]
    with pytest.raises(Unauthenticated, match="NO_CREDENTIALS"):
        await client.upload(DATA, drive="d", path="p", streams=1)
    assert issuer.issued == 1


async def test_calls_refused_for_other_reasons_confirm_tokens(
    client: Client, table: TokenTable, issuer: Issuer
) -> None:
    """A client that finds nothing goes on through any number of tokens."""
    for number in range(1, 7):
        with pytest.raises(NotFound):
            await client.stat(drive="d", path="missing")
        assert issuer.issued == number
        table.expire()


async def test_both_services_get_the_token(
    address: str, fast_options: ClientOptions, table: TokenTable
) -> None:
    """The repository's own connection shares the token and its renewals."""
    async with serving_both(FakeIntake(), FakeRepository(), interceptors=[table]) as other:
        options = replace(fast_options, repository_target=other)
        issuer = Issuer(table)
        async with Client(address, token=issuer, options=options) as client:
            await client.limits()
            table.expire()
            assert [drive async for drive in client.list_drives()] == []
            await client.abort((await client._intake.initiate(_whole())).upload_id)
    assert table.calls["ListDrives", "t2"] == table.calls["AbortUpload", "t2"] == 1
    assert issuer.issued == 2


def _whole() -> InitiateRequest:
    return InitiateRequest("d", "p", "request", crc32c=0, inline_data=b"x")
