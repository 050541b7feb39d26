"""Following an upload through the ledger's snapshots."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

from sluice_core.ports import UploadLedger
from sluice_core.uploads.model import UploadSnapshot


@asynccontextmanager
async def snapshots_after(
    ledger: UploadLedger, upload_id: str, sequence: int, *, only_end: bool = False
) -> AsyncIterator[AsyncIterator[UploadSnapshot]]:
    """The ledger's watch, ended when the block is left and not when it is collected: a
    subscription must not outlive the call that wanted it."""
    snapshots = ledger.watch(upload_id, sequence, only_end=only_end)
    try:
        yield snapshots
    finally:
        if isinstance(snapshots, AsyncGenerator):
            await snapshots.aclose()
