"""Examination of an object: type, checksums, and the picture in it, if any."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from typing import Final

import structlog

from sluice_backends.disk import disk_error
from sluice_core.errors import Unavailable
from sluice_core.objects.body import closing
from sluice_core.ports.catalogue import Node
from sluice_core.ports.object_store import ObjectInfo
from sluice_core.uploads.checksums import EMPTY_CRC32C, crc32c
from sluice_processor.deps import ProcessorDeps
from sluice_processor.images.children.pool import WorkersClosed
from sluice_processor.images.children.process import ChildNotStarted
from sluice_processor.images.model import ImageRefused, ProcessedImage, RefusalReason
from sluice_processor.images.sniff import HEAD_BYTES, Sniffed, sniff
from sluice_processor.nodes.declared import DeclaredType
from sluice_processor.nodes.spool import Spooled, SpoolOptions, spooled
from sluice_processor.nodes.stages import Stage, record_child_stages, staged

_log = structlog.get_logger(__name__)
CHECKSUM_MISMATCH: Final = "CHECKSUM_MISMATCH"
REEXAMINED_REASONS: Final = frozenset(
    {CHECKSUM_MISMATCH, *(one.value for one in RefusalReason if not one.is_final)}
)
"""Reasons for which a failed node is examined again on request."""
UNKNOWN_TYPE: Final = "application/octet-stream"
_IN_MEMORY_BYTES: Final = 64 * 1024
"""Objects up to this size are read into memory, and spooled only if they are pictures."""
_READS: Final = 2
"""A bit may flip in transit: a mismatch counts only after a second read."""


@dataclass(frozen=True, slots=True)
class Finding:
    """The result of examining one content of an object.

    `reason` is empty unless the node FAILED; `image` is set for a picture. `sha256` is set if
    the whole object was read and its bytes match the node's CRC32C.
    """

    content_type: str
    sha256: bytes | None = None
    image: ProcessedImage | None = None
    reason: str = ""
    detail: str = ""


class Examiner:
    """Reads objects and has their pictures decoded."""

    def __init__(self, deps: ProcessorDeps) -> None:
        self._deps = deps

    async def examine(self, node: Node, info: ObjectInfo) -> Finding:
        """Examine the object of a node. Raise what the store and the spool raise."""
        if info.size != node.size or info.crc32c not in (None, node.crc32c):
            return self._damaged(node, UNKNOWN_TYPE)
        declared = DeclaredType.of(node, info)
        unread = await self._without_reading(node, info, declared)
        if unread is not None:
            return unread
        for _ in range(_READS):
            finding = await self._read(node, declared)
            if finding.reason != CHECKSUM_MISMATCH:
                return finding
        return self._damaged(node, finding.content_type)

    async def _without_reading(
        self, node: Node, info: ObjectInfo, declared: DeclaredType
    ) -> Finding | None:
        """Return the finding for an object that need not be read whole; None for all others."""
        options = self._deps.options
        if self._deps.scanner is not None:
            # A scanner sees every byte of every object: what it cannot see does not pass.
            if node.size > options.images.max_source_bytes:
                return _refused(
                    Sniffed(None, None),
                    RefusalReason.TOO_LARGE,
                    f"{node.size} bytes are more than the {options.images.max_source_bytes} that"
                    " are scanned for viruses.",
                )
            return None
        is_verified = info.crc32c is not None and not node.content_type.startswith("image/")
        small = node.size <= min(_IN_MEMORY_BYTES, options.whole_bytes)
        if node.size <= options.whole_bytes and (small or not is_verified):
            return None
        # The store has verified the bytes, or there are many: the first ones may suffice.
        # Reading a small object whole costs no more than its head.
        # The declared type only decides the order of reading.
        sniffed = sniff(await self._head(node))
        if not _is_picture(sniffed):
            return _finding_of_type(declared, sniffed)
        if node.size > options.images.max_source_bytes:
            return _refused(
                sniffed,
                RefusalReason.TOO_LARGE,
                f"{node.size} bytes are more than {options.images.max_source_bytes}.",
            )
        return None

    async def _head(self, node: Node) -> bytes:
        received = bytearray()
        async with closing(self._deps.objects.read(node.object, 0, HEAD_BYTES)) as blocks:
            async for block in blocks:
                received += block
        return bytes(received)

    async def _read(self, node: Node, declared: DeclaredType) -> Finding:
        deps = self._deps
        options = SpoolOptions(
            directory=deps.options.spool_dir, max_bytes=deps.options.images.max_source_bytes
        )
        checksummed = _ChecksummedBlocks(deps.objects.read(node.object, 0, node.size))
        async with AsyncExitStack() as stack:
            blocks = await stack.enter_async_context(closing(checksummed.blocks()))
            with staged(deps.metrics, Stage.READ), _spool_errors():
                if node.size <= _IN_MEMORY_BYTES:
                    content = b"".join([block async for block in blocks])
                    matches = (len(content), checksummed.crc32c) == (node.size, node.crc32c)
                    sha256 = hashlib.sha256(content).digest()
                    sniffed = sniff(content)
                    if not _is_intact(node, sha256, matches=matches):
                        return _mismatch(sniffed)
                    if deps.scanner is None and not _is_picture(sniffed):
                        return _finding_of_type(declared, sniffed, sha256)
                    blocks = _one(content)
                spool = await stack.enter_async_context(spooled(blocks, node.size, options))
            matches = (spool.size, checksummed.crc32c) == (node.size, node.crc32c)
            return await self._examine_spooled(node, spool, declared, matches=matches)

    async def _examine_spooled(
        self, node: Node, spool: Spooled, declared: DeclaredType, *, matches: bool
    ) -> Finding:
        # Just written: the page cache has it, so this does not block.
        sniffed = sniff(os.pread(spool.fd, HEAD_BYTES, 0))
        if not _is_intact(node, spool.sha256, matches=matches):
            return _mismatch(sniffed)
        try:
            return await self._examine_intact(spool, declared, sniffed)
        except ImageRefused as refused:
            return _refused(sniffed, refused.reason, refused.detail, spool.sha256)

    async def _examine_intact(
        self, spool: Spooled, declared: DeclaredType, sniffed: Sniffed
    ) -> Finding:
        """Scan the object, compare its type with the declared one, decode it if it is a picture.

        Raise `ImageRefused`.
        """
        if self._deps.scanner is not None:
            # First of all: nothing else looks at bytes that a scanner has not seen.
            with staged(self._deps.metrics, Stage.SCAN):
                found = await self._deps.scanner.scan(spool.fd, spool.size)
            if found is not None:
                raise ImageRefused(
                    RefusalReason.INFECTED, f"The virus scanner found {found} in the object."
                )
        if not _is_picture(sniffed) or declared.disagrees(sniffed):
            return _finding_of_type(declared, sniffed, spool.sha256)
        if sniffed.format is None:
            return _refused(
                sniffed,
                RefusalReason.UNSUPPORTED_FORMAT,
                f"{sniffed.media_type} is not a supported image format.",
                spool.sha256,
            )
        image = await self._decode(spool)
        record_child_stages(self._deps.metrics, image.decode_seconds, image.thumbnail_seconds)
        return Finding(image.facts.format.media_type, spool.sha256, image)

    async def _decode(self, spool: Spooled) -> ProcessedImage:
        """Decode; retry once if the child died or ran out of memory, which may be transient."""
        try:
            try:
                return await self._deps.images.process(spool.fd)
            except ImageRefused as refused:
                if refused.reason not in (RefusalReason.MEMORY, RefusalReason.CRASHED):
                    raise
            return await self._deps.images.process(spool.fd)
        except (ChildNotStarted, WorkersClosed) as error:
            raise Unavailable(
                "DECODER_UNAVAILABLE", "No decoder process could be started; try again."
            ) from error

    def _damaged(self, node: Node, content_type: str) -> Finding:
        self._deps.metrics.integrity.failures.labels("processor").inc()
        _log.error("object.damaged", node_id=node.node_id, key=node.object.key)
        return Finding(
            content_type,
            reason=CHECKSUM_MISMATCH,
            detail="The stored object is not what was uploaded; restore it or upload it again.",
        )


class _ChecksummedBlocks:
    """Passes blocks on and computes the CRC32C of those passed so far."""

    def __init__(self, blocks: AsyncIterator[bytes]) -> None:
        self._blocks = blocks
        self.crc32c = EMPTY_CRC32C

    async def blocks(self) -> AsyncIterator[bytes]:
        async with closing(self._blocks) as blocks:
            async for block in blocks:
                self.crc32c = crc32c(block, self.crc32c)
                yield block


@contextmanager
def _spool_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise disk_error(error, "SPOOL_UNAVAILABLE") from error


async def _one(block: bytes) -> AsyncIterator[bytes]:
    yield block


def _is_intact(node: Node, sha256: bytes, *, matches: bool) -> bool:
    """Return whether the bytes are those of the node; `matches`: size and CRC32C are."""
    return matches and node.sha256 in (None, sha256)


def _mismatch(sniffed: Sniffed) -> Finding:
    return Finding(sniffed.media_type or UNKNOWN_TYPE, reason=CHECKSUM_MISMATCH)


def _finding_of_type(
    declared: DeclaredType, sniffed: Sniffed, sha256: bytes | None = None
) -> Finding:
    """Return the finding for an object that is not decoded."""
    if declared.disagrees(sniffed):
        return _refused(
            sniffed,
            RefusalReason.TYPE_MISMATCH,
            f"The object was declared as {declared.media_type}, and its bytes are"
            f" {sniffed.media_type or 'of no known type'}.",
            sha256,
        )
    return Finding(sniffed.media_type or UNKNOWN_TYPE, sha256)


def _is_picture(sniffed: Sniffed) -> bool:
    return sniffed.media_type is not None and sniffed.media_type.startswith("image/")


def _refused(
    sniffed: Sniffed, reason: RefusalReason, detail: str, sha256: bytes | None = None
) -> Finding:
    content_type = sniffed.media_type or UNKNOWN_TYPE
    return Finding(content_type, sha256, reason=reason.value, detail=detail)
