"""Reading a node's bytes back, whole or in part, and signing URLs for them."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from sluice_core.errors import (
    Aborted,
    DataLoss,
    InvalidArgument,
    NotFound,
    OutOfRange,
    SluiceError,
)
from sluice_core.ledger.options import Clock
from sluice_core.objects.body import closing
from sluice_core.ports.catalogue import MAX_DOWNLOAD_URL_SECONDS, Catalogue, Node
from sluice_core.ports.object_store import ObjectStore
from sluice_core.uploads.checksums import EMPTY_CRC32C, crc32c

DEFAULT_DOWNLOAD_URL_SECONDS = 15 * 60


@dataclass(frozen=True, slots=True)
class DownloadUrl:
    url: str
    expires_at: float


class NodeReader:
    """Turns a node into bytes."""

    def __init__(
        self, catalogue: Catalogue, objects: ObjectStore, clock: Clock = time.time
    ) -> None:
        self._catalogue = catalogue
        self._objects = objects
        self._clock = clock

    async def read(self, node: Node, offset: int, length: int | None) -> AsyncIterator[bytes]:
        """The bytes [offset, offset + length) of a node, in blocks of at most 1 MiB.

        A range that reaches beyond the end stops there; one that begins beyond it is refused. The
        object is the node's own, so that a node whose path is taken over during the read goes on
        being read. A read of the whole is held against the node's CRC32C.

        Raises:
            InvalidArgument: BAD_RANGE, a negative offset or length.
            OutOfRange: OFFSET_BEYOND_END.
            Aborted: NODE_REPLACED, the node ended and its object is gone; read the path again.
            DataLoss: OBJECT_MISSING, OBJECT_TRUNCATED, OBJECT_DAMAGED. Detected at the latest at
                the end: a reader that keeps what it got must wait for the end of the stream.
        """
        wanted = _length_of(node, offset, length)
        if wanted == 0:
            return
        whole = wanted == node.size
        crc, received = EMPTY_CRC32C, 0
        try:
            async with closing(self._objects.read(node.object, offset, wanted)) as blocks:
                async for block in blocks:
                    received += len(block)
                    if whole:
                        crc = crc32c(block, crc)
                    yield block
        except NotFound as error:
            raise await self._why_gone(node) from error
        if received != wanted:
            raise _damaged("OBJECT_TRUNCATED", f"ends {wanted - received} bytes early")
        if whole and crc != node.crc32c:
            raise _damaged("OBJECT_DAMAGED", "does not match its CRC32C")

    async def download_url(self, node: Node, lifetime_seconds: int) -> DownloadUrl:
        """A URL by which anyone can read the object for `lifetime_seconds`.

        Raises `InvalidArgument` BAD_LIFETIME, `Unimplemented` PRESIGN_UNSUPPORTED.
        """
        if not 1 <= lifetime_seconds <= MAX_DOWNLOAD_URL_SECONDS:
            raise InvalidArgument(
                "BAD_LIFETIME",
                f"A download URL lives 1 to {MAX_DOWNLOAD_URL_SECONDS} seconds.",
                field="lifetime",
            )
        # Before signing: the answer may promise less than the URL keeps, never more.
        expires_at = self._clock() + lifetime_seconds
        filename = node.path.rpartition("/")[2]
        url = await self._objects.presign_get(node.object, lifetime_seconds, filename)
        return DownloadUrl(url, expires_at)

    async def _why_gone(self, node: Node) -> SluiceError:
        """The object is not there: because the node has ended since, or by a loss."""
        try:
            await self._catalogue.get_node(node.tenant, node.node_id)
        except NotFound:
            return Aborted(
                "NODE_REPLACED",
                "The node was deleted or superseded while it was read; read its path again.",
                metadata={"node_id": node.node_id},
            )
        return _damaged("OBJECT_MISSING", "is not in the object store")


def _length_of(node: Node, offset: int, length: int | None) -> int:
    if offset < 0 or (length is not None and length < 0):
        field = "offset" if offset < 0 else "length"
        raise InvalidArgument("BAD_RANGE", "Offset and length are not negative.", field=field)
    if offset > node.size:
        raise OutOfRange(
            "OFFSET_BEYOND_END",
            f"The node has {node.size} bytes; begin within them.",
            field="offset",
            metadata={"size": str(node.size)},
        )
    rest = node.size - offset
    return rest if length is None else min(length, rest)


def _damaged(reason: str, what: str) -> DataLoss:
    return DataLoss(
        reason, f"The stored object {what}; restore it from a copy, or upload the node again."
    )
