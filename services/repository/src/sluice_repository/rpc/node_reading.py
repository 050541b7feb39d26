"""Reads of a node's bytes, whole or by range, and signed download URLs."""

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
    """Reads nodes from the object store and signs their download URLs."""

    def __init__(
        self, catalogue: Catalogue, objects: ObjectStore, clock: Clock = time.time
    ) -> None:
        self._catalogue = catalogue
        self._objects = objects
        self._clock = clock

    async def read(self, node: Node, offset: int, length: int | None) -> AsyncIterator[bytes]:
        """Yield the bytes [offset, offset + length) of a node in blocks of at most 1 MiB.

        A range that reaches beyond the end stops there; one that begins beyond it is refused. The
        object belongs to this node version, so the read continues if another upload takes over the
        path. A read of the whole node is checked against the node's CRC32C.

        Raise `InvalidArgument` BAD_RANGE for a negative offset or length, `OutOfRange`
        OFFSET_BEYOND_END, and `Aborted` NODE_REPLACED when the node ended and its object is gone
        (read the path again). Raise `DataLoss` OBJECT_MISSING, OBJECT_TRUNCATED or OBJECT_DAMAGED
        at the end of the stream at the latest, so a reader must not use the bytes before the end.
        """
        length_bytes = _length_of(node, offset, length)
        if length_bytes == 0:
            return
        is_whole = length_bytes == node.size
        crc, received = EMPTY_CRC32C, 0
        try:
            async with closing(self._objects.read(node.object, offset, length_bytes)) as blocks:
                async for block in blocks:
                    received += len(block)
                    if is_whole:
                        crc = crc32c(block, crc)
                    yield block
        except NotFound as error:
            raise await self._missing_object_error(node) from error
        if received != length_bytes:
            raise _damaged("OBJECT_TRUNCATED", f"ends {length_bytes - received} bytes early")
        if is_whole and crc != node.crc32c:
            raise _damaged("OBJECT_DAMAGED", "does not match its CRC32C")

    async def download_url(self, node: Node, lifetime_seconds: int) -> DownloadUrl:
        """Return a URL that grants anyone read access to the object for `lifetime_seconds`.

        Raise `InvalidArgument` BAD_LIFETIME, `Unimplemented` PRESIGN_UNSUPPORTED.
        """
        if not 1 <= lifetime_seconds <= MAX_DOWNLOAD_URL_SECONDS:
            raise InvalidArgument(
                "BAD_LIFETIME",
                f"A download URL lives 1 to {MAX_DOWNLOAD_URL_SECONDS} seconds; change lifetime.",
                field="lifetime",
            )
        # Computed before signing: the stated expiry is never later than the URL's own.
        expires_at = self._clock() + lifetime_seconds
        filename = node.path.rpartition("/")[2]
        url = await self._objects.presign_get(node.object, lifetime_seconds, filename)
        return DownloadUrl(url, expires_at)

    async def _missing_object_error(self, node: Node) -> SluiceError:
        """Return NODE_REPLACED if the node has ended since it was found, else OBJECT_MISSING."""
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
        raise InvalidArgument(
            "BAD_RANGE", f"{field} is negative; give 0 or a positive number.", field=field
        )
    if offset > node.size:
        raise OutOfRange(
            "OFFSET_BEYOND_END",
            f"The offset is beyond the node's {node.size} bytes; give a smaller one.",
            field="offset",
            metadata={"size": str(node.size)},
        )
    rest = node.size - offset
    return rest if length is None else min(length, rest)


def _damaged(reason: str, what: str) -> DataLoss:
    return DataLoss(
        reason, f"The stored object {what}; restore it from a copy, or upload the node again."
    )
