"""Text in requests: normalized to NFC, refused when it cannot be sent."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice_client import Client, DrivePolicy, InvalidArgument, PermissionDenied
from sluice_client.names import is_utf8, normalize_path
from support.fake_intake import CHUNK_BYTES, FakeIntake
from support.fake_repository import FakeRepository
from support.scripted_faults import Break, StreamFault

BAD = "bad-\udcff"
NFC, NFD = (unicodedata.normalize(form, "Müllers Fotos") for form in ("NFC", "NFD"))


@pytest.fixture
async def repository() -> FakeRepository:
    return FakeRepository()


Call = Callable[[Client], Awaitable[object]]


async def listed(client: Client, drive: str, prefix: str) -> None:
    async for _ in client.list_nodes(drive, prefix):
        pass


@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.upload(b"x", drive=BAD, path="p"),
        lambda c: c.upload(b"x", drive="d", path=BAD),
        lambda c: c.upload(b"x", drive="d", path="p", content_type=BAD),
        lambda c: c.upload(b"x", drive="d", path="p", metadata={BAD: ""}),
        lambda c: c.upload(b"x", drive="d", path="p", metadata={"key": BAD}),
        lambda c: c.download(node_id=BAD),
        lambda c: c.download(drive="d", path=BAD),
        lambda c: anext(c.read(drive=BAD, path="p")),
        lambda c: c.status(BAD),
        lambda c: anext(c.watch(BAD)),
        lambda c: c.abort(BAD),
        lambda c: c.stat(drive="d", path=BAD),
        lambda c: listed(c, "d", BAD),
        lambda c: listed(c, BAD, ""),
        lambda c: c.update_node(BAD, {}),
        lambda c: c.update_node("n", {"key": BAD}),
        lambda c: c.delete(drive="d", path=BAD),
        lambda c: c.create_drive(BAD),
        lambda c: c.create_drive("d", bucket=BAD),
        lambda c: c.create_drive("d", key_prefix=BAD),
        lambda c: c.create_drive("d", policy=DrivePolicy(storage_class=BAD)),
        lambda c: c.get_drive(BAD),
    ],
)
async def test_text_that_is_not_utf8_is_an_invalid_argument(client: Client, call: Call) -> None:
    with pytest.raises(InvalidArgument, match="NOT_UTF8"):
        await call(client)


@pytest.mark.parametrize(
    "call",
    [
        lambda c: c.download(node_id="n", offset=2**80),
        lambda c: c.update_node("n", {}, if_version=2**80),
        lambda c: c.create_drive("d", policy=DrivePolicy(part_bytes=-(2**80))),
    ],
)
async def test_number_that_cannot_be_sent_is_an_invalid_argument(
    client: Client, call: Call
) -> None:
    with pytest.raises(InvalidArgument, match="BAD_VALUE"):
        await call(client)


@pytest.mark.parametrize(("target", "token"), [(BAD, None), ("x:1", BAD), ("x:1", "a\nb")])
async def test_address_and_token_that_cannot_be_sent_are_invalid(
    target: str, token: str | None
) -> None:
    with pytest.raises(InvalidArgument, match=r"BAD_TARGET|BAD_TOKEN"):
        async with Client(target, token=token):
            pass


async def test_both_spellings_of_a_path_are_one_node(
    client: Client, repository: FakeRepository
) -> None:
    repository.put("d", f"{NFC}/a", b"content")
    assert (await client.stat(drive="d", path=f"{NFD}/a")).path == f"{NFC}/a"
    assert (await client.download(drive="d", path=f"{NFD}/a")).data == b"content"
    assert [node.path async for node in client.list_nodes("d", NFD)] == [f"{NFC}/a"]
    await client.delete(drive="d", path=f"{NFD}/a")
    assert repository.nodes == {}


async def test_both_spellings_of_a_path_are_one_upload(
    client: Client, intake: FakeIntake, tmp_path: Path
) -> None:
    """The second run finds the journal of the first, which was interrupted."""
    file = tmp_path / "file"
    file.write_bytes(random.Random(1).randbytes(3 * CHUNK_BYTES))
    intake.stream_faults = [StreamFault(5, Break.DENIED)]
    with pytest.raises(PermissionDenied):
        await client.upload(file, drive="d", path=f"{NFD}/a", streams=1)
    result = await client.upload(file, drive="d", path=f"{NFC}/a")
    assert (result.upload_id, result.path) == ("n1-1", f"{NFC}/a")
    assert intake.completed[0].request.path == f"{NFC}/a"


@given(st.text())
def test_normalized_text_is_stable_and_can_be_sent(text: str) -> None:
    if is_utf8(text):
        once = normalize_path(text)
        assert normalize_path(once) == once
        once.encode()
    else:
        with pytest.raises(InvalidArgument):
            normalize_path(text)
