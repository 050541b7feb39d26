"""Destinations of a download: replaced, written into, or unchanged."""

from __future__ import annotations

import asyncio
import errno
import os
import random
import socket
import stat
import subprocess
import sys
import tty
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sluice_client import Client, DataLoss, Phase, Progress
from sluice_client.downloads import destinations
from support.fake_intake import FakeIntake
from support.fake_repository import FakeRepository, serving_both

DATA = random.Random(9).randbytes(300_000)


@pytest.fixture
async def repository() -> FakeRepository:
    repository = FakeRepository()
    repository.put("d", "p", DATA)
    return repository


@pytest.fixture
async def client(repository: FakeRepository) -> AsyncIterator[Client]:
    async with (
        serving_both(FakeIntake(), repository) as address,
        Client(address) as client,
    ):
        yield client


async def test_fifo_is_written_into(client: Client, tmp_path: Path) -> None:
    """The content exceeds the pipe's capacity, and the reader comes late."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    waits: asyncio.Queue[str] = asyncio.Queue()

    def note(progress: Progress) -> None:
        if progress.waiting_for:
            waits.put_nowait(progress.waiting_for)

    downloading = asyncio.create_task(client.download(pipe, drive="d", path="p", on_progress=note))
    async with asyncio.timeout(20):
        assert "reader" in await waits.get()
    assert await asyncio.to_thread(pipe.read_bytes) == DATA
    assert (await downloading).verified
    assert stat.S_ISFIFO(pipe.lstat().st_mode)
    assert [path.name for path in tmp_path.iterdir()] == ["pipe"]


async def test_download_that_waits_for_a_reader_can_be_cancelled(
    client: Client, tmp_path: Path
) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    waiting = asyncio.Event()
    downloading = asyncio.create_task(
        client.download(pipe, drive="d", path="p", on_progress=lambda _: waiting.set())
    )
    async with asyncio.timeout(20):
        await waiting.wait()
        downloading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await downloading


async def test_device_is_written_into(client: Client, tmp_path: Path) -> None:
    """The terminal belongs to the test: nothing is lost if it is replaced."""
    main, terminal = os.openpty()
    tty.setraw(terminal)
    link = tmp_path / "terminal"
    link.symlink_to(os.ttyname(terminal))

    def read() -> bytes:
        data = b""
        while len(data) < len(DATA):
            data += os.read(main, 65536)
        return data

    reading = asyncio.create_task(asyncio.to_thread(read))
    assert (await client.download(link, drive="d", path="p")).verified
    assert await reading == DATA
    assert stat.S_ISCHR(link.stat().st_mode)
    assert link.is_symlink()
    os.close(terminal)
    os.close(main)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
async def test_full_disk_names_the_destination_and_leaves_nothing(
    client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def full(_: object) -> destinations.Sink:
        async def refuse(_: bytes) -> None:
            raise OSError(number, os.strerror(number))

        return refuse

    monkeypatch.setattr(destinations, "write_to", full)
    with pytest.raises(OSError) as caught:  # noqa: PT011 (the fields are checked)
        await client.download(tmp_path / "file", drive="d", path="p")
    assert (caught.value.errno, caught.value.filename) == (number, str(tmp_path / "file"))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("there", [True, False], ids=["a file", "nothing"])
async def test_link_is_followed(client: Client, tmp_path: Path, there: bool) -> None:
    (tmp_path / "elsewhere").mkdir()
    target = tmp_path / "elsewhere" / "target"
    if there:
        target.write_bytes(b"before")
    (tmp_path / "between").symlink_to("elsewhere/target")
    (tmp_path / "link").symlink_to("between")
    await client.download(tmp_path / "link", drive="d", path="p")
    assert target.read_bytes() == DATA
    assert not target.is_symlink()
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "between").is_symlink()
    assert [path.name for path in target.parent.iterdir()] == ["target"]


async def test_damaged_bytes_leave_what_a_link_names(
    client: Client, repository: FakeRepository, tmp_path: Path
) -> None:
    repository.flip_a_bit = True
    (tmp_path / "target").write_bytes(b"before")
    (tmp_path / "link").symlink_to("target")
    with pytest.raises(DataLoss):
        await client.download(tmp_path / "link", drive="d", path="p")
    assert (tmp_path / "target").read_bytes() == b"before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "target"]


async def test_descriptor_is_written_where_it_stands(client: Client, tmp_path: Path) -> None:
    file = tmp_path / "file"
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, b"before")
    inode = file.stat().st_ino
    await client.download(f"/dev/fd/{descriptor}", drive="d", path="p")
    os.write(descriptor, b"after")
    os.close(descriptor)
    assert file.read_bytes() == b"before" + DATA + b"after"
    assert file.stat().st_ino == inode


async def test_link_loop_is_named(client: Client, tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError, match="loop") as caught:
        await client.download(tmp_path / "loop", drive="d", path="p")
    assert caught.value.errno == errno.ELOOP


async def test_socket_is_not_replaced(client: Client, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        with pytest.raises(OSError, match="socket"):
            await client.download(tmp_path / "s", drive="d", path="p")
    assert stat.S_ISSOCK((tmp_path / "s").lstat().st_mode)


async def test_folder_is_refused_as_destination(
    client: Client, repository: FakeRepository, tmp_path: Path
) -> None:
    """The error comes before the first byte is requested."""
    for destination in (str(tmp_path), f"{tmp_path}/", f"{tmp_path}/new/"):
        with pytest.raises(IsADirectoryError):
            await client.download(destination, drive="d", path="p")
    assert repository.read_from == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "number"),
    [("missing/file", errno.ENOENT), ("file/x", errno.ENOTDIR), ("x" * 256, errno.ENAMETOOLONG)],
)
async def test_error_names_the_path_that_was_given(
    client: Client, tmp_path: Path, name: str, number: int
) -> None:
    (tmp_path / "file").touch()
    destination = tmp_path / name
    with pytest.raises(OSError) as caught:  # noqa: PT011 (the fields are checked)
        await client.download(destination, drive="d", path="p")
    assert (caught.value.errno, caught.value.filename) == (number, str(destination))


async def test_longest_name_is_written(client: Client, tmp_path: Path) -> None:
    for name in ("x" * 255, "あ" * 85):
        await client.download(tmp_path / name, drive="d", path="p")
        assert (tmp_path / name).read_bytes() == DATA


async def test_wait_says_what_for(
    client: Client, repository: FakeRepository, tmp_path: Path
) -> None:
    repository.break_after_blocks = [2]
    seen: list[str] = []

    def note(progress: Progress) -> None:
        if progress.phase is Phase.WAITING:
            seen.append(progress.waiting_for)

    await client.download(tmp_path / "file", drive="d", path="p", on_progress=note)
    assert len(seen) == 1
    assert "STORE_UNAVAILABLE" in seen[0]


_UMASK_SCRIPT = """
import asyncio, os, pathlib, stat, sys
from sluice_client import Client
from support.fake_intake import FakeIntake
from support.fake_repository import FakeRepository, serving_both

async def main(folder):
    os.umask(0o077)
    changes = []
    change, os.umask = os.umask, lambda mask: changes.append(mask)
    repository = FakeRepository()
    repository.put("d", "p", b"x" * 50_000)
    async with serving_both(FakeIntake(), repository) as address, Client(address) as client:
        async with asyncio.TaskGroup() as group:
            for number in range(60):
                group.create_task(client.download(folder / str(number), drive="d", path="p"))
    modes = {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    print(sorted(map(oct, modes)), changes, oct(change(0)))

asyncio.run(main(pathlib.Path(sys.argv[1])))
"""


def test_umask_is_kept_and_never_changed(tmp_path: Path) -> None:
    """In a separate process: the umask applies to all threads of a process."""
    tests = Path(__file__).parents[3] / "tests"
    done = subprocess.run(
        [sys.executable, "-c", _UMASK_SCRIPT, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(tests)},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout.strip() == "['0o600'] [] 0o77"
