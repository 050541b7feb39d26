"""Downloads: complete and verified, or absent."""

from __future__ import annotations

import io
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice_client import (
    Client,
    ClientOptions,
    DataLoss,
    DrivePolicy,
    Integrity,
    InvalidArgument,
    NotFound,
    RetryPolicy,
)
from support.fake_intake import FakeIntake
from support.fake_repository import FakeRepository, serving_both

DATA = random.Random(5).randbytes(75_003)
FAST = ClientOptions(retry=RetryPolicy(first_delay_seconds=0.001, longest_delay_seconds=0.01))


@pytest.fixture
async def repository() -> FakeRepository:
    repository = FakeRepository()
    repository.put("d", "p", DATA)
    repository.put("d", "empty", b"")
    return repository


@pytest.fixture
async def client(repository: FakeRepository) -> AsyncIterator[Client]:
    async with (
        serving_both(FakeIntake(), repository) as address,
        Client(address, options=FAST) as client,
    ):
        yield client


async def test_node_arrives_in_a_file(client: Client, tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"what was there before")
    result = await client.download(target, drive="d", path="p")
    assert target.read_bytes() == DATA
    assert result.verified
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("path", ["p", "empty"])
async def test_node_arrives_in_memory_and_in_a_file_object(client: Client, path: str) -> None:
    expected = DATA if path == "p" else b""
    result = await client.download(drive="d", path=path)
    assert (result.data, result.verified) == (expected, True)
    buffer = io.BytesIO()
    await client.download(buffer, drive="d", path=path)
    assert buffer.getvalue() == expected


@settings(max_examples=30, deadline=None)
@given(
    offset=st.integers(0, len(DATA)),
    length=st.none() | st.integers(0, len(DATA) + 10),
    breaks=st.lists(st.integers(0, 8), max_size=6),
)
async def test_any_range_arrives_over_any_broken_streams(
    offset: int, length: int | None, breaks: list[int]
) -> None:
    repository = FakeRepository()
    node = repository.put("d", "p", DATA)
    repository.break_after_blocks = list(breaks)
    async with (
        serving_both(FakeIntake(), repository) as address,
        Client(address, options=FAST) as client,
    ):
        result = await client.download(node_id=node.node_id, offset=offset, length=length)
    expected = DATA[offset:] if length is None else DATA[offset : offset + length]
    assert result.data == expected
    assert result.verified == (expected == DATA)


async def test_broken_stream_resumes_where_it_broke(
    client: Client, repository: FakeRepository
) -> None:
    repository.break_after_blocks = [3, 0, 2]
    assert (await client.download(drive="d", path="p")).data == DATA
    assert repository.read_from == [0, 30_000, 30_000, 50_000]


async def test_replaced_node_does_not_mix_versions(
    client: Client, repository: FakeRepository
) -> None:
    repository.break_after_blocks = [2]
    blocks = client.read(drive="d", path="p")
    first = await anext(blocks)
    superseded = repository.nodes.pop("d:p")
    repository.put("d", "p", bytes(len(DATA)))
    with pytest.raises(NotFound):
        async for _ in blocks:
            pass
    assert DATA.startswith(first)
    assert superseded.node_id != repository.nodes["d:p"].node_id


async def test_damaged_bytes_are_an_error_and_leave_no_file(
    client: Client, repository: FakeRepository, tmp_path: Path
) -> None:
    repository.flip_a_bit = True
    target = tmp_path / "file"
    target.write_bytes(b"before")
    with pytest.raises(DataLoss, match="CHECKSUM_MISMATCH"):
        await client.download(target, drive="d", path="p")
    assert target.read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


async def test_missing_node_leaves_no_file(client: Client, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        await client.download(tmp_path / "file", drive="d", path="nothing")
    assert list(tmp_path.iterdir()) == []


async def test_file_gets_the_rights_of_the_users_umask(client: Client, tmp_path: Path) -> None:
    ordinary = tmp_path / "ordinary"
    ordinary.touch()
    await client.download(tmp_path / "file", drive="d", path="p")
    assert (tmp_path / "file").stat().st_mode == ordinary.stat().st_mode


@pytest.mark.parametrize("names", [{}, {"drive": "d"}, {"node_id": "n", "drive": "d", "path": "p"}])
async def test_node_is_named_in_one_way(client: Client, names: dict[str, str]) -> None:
    with pytest.raises(InvalidArgument, match="BAD_NODE"):
        await client.stat(**names)


async def test_nodes_are_listed_page_by_page(client: Client, repository: FakeRepository) -> None:
    for number in range(5):
        repository.put("other", f"a/{number}", b"")
    assert [node.path async for node in client.list_nodes("other", "a/")] == [
        f"a/{number}" for number in range(5)
    ]
    assert [node.path async for node in client.list_nodes("other", "b")] == []


async def test_metadata_is_replaced(client: Client) -> None:
    node = await client.update_node("node-0", {"camera": "M6"})
    assert (dict(node.metadata), node.version) == ({"camera": "M6"}, 2)


async def test_drive_is_created_found_and_listed(client: Client) -> None:
    with pytest.raises(NotFound, match="DRIVE_NOT_FOUND"):
        await client.get_drive("nothing")
    created = await client.create_drive("d", policy=DrivePolicy(integrity=Integrity.CRC))
    assert await client.get_drive("d") == created
    assert [drive.name async for drive in client.list_drives()] == ["d"]


async def test_deleted_node_is_gone(client: Client) -> None:
    deleted = await client.delete(drive="d", path="p")
    assert deleted == "node-0"
    with pytest.raises(NotFound, match="NODE_NOT_FOUND"):
        await client.stat(drive="d", path="p")
