"""`sluice get --recursive`: atomic download of everything under a prefix."""

from __future__ import annotations

import asyncio
import os
import stat
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, nullcontext
from pathlib import Path

from sluice_client.cli import exits
from sluice_client.cli.commands.clashes import Clash, ClashFinder, folded, folds_names
from sluice_client.cli.commands.get import download_record, local_path, make_folder
from sluice_client.cli.display import Display
from sluice_client.cli.drive_path import DrivePath
from sluice_client.cli.output import Output
from sluice_client.cli.text import count_text, size_text
from sluice_client.client import Client
from sluice_client.errors import Internal, InvalidArgument, NotFound, SluiceError
from sluice_client.model import DownloadResult, Node
from sluice_client.tasks import in_thread, single_failure

_QUEUE_NODES = 1024


class RecursiveGet:
    """Download of everything under a prefix, several nodes at once.

    List the nodes twice: first to find those that cannot all be written here, which is an error
    before anything is written; then to download them.
    """

    def __init__(
        self, client: Client, out: Output, place: DrivePath, destination: str | None, parallel: int
    ) -> None:
        self._client = client
        self._out = out
        self._place = place
        self._destination = Path(destination or ".")
        self._parallel = parallel
        self._cut = place.path.rfind("/") + 1
        """The part of the prefix up to its last "/" is not repeated below the destination."""
        self._display = Display(out.console, "Downloading")
        self._queue: asyncio.Queue[Node | None] = asyncio.Queue(_QUEUE_NODES)
        self._done = self._failed = self._bytes = 0
        self._exact = ClashFinder(str)
        self._folded = ClashFinder(folded)
        self._alike = asyncio.Lock()
        """Serializes nodes whose paths differ only in spelling."""
        self._written: set[tuple[int, int]] = set()
        """Device and inode of the files written for those nodes."""

    async def run(self) -> int:
        """Download everything. Return the exit code."""
        started = time.monotonic()
        clashes = await self._find_clashes()
        if clashes:
            return self._report_clashes(clashes)
        await in_thread(make_folder, self._destination)
        with self._display, single_failure():
            async with asyncio.TaskGroup() as group:
                group.create_task(self._list())
                for _ in range(self._parallel):
                    group.create_task(self._work())
        seconds = time.monotonic() - started
        failed = f"; {self._failed:,} failed" if self._failed else ""
        self._out.message(
            f"{count_text(self._done, 'file')} downloaded and verified,"
            f" {size_text(self._bytes)} in {seconds:.1f} s{failed}"
        )
        return exits.SOME_FAILED if self._failed else exits.OK

    async def _find_clashes(self) -> list[Clash]:
        """Return the clashes below the destination. Raise NotFound when there is no node."""
        listed = 0
        async for node in self._nodes():
            listed += 1
            self._exact.add(self._relative(node))
            self._folded.add(self._relative(node))
        if not listed:
            raise NotFound("NODE_NOT_FOUND", f"no path begins with {self._place}")
        finder = self._exact
        if (
            not finder.suspicious
            and self._folded.suspicious
            and await in_thread(folds_names, self._destination)
        ):
            finder = self._folded
        if not finder.suspicious:
            return []
        async for node in self._nodes():
            finder.name(self._relative(node))
        return finder.clashes()

    def _report_clashes(self, clashes: list[Clash]) -> int:
        drive = self._place.drive
        for clash in clashes:
            message = f"{clash}; get them one by one, or into different folders"
            self._out.message(f"failed   {drive}: {message}")
            self._out.record(
                {
                    "status": "failed",
                    "drive": drive,
                    "paths": [self._place.path[: self._cut] + path for path in clash.nodes],
                    "reason": "LOCAL_PATH_CLASH",
                    "message": message,
                }
            )
        self._out.error(
            f"{count_text(len(clashes), 'clash', 'clashes')} below {self._destination};"
            " nothing was downloaded"
        )
        return exits.SOME_FAILED

    def _relative(self, node: Node) -> str:
        return node.path[self._cut :]

    async def _nodes(self) -> AsyncGenerator[Node, None]:
        """Yield the nodes under the prefix. Raise Internal when the server lists another one."""
        nodes = self._client.list_nodes(self._place.drive, self._place.path)
        async with aclosing(nodes):
            async for node in nodes:
                if not node.path.startswith(self._place.path):
                    raise Internal(
                        "FOREIGN_NODE", f"the server lists {node.path!r} below {self._place}"
                    )
                yield node

    async def _list(self) -> None:
        async for node in self._nodes():
            self._display.add_file(node.size)
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
        relative = self._relative(node)
        async with self._alike if self._folded.is_suspect(relative) else nullcontext():
            target = await in_thread(self._free_path, relative)
            result = await self._download(node, target)
            if self._folded.suspicious:
                status = await in_thread(os.stat, target)
                self._written.add((status.st_dev, status.st_ino))
        self._done += 1
        self._bytes += result.size
        self._out.record(download_record(result, target))

    def _free_path(self, relative: str) -> Path:
        """Return the path of the node: a free path, or a file that this run did not write."""
        target = local_path(self._destination, relative)
        try:
            status = os.lstat(target)
        except FileNotFoundError:
            return target
        if not stat.S_ISREG(status.st_mode):
            raise InvalidArgument(
                "DESTINATION_NOT_A_FILE",
                f"{target} exists and is not a regular file; it was not replaced",
            )
        if (status.st_dev, status.st_ino) in self._written:
            raise InvalidArgument(
                "LOCAL_PATH_CLASH",
                f"{target} is one file with another node of this run; download it separately",
            )
        return target

    async def _download(self, node: Node, target: Path) -> DownloadResult:
        with self._display.bar(node.path, node.size) as bar:
            # By id, so that the listing and the bytes are of one version.
            result = await self._client.download(
                target, node_id=node.node_id, on_progress=bar.update
            )
            bar.advance_to(result.size)
        return result

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
