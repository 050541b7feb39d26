"""`admin verify`: compare every live node of a drive with its object."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, TypeVar

from sluice_core.configuration import ConfigurationError
from sluice_core.errors import DataLoss, NotFound
from sluice_core.ports.catalogue import Catalogue, Drive, Node
from sluice_core.ports.inspection import NodeState
from sluice_core.ports.object_store import ListedObject
from sluice_core.uploads.checksums import EMPTY_CRC32C, crc32c
from sluice_core.uploads.model import ObjectRef
from sluice_repository.admin.backends import AdminBackends
from sluice_repository.admin.report import Report, checksum

NODES_PAGE: Final = 500
OBJECTS_PAGE: Final = 1000
CONCURRENT_HEADS: Final = 16
CONCURRENT_READS: Final = 4

T = TypeVar("T")


class Defect(StrEnum):
    MISSING = "MISSING"
    WRONG_SIZE = "WRONG_SIZE"
    WRONG_CHECKSUM = "WRONG_CHECKSUM"
    """The store's record of the object has another CRC32C than the node."""
    DAMAGED = "DAMAGED"
    """Its bytes were read, and are not those of the node."""
    ORPHAN = "ORPHAN"
    """No node, open upload, photo or scheduled deletion has the object."""
    UNREADABLE = "UNREADABLE"
    """The store cannot read its own description of an object in the drive's bucket, and so not
    whose it is."""


@dataclass(frozen=True, slots=True)
class VerifyOptions:
    tenant: str
    drive: str
    reads_bytes: bool = False
    after: str = ""
    """Path after which the nodes begin."""


@dataclass(slots=True)
class Totals:
    nodes: int = 0
    bytes: int = 0
    defects: dict[Defect, int] = field(default_factory=lambda: dict.fromkeys(Defect, 0))


