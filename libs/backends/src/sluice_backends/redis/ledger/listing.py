"""The uploads of a tenant, page by page; a page looks at a bounded number of them."""

from __future__ import annotations

from collections.abc import Sequence

from sluice_backends.redis import keys
from sluice_backends.redis.ledger.finding import Age, each
from sluice_backends.redis.ledger.replies import SnapshotReader
from sluice_backends.redis.ledger.steps import LedgerSteps
from sluice_backends.redis.ledger.walk import FORGOTTEN_AFTER_SECONDS
from sluice_core.errors import NotFound
from sluice_core.ledger.lifecycle import SCAN_UPLOADS, encode_cursor
from sluice_core.ports import UploadPage
from sluice_core.uploads.model import UploadSnapshot, UploadStatus

_AT_ONCE = 250
"""Uploads whose status is asked for together."""


class UploadList:
    """Finds uploads by the sorted set of their tenant, newest first."""

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
        """One page of the uploads beyond `before`."""
        uploads = keys.uploads_of(tenant)
        shown: list[UploadSnapshot] = []
        last, left = before, SCAN_UPLOADS
        while True:
            asked = min(_AT_ONCE, left)
            ages = await self._beyond(uploads, last, asked + 1)
            page = ages[:asked]
            found = await self._statuses([upload_id for _, upload_id in page])
            matching = [
                age
                for age, status in zip(page, found, strict=True)
                if status is not None and (not statuses or status in statuses)
            ]
            room = limit - len(shown)
            snapshots = await each([upload_id for _, upload_id in matching[:room]], self._get)
            shown += [one for one in snapshots if one is not None]
            await self._take_out(
                uploads, [age for age, status in zip(page, found, strict=True) if status is None]
            )
            if len(matching) > room:
                # Up to the one before: the next page begins with the first that is not shown.
                more = page.index(matching[room])
                last = page[more - 1] if more else last
                return UploadPage(tuple(shown), _cursor(last))
            if len(ages) <= asked:
                return UploadPage(tuple(shown), "")
            last = page[-1]
            left -= len(page)
            if left <= 0:
                return UploadPage(tuple(shown), _cursor(last))

    async def _beyond(self, uploads: str, last: Age | None, count: int) -> list[Age]:
        """The next uploads after `last`, by (begun at, upload id) descending."""
        highest = "+inf" if last is None else repr(last[0])
        found: list[Age] = []
        offset = 0
        while len(found) < count:
            reply = await self._steps.clients.execute(
                uploads,
                *("ZREVRANGEBYSCORE", uploads, highest, "-inf"),
                *("WITHSCORES", "LIMIT", offset, count),
            )
            ages = [
                (float(score), upload_id.decode())
                for upload_id, score in zip(reply[::2], reply[1::2], strict=True)
            ]
            found += [age for age in ages if last is None or age < last]
            offset += len(ages)
            if len(ages) < count:
                break
        return found[:count]

    async def _statuses(self, names: Sequence[str]) -> list[UploadStatus | None]:
        """The status of each upload, None when there is no such upload."""
        if not names:
            return []
        clients = self._steps.clients
        if self._steps.alone:
            commands = [("HGET", keys.state(name), "status") for name in names]
            found = await clients.pipeline(keys.state(names[0]), commands, operation="list_status")
        else:
            found = await each(
                names,
                lambda name: clients.execute(
                    keys.state(name), "HGET", keys.state(name), "status", operation="list_status"
                ),
            )
        return [None if status is None else UploadStatus(status.decode()) for status in found]

    async def _take_out(self, uploads: str, gone: Sequence[Age]) -> None:
        """Uploads that ended by their time to live are still in their tenant's list. A young one
        may be about to begin."""
        if not gone:
            return
        old = await self._steps.now() - FORGOTTEN_AFTER_SECONDS
        names = [name for begun, name in gone if begun < old]
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
