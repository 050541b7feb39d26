"""Listing of a tenant's uploads in pages with bounded work."""

from __future__ import annotations

from collections.abc import Sequence

from sluice_backends.redis import keys
from sluice_backends.redis.ledger.finder import Age, gather_bounded
from sluice_backends.redis.ledger.replies import SnapshotReader
from sluice_backends.redis.ledger.steps import LedgerSteps
from sluice_backends.redis.ledger.walk import PURGED_AFTER_SECONDS
from sluice_core.errors import NotFound
from sluice_core.ledger.lifecycle import SCAN_UPLOADS, encode_cursor
from sluice_core.ports import UploadPage
from sluice_core.uploads.model import UploadSnapshot, UploadStatus

_BATCH_UPLOADS = 250
"""Uploads whose status is read together."""


class UploadList:
    """Uploads of a tenant by its sorted set, newest first."""

    def __init__(self, steps: LedgerSteps, reader: SnapshotReader) -> None:
        self._steps = steps
        self._reader = reader

    async def newest(
        self,
        tenant: str,
        statuses: frozenset[UploadStatus],
        limit: int,
        before: Age | None,
    ) -> UploadPage:
        """Return the page of uploads older than `before`."""
        uploads = keys.tenant_uploads(tenant)
        shown: list[UploadSnapshot] = []
        last, left = before, SCAN_UPLOADS
        while True:
            count = min(_BATCH_UPLOADS, left)
            ages = await self._beyond(uploads, last, count + 1)
            page = ages[:count]
            current = await self._statuses([upload_id for _, upload_id in page])
            matching = [
                age
                for age, status in zip(page, current, strict=True)
                if status is not None and (not statuses or status in statuses)
            ]
            room = limit - len(shown)
            ids = [upload_id for _, upload_id in matching[:room]]
            snapshots = await gather_bounded(ids, self._get)
            shown += [one for one in snapshots if one is not None]
            await self._remove_purged(
                uploads, [age for age, status in zip(page, current, strict=True) if status is None]
            )
            if len(matching) > room:
                # The cursor is the last listed upload: the next page starts after it.
                more = page.index(matching[room])
                last = page[more - 1] if more else last
                return UploadPage(tuple(shown), _cursor(last))
            if len(ages) <= count:
                return UploadPage(tuple(shown), "")
            last = page[-1]
            left -= len(page)
            if left <= 0:
                return UploadPage(tuple(shown), _cursor(last))

    async def _beyond(self, uploads: str, last: Age | None, count: int) -> list[Age]:
        """Return the next uploads after `last`, by (created at, upload id) descending."""
        highest = "+inf" if last is None else repr(last[0])
        older: list[Age] = []
        offset = 0
        while len(older) < count:
            reply = await self._steps.clients.execute(
                uploads,
                *("ZREVRANGEBYSCORE", uploads, highest, "-inf"),
                *("WITHSCORES", "LIMIT", offset, count),
            )
            ages = [
                (float(score), upload_id.decode())
                for upload_id, score in zip(reply[::2], reply[1::2], strict=True)
            ]
            older += [age for age in ages if last is None or age < last]
            offset += len(ages)
            if len(ages) < count:
                break
        return older[:count]

    async def _statuses(self, names: Sequence[str]) -> list[UploadStatus | None]:
        """Return the status of each upload, None for an unknown upload."""
        if not names:
            return []
        clients = self._steps.clients
        if self._steps.is_single_server:
            commands = [("HGET", keys.state(name), "status") for name in names]
            values = await clients.pipeline(keys.state(names[0]), commands, operation="list_status")
        else:
            values = await gather_bounded(
                names,
                lambda name: clients.execute(
                    keys.state(name), "HGET", keys.state(name), "status", operation="list_status"
                ),
            )
        return [None if status is None else UploadStatus(status.decode()) for status in values]

    async def _remove_purged(self, uploads: str, gone: Sequence[Age]) -> None:
        """Remove expired uploads from their tenant's set.

        A recent entry stays, since its upload may be about to be created.
        """
        if not gone:
            return
        old = await self._steps.now() - PURGED_AFTER_SECONDS
        names = [name for created_at, name in gone if created_at < old]
        if names:
            await self._steps.clients.execute(uploads, "ZREM", uploads, *names)

    async def _get(self, upload_id: str) -> UploadSnapshot | None:
        try:
            (fields,) = await self._steps.run("get", upload_id)
            return await self._reader.snapshot(upload_id, fields)
        except NotFound:
            return None


def _cursor(last: Age | None) -> str:
    return "" if last is None else encode_cursor(*last)