class DriveCheck:
    """One run over one drive. Its memory does not grow with the drive."""

    def __init__(
        self, backends: AdminBackends, report: Report, stop: asyncio.Event, options: VerifyOptions
    ) -> None:
        if backends.catalogue is None:
            raise ConfigurationError(
                "SLUICE_CATALOGUE=off: there are no drives to verify; set it to mysql or sqlite"
            )
        self._catalogue: Catalogue = backends.catalogue
        self._objects = backends.objects
        self._default_bucket = backends.bucket
        self._report = report
        self._stop = stop
        self._options = options
        self._totals = Totals()

    async def run(self) -> bool:
        """Write a line for each defect; return whether there was none and nothing was left out.

        Raise `NotFound` DRIVE_NOT_FOUND, and what the backends raise.
        """
        drive = await self._catalogue.get_drive(self._options.tenant, self._options.drive)
        is_whole = await self._check_nodes() and await self._check_objects(drive)
        totals = self._totals
        self._report.result(
            "verified" if is_whole else "interrupted",
            {
                "nodes": totals.nodes,
                "bytes": totals.bytes,
                "bytes_read": self._options.reads_bytes,
                **{defect.lower(): count for defect, count in totals.defects.items()},
            },
        )
        return is_whole and not any(totals.defects.values())

    async def _check_nodes(self) -> bool:
        options = self._options
        concurrency = CONCURRENT_READS if options.reads_bytes else CONCURRENT_HEADS
        after = options.after
        while True:
            page = await self._catalogue.list_nodes(
                options.tenant, options.drive, "", NODES_PAGE, after
            )
            async for node, defect in _in_order(page.nodes, self._check, concurrency):
                if self._stop.is_set():
                    self._report.progress(
                        f"interrupted; continue with --after {shlex.quote(after)}"
                        if after
                        else "interrupted before the first node was checked"
                    )
                    return False
                self._totals.nodes += 1
                self._totals.bytes += node.size
                if defect is not None:
                    self._add(defect, node.object, node.size, node)
                after = node.path
            if not page.next_after:
                return True
            self._report.progress(f"{self._totals.nodes} nodes checked, up to {shlex.quote(after)}")

    async def _check(self, node: Node) -> Defect | None:
        defect = await self._defect_of(node)
        if defect is None:
            return None
        # The node may have been deleted or superseded since its page was read, long enough ago for
        # its object to be gone.
        seen = await self._catalogue.inspect_node(node.node_id)
        is_live = seen is not None and seen.state is NodeState.LIVE
        return defect if is_live else None

    async def _defect_of(self, node: Node) -> Defect | None:
        try:
            found = await self._objects.head(node.object)
        except DataLoss:
            return Defect.DAMAGED
        except NotFound:
            return Defect.MISSING  # with its bucket
        if found is None:
            return Defect.MISSING
        if found.size != node.size:
            return Defect.WRONG_SIZE
        if found.crc32c is not None and found.crc32c != node.crc32c:
            return Defect.WRONG_CHECKSUM
        if self._options.reads_bytes and not await self._has_its_bytes(node):
            return Defect.DAMAGED
        return None

    async def _has_its_bytes(self, node: Node) -> bool:
        crc, size = EMPTY_CRC32C, 0
        try:
            async for block in self._objects.read(node.object, 0, node.size):
                crc = await asyncio.to_thread(crc32c, block, crc)
                size += len(block)
                if self._stop.is_set():
                    return True  # nobody asks any more: the run ends before this node
        except (DataLoss, NotFound):
            return False
        return (crc, size) == (node.crc32c, node.size)

    async def _check_objects(self, drive: Drive) -> bool:
        """Look for objects under the drive's prefix that nothing has."""
        bucket = drive.bucket or self._default_bucket
        prefix = f"{drive.key_prefix}{drive.tenant}/{drive.name}/"
        after, listed = "", 0
        while not self._stop.is_set():
            try:
                page = await self._objects.list_objects(bucket, prefix, OBJECTS_PAGE, after)
            except NotFound:
                return True  # some stores make a bucket with its first object
            for place in page.unreadable:
                self._add(Defect.UNREADABLE, ObjectRef(bucket, place), None, None)
            for orphan in await self._orphans(page.objects):
                self._add(Defect.ORPHAN, orphan.ref, orphan.size, None)
            listed += len(page.objects)
            after = page.next_after
            if not after:
                return True
            self._report.progress(f"{listed} objects compared with the catalogue")
        self._report.progress("interrupted among the objects without a node")
        return False

    async def _orphans(self, objects: Sequence[ListedObject]) -> list[ListedObject]:
        known = await self._catalogue.references([each.ref for each in objects])
        return [
            each
            for each in objects
            # One that was deleted since it was listed was scheduled for it.
            if each.ref not in known and await self._exists(each.ref)
        ]

    async def _exists(self, ref: ObjectRef) -> bool:
        try:
            return await self._objects.head(ref) is not None
        except DataLoss:
            return True

    def _add(self, defect: Defect, ref: ObjectRef, size: int | None, node: Node | None) -> None:
        self._totals.defects[defect] += 1
        self._report.result(
            "defect",
            {
                "defect": defect,
                "path": None if node is None else node.path,
                "node_id": None if node is None else node.node_id,
                "bucket": ref.bucket,
                "key": ref.key,
                "size": size,
                "crc32c": None if node is None else checksum(node.crc32c),
            },
        )


async def _in_order(
    nodes: Sequence[Node], check: Callable[[Node], Awaitable[T]], concurrency: int
) -> AsyncIterator[tuple[Node, T]]:
    """Yield the results in the order of the nodes, of which `concurrency` are checked at a time."""
    for at in range(0, len(nodes), concurrency):
        some = nodes[at : at + concurrency]
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_awaited(check(node))) for node in some]
        for node, task in zip(some, tasks, strict=True):
            yield node, task.result()


async def _awaited(call: Awaitable[T]) -> T:
    return await call
