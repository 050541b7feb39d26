"""Retention of the audit log."""

from __future__ import annotations

from typing import Final

from sluice_repository.deps import RepositoryDeps
from sluice_repository.work.due_items import PAGE

FULL_PASS: Final = 10_000
"""Entries that one pass deletes. Bounded, so that a stop does not wait for all that are due."""


async def purge_audit(deps: RepositoryDeps) -> int:
    """Delete entries that are older than the retention; return how many.

    A full pass means that more may be due, and that the next one should follow at once.
    """
    catalogue, retention = deps.catalogue, deps.options.audit_retention_seconds
    assert catalogue is not None
    if retention == 0:
        return 0
    before = await catalogue.now() - retention
    done = 0
    while done < FULL_PASS:
        purged = await catalogue.purge_audit(before, PAGE)
        done += purged
        if purged < PAGE:
            break
    return done
