"""Background computation of missing SHA-256 digests (rule 20)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from sluice_core.concurrency.waiting import wait_at_most
from sluice_core.errors import SluiceError, Unavailable
from sluice_core.ports.catalogue import Catalogue, Node
from sluice_repository.deps import RepositoryDeps
from sluice_repository.roles.digests import digest_object
from sluice_repository.work.due_items import walk
from sluice_repository.work.guard import guarded
from sluice_repository.work.leases import Lease

_log = structlog.get_logger(__name__)
_LEASE_SECONDS = 60.0
_PAGE_NODES = 20


class Verifier:
    """Hashes one object at a time, no faster than the options allow.

    One process holds the lease of this job; if two run it, the second result changes nothing. A
    node whose bytes do not match its CRC32C gets no SHA-256. Each pass reports it until an operator
    restores the object or deletes the node.
    """

    def __init__(self, deps: RepositoryDeps, catalogue: Catalogue) -> None:
        self._deps = deps
        self._catalogue = catalogue
        self._lease = Lease(catalogue, "verifier", deps.holder, _LEASE_SECONDS)

    async def run(self, stop: asyncio.Event) -> None:
        try:
            while not stop.is_set():
                with guarded(self._deps.metrics, "verifier"):
                    await self.verify_all()
                await wait_at_most(stop, self._deps.options.verify_interval_seconds)
        finally:
            await self._lease.release()

    async def verify_all(self) -> int:
        """Verify every node that lacks its SHA-256 and return how many were verified."""
        return await walk(self._nodes, self._verify, lambda node: node.node_id, page=_PAGE_NODES)

    async def _nodes(self, limit: int, offset: int) -> Sequence[Node]:
        # Extended before every page: a pass over a large catalogue takes longer than the lease.
        if not await self._lease.hold():
            return ()
        return await self._catalogue.nodes_without_sha256(limit, offset)

    async def _verify(self, node: Node) -> bool:
        options = self._deps.options
        log = _log.bind(node_id=node.node_id, key=node.object.key)
        try:
            digest = await digest_object(
                self._deps.objects,
                node.object,
                node.size,
                read_timeout_seconds=options.read_timeout_seconds,
                bytes_per_second=options.verify_bytes_per_second,
            )
        except Unavailable:
            raise
        except SluiceError as error:
            if await self._is_gone(node):
                return True
            self._report(log, error=str(error))
            return False
        if (digest.size, digest.crc32c) != (node.size, node.crc32c):
            self._report(
                log,
                expected_size=node.size,
                expected_crc32c=f"{node.crc32c:08x}",
                size=digest.size,
                crc32c=f"{digest.crc32c:08x}",
            )
            return False
        if await self._catalogue.record_sha256(node.node_id, digest.sha256):
            self._deps.metrics.integrity.verified.inc()
            self._deps.relay_wakeup.set()
        return True

    async def _is_gone(self, node: Node) -> bool:
        """Return whether the node was deleted while it was read, which is no damage."""
        return not await self._catalogue.is_object_live(node.object)

    def _report(self, log: structlog.typing.FilteringBoundLogger, **facts: object) -> None:
        self._deps.metrics.integrity.failures.labels("verifier").inc()
        log.error("object.damaged", **facts)
