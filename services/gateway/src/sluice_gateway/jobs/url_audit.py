"""The audit of signed URLs: its entries are durable before anybody has the URLs."""

from __future__ import annotations

from collections.abc import Sequence

from sluice_core.access.audit import AuditEntry
from sluice_core.concurrency.batching import CallBatcher
from sluice_core.ports.gateway import GatewayCatalogue


class UrlAudit:
    """Appends the entries of requests that run at the same time in one transaction.

    These requests change nothing else, so a transaction of its own for each would be a third of
    their time. A transaction that has begun is finished even when the client goes away whose
    request makes it: repeated for the others, it could append their entries twice.
    """

    def __init__(self, catalogue: GatewayCatalogue) -> None:
        self._catalogue = catalogue
        self._batches: CallBatcher[AuditEntry, None] = CallBatcher(
            self._append, key=id, finish=True
        )

    async def append(self, entry: AuditEntry) -> None:
        """Return when the entry is durable. Raise the errors of the catalogue."""
        await self._batches.call(entry)

    async def _append(self, entries: Sequence[AuditEntry]) -> Sequence[None]:
        await self._catalogue.append_audit(entries)
        return [None] * len(entries)
