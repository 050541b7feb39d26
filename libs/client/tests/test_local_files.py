"""Named descriptors, pipes that wait, and the version of a file that was read."""

from __future__ import annotations

import asyncio
import os
import random
import socket
from pathlib import Path

import pytest

from sluice_client import Client, FileIdentity, Phase, Progress, SourceChanged
from sluice_client.local_files import DescriptorThread, descriptor_blocks, named_descriptor
from support.fake_intake import CHUNK_BYTES, FakeIntake

DATA = random.Random(8).randbytes(3 * CHUNK_BYTES + 7)


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    return path


def feed(pipe: Path, data: bytes) -> None:
    pipe.write_bytes(data)


def test_descriptor_is_found_by_each_of_its_names(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("/dev/fd/7")
    assert named_descriptor("/dev/stdin") == 0
    assert named_descriptor("/dev/fd/63") == 63
    assert named_descriptor("/proc/self/fd/5") == 5
    assert named_descriptor(f"/proc/{os.getpid()}/fd/5") == 5
    assert named_descriptor(link) == 7
    for other in ("/proc/1/fd/5", "/dev/fd/x", "/dev/fd", "/dev/null", tmp_path, tmp_path / "no"):
        assert named_descriptor(other) is None


def test_link_loop_names_no_descriptor(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert named_descriptor(tmp_path / "a") is None


def test_removed_working_folder_names_no_descriptor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "removed"
    folder.mkdir()
    monkeypatch.chdir(folder)
    folder.rmdir()
    assert named_descriptor("x") is None
    assert named_descriptor("/dev/stdin") == 0


@pytest.mark.parametrize("size", [0, 1, len(DATA)])
async def test_fifo_is_read_to_its_end(
    client: Client, intake: FakeIntake, pipe: Path, size: int
) -> None:
    """The writer comes after the reader; an open FIFO without a writer is not at its end."""
    uploading = asyncio.create_task(client.upload(pipe, drive="d", path="p"))
    await asyncio.to_thread(feed, pipe, DATA[:size])
    result = await uploading
    assert intake.completed[0].data == DATA[:size]
    assert (result.size, result.source_identity) == (size, None)


async def test_pipe_is_read_by_the_name_of_its_descriptor(
    client: Client, intake: FakeIntake
) -> None:
    read_end, write_end = os.pipe()
    os.write(write_end, b"through /dev/fd")
    os.close(write_end)
    await client.upload(f"/dev/fd/{read_end}", drive="d", path="p")
    assert intake.completed[0].data == b"through /dev/fd"
    os.close(read_end)


async def test_socket_is_read_by_the_name_of_its_descriptor(
    client: Client, intake: FakeIntake
) -> None:
    """Reopening such a name fails, as it does for standard input under some supervisors."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"by socket")
        theirs.shutdown(socket.SHUT_WR)
        await client.upload(f"/dev/fd/{ours.fileno()}", drive="d", path="p")
    assert intake.completed[0].data == b"by socket"


async def test_regular_descriptor_is_read_from_where_it_stands(
    client: Client, intake: FakeIntake, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"0123456789")
    descriptor = os.open(tmp_path / "file", os.O_RDONLY)
    os.read(descriptor, 4)
    await client.upload(f"/proc/self/fd/{descriptor}", drive="d", path="p")
    assert intake.completed[0].data == b"456789"
    os.close(descriptor)


async def test_cancelled_read_of_a_silent_pipe_returns(client: Client, pipe: Path) -> None:
    uploading = asyncio.create_task(client.upload(pipe, drive="d", path="p"))
    await asyncio.sleep(0)
    # The FIFO is open as soon as a writer can open it without waiting.
    writer = await asyncio.to_thread(os.open, pipe, os.O_WRONLY)
    uploading.cancel()
    async with asyncio.timeout(20):
        with pytest.raises(asyncio.CancelledError):
            await uploading
    os.close(writer)


async def test_cancelled_write_to_a_full_pipe_returns() -> None:
    read_end, write_end = os.pipe()
    async with DescriptorThread(write_end) as thread:
        writing = asyncio.create_task(thread.write(bytes(1 << 20)))
        first = await asyncio.to_thread(os.read, read_end, 1)
        writing.cancel()
        async with asyncio.timeout(20):
            with pytest.raises(asyncio.CancelledError):
                await writing
    assert first == b"\0"
    assert os.get_blocking(write_end), "the descriptor is shared with others"
    os.close(read_end)
    os.close(write_end)


async def test_blocks_of_a_fast_writer_are_coalesced() -> None:
    read_end, write_end = os.pipe()

    def write() -> None:
        with open(write_end, "wb") as file:
            file.write(DATA)

    writing = asyncio.create_task(asyncio.to_thread(write))
    blocks = [block async for block in descriptor_blocks(read_end)]
    await writing
    assert b"".join(blocks) == DATA
    os.close(read_end)


@pytest.mark.parametrize("size", [0, 100, len(DATA)])
async def test_identity_is_that_of_what_was_read(
    client: Client, intake: FakeIntake, tmp_path: Path, size: int
) -> None:
    """A file that replaces another one during its upload has a different identity."""
    file = tmp_path / "file"
    file.write_bytes(DATA[:size])
    before = FileIdentity.of(file.stat())
    (tmp_path / "new").write_bytes(bytes(size))

    def replace(progress: Progress) -> None:
        if progress.phase is not Phase.DONE and (tmp_path / "new").exists():
            os.rename(tmp_path / "new", file)

    result = await client.upload(file, drive="d", path="p", on_progress=replace)
    assert intake.completed[0].data == DATA[:size]
    assert result.source_identity == before
    assert FileIdentity.of(file.stat()) != before


async def test_hard_link_made_meanwhile_is_no_change(
    client: Client, intake: FakeIntake, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_bytes(DATA)

    def link(progress: Progress) -> None:
        if not (tmp_path / "link").exists():
            os.link(file, tmp_path / "link")

    await client.upload(file, drive="d", path="p", on_progress=link)
    assert intake.completed[0].data == DATA


async def test_content_written_under_the_old_time_is_a_change(
    client: Client, intake: FakeIntake, tmp_path: Path
) -> None:
    """Size, inode and modification time are unchanged; only the change time differs."""
    file = tmp_path / "file"
    file.write_bytes(DATA)
    status = file.stat()
    changed = False

    def change(progress: Progress) -> None:
        nonlocal changed
        if progress.phase is Phase.SENDING and not changed:
            changed = True
            with open(file, "r+b") as opened:
                opened.write(b"other")
            os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))

    with pytest.raises(SourceChanged):
        await client.upload(file, drive="d", path="p", on_progress=change)
    assert intake.completed == []


@pytest.mark.parametrize("change", ["grow", "truncate"])
async def test_file_that_grows_or_shrinks_becomes_no_node(
    client: Client, intake: FakeIntake, tmp_path: Path, change: str
) -> None:
    file = tmp_path / "file"
    file.write_bytes(DATA)
    size = len(DATA) + 1 if change == "grow" else 10
    with pytest.raises(SourceChanged, match="file"):
        await client.upload(
            file, drive="d", path="p", on_progress=lambda _: os.truncate(file, size)
        )
    assert intake.completed == []
