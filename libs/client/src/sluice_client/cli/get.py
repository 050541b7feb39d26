"""`sluice get`: one node, or everything under a prefix, to files that are whole or not there."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path, PurePosixPath

from sluice_client.cli import exits
from sluice_client.cli.addresses import DrivePath
from sluice_client.cli.display import Display
from sluice_client.cli.output import Output
from sluice_client.cli.text import count_text, encodable, size_text
from sluice_client.client import Client
from sluice_client.errors import InvalidArgument, NotFound, SluiceError
from sluice_client.model import DownloadResult, Node
from sluice_client.tasks import in_thread, single_failure

_QUEUE_NODES = 1024


async def get_one(
    client: Client,
    out: Output,
    place: DrivePath,
    destination: str | None,
    thumbnail_size: int = 0,
) -> int:
    """One node, or its thumbnail, to a file, into a folder, or to standard output (`-`)."""
    if destination == "-":
        await _to_standard_output(client, place, thumbnail_size)
        return exits.OK
    name = PurePosixPath(place.path).name
    if thumbnail_size:
        name = await _thumbnail_name(client, place, thumbnail_size)
    target = Path(destination) if destination is not None else Path(name)
    if await in_thread(target.is_dir):
        target = await in_thread(local_path, target, name)
    with Display(out.console, "Downloading") as display, display.bar(str(place), None) as bar:
        result = await client.download(
            target,
            drive=place.drive,
            path=place.path,
            thumbnail_size=thumbnail_size,
            on_progress=bar.update,
        )
    out.record(_record(result, target))
    if not out.json_lines:
        out.message(f"{target}: {size_text(result.size)} in {result.seconds:.1f} s, verified")
    return exits.OK


async def _thumbnail_name(client: Client, place: DrivePath, size: int) -> str:
    """`holiday-256.webp` for holiday.jpg: what a thumbnail is, and not what the photo was."""
    node = await client.stat(drive=place.drive, path=place.path)
    thumbnails = () if node.processing is None else node.processing.thumbnails
    kinds = [one.content_type for one in thumbnails if one.size == size]
    # There is none: asking for it says why.
    kind = kinds[0].rpartition("/")[2] if kinds else ""
    suffix = {"jpeg": "jpg"}.get(kind, kind)
    if not (suffix.isascii() and suffix.isalnum()):
        suffix = "image"
    return f"{PurePosixPath(place.path).stem}-{size}.{suffix}"


async def _to_standard_output(client: Client, place: DrivePath, thumbnail_size: int) -> None:
    blocks = client.read(drive=place.drive, path=place.path, thumbnail_size=thumbnail_size)
    async for block in blocks:
        await in_thread(sys.stdout.buffer.write, block)
    await in_thread(sys.stdout.buffer.flush)


class RecursiveGet:
    """Everything under a prefix, several nodes at once."""

    def __init__(
        self, client: Client, out: Output, place: DrivePath, destination: str | None, parallel: int
    ) -> None:
        self._client = client
        self._out = out
        self._place = place
        self._destination = Path(destination or ".")
        self._parallel = parallel
        self._cut = place.path.rfind("/") + 1
        """What the prefix has in front of its last "/" is not repeated below the destination."""
        self._display = Display(out.console, "Downloading")
        self._queue: asyncio.Queue[Node | None] = asyncio.Queue(_QUEUE_NODES)
        self._done = self._failed = self._bytes = 0

    async def run(self) -> int:
        """Download everything; the exit code."""
        started = time.monotonic()
        await in_thread(self._destination.mkdir, parents=True, exist_ok=True)
        with self._display, single_failure():
            async with asyncio.TaskGroup() as group:
                group.create_task(self._list())
                for _ in range(self._parallel):
                    group.create_task(self._work())
        if not self._done and not self._failed:
            raise NotFound("NODE_NOT_FOUND", f"no path begins with {self._place}")
        seconds = time.monotonic() - started
        failed = f"; {self._failed:,} failed" if self._failed else ""
        self._out.message(
            f"{count_text(self._done, 'file')} downloaded and verified,"
            f" {size_text(self._bytes)} in {seconds:.1f} s{failed}"
        )
        return exits.SOME_FAILED if self._failed else exits.OK

    async def _list(self) -> None:
        nodes: AsyncIterator[Node] = self._client.list_nodes(self._place.drive, self._place.path)
        async for node in nodes:
            self._display.found(node.size)
            await self._queue.put(node)
        for _ in range(self._parallel):
            await self._queue.put(None)

    async def _work(self) -> None:
        while (node := await self._queue.get()) is not None:
            try:
                await self._one(node)
            except SluiceError as error:
                if exits.exit_code(error) != exits.SOME_FAILED:
                    raise
                self._report_failure(node, error.reason, exits.explain(error))
            except OSError as error:
                self._report_failure(node, "UNWRITABLE", exits.explain(error))
            self._display.file_done()

    async def _one(self, node: Node) -> None:
        target = await in_thread(local_path, self._destination, node.path[self._cut :])
        with self._display.bar(node.path, node.size) as bar:
            # By id: the listing and the bytes are of one version.
            result = await self._client.download(
                target, node_id=node.node_id, on_progress=bar.update
            )
            bar.advance_to(result.size)
        self._done += 1
        self._bytes += result.size
        self._out.record(_record(result, target))

    def _report_failure(self, node: Node, reason: str, message: str) -> None:
        self._failed += 1
        self._out.message(f"failed   {node.drive}:{node.path}: {message}")
        self._out.record(
            {
                "status": "failed",
                "drive": node.drive,
                "path": node.path,
                "reason": reason,
                "message": message,
            }
        )


def local_path(destination: Path, relative: str) -> Path:
    """Where a node goes below the destination, with its folders made; blocking.

    A server decides what nodes are called, so nothing it says may lead out of the destination:
    no absolute path, no "..", and no symbolic link on the way. Raises InvalidArgument UNSAFE_PATH.
    """
    segments = relative.split("/")
    if any(segment in ("", ".", "..") or "\0" in segment for segment in segments):
        raise _unsafe(relative)
    root = destination.resolve()
    folder = root
    for segment in segments[:-1]:
        folder = folder / segment
        if folder.is_symlink():
            raise _unsafe(relative)
        folder.mkdir(exist_ok=True)
    return folder / segments[-1]


def _unsafe(relative: str) -> InvalidArgument:
    return InvalidArgument(
        "UNSAFE_PATH", f"{relative!r} would be written outside of the destination; left out"
    )


def _record(result: DownloadResult, target: Path) -> dict[str, object]:
    return {
        "status": "completed",
        "drive": result.node.drive,
        "path": result.node.path,
        "node_id": result.node.node_id,
        "destination": encodable(str(target)),
        "size": result.size,
        "crc32c": f"{result.node.crc32c:08x}",
        "seconds": round(result.seconds, 6),
    }
