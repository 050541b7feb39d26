"""Subscription to the snapshots of an upload."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from sluice_core.ports import LifecycleLedger
from sluice_core.uploads.model import UploadSnapshot


@asynccontextmanager
async def snapshots_after(
    ledger: LifecycleLedger, upload_id: str, sequence: int, *, only_end: bool = False
) -> AsyncIterator[AsyncIterator[UploadSnapshot]]:
    """Yield the ledger's watch and close it when the block exits.

    Without the explicit close the subscription would live until the generator is collected.
    """
    snapshots = ledger.watch(upload_id, sequence, only_end=only_end)
    try:
        yield snapshots
    finally:
        if isinstance(snapshots, AsyncGenerator):
            await snapshots.aclose()
