"""Lookup of uploads in the sorted sets of all shards (rules 15, 22, 24, 25)."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from typing import Any, TypeVar

from sluice_backends.redis import keys
from sluice_backends.redis.client.server import Command
from sluice_backends.redis.ledger.steps import LedgerSteps

T = TypeVar("T")

_PAGE = 100
_CONCURRENCY = 16
"""Concurrent reads of one search; it must leave connections to other callers."""

ALL_KINDS = (
    "index",
    "deadlines",
    "parts",
    "completions",
    "events",
    "retries",
    "cleanups",
    "purges",
)

Age = tuple[float, str]
"""Creation time, or another score, and upload id."""


class UploadFinder:
    """Uploads of a kind of sorted set, merged over the shards.

    The sets are hints (lua/fragments/finding.lua). On one server they change in the same step as
    the upload and are exact. In a cluster they are updated after it, possibly out of order. So that
    no upload stays lost, only `remove_stale` removes entries: remove, reread the upload, add it
    again where it belongs.
    """

    def __init__(self, steps: LedgerSteps) -> None:
        self._steps = steps

    async def oldest(self, kind: str) -> AsyncIterator[list[str]]:
        """Yield pages of the uploads of a kind, lowest score first.

        Pages are read by rank: an upload that moves meanwhile may be missed until the next search.
        """
        shards = list(range(self._steps.shards))
        start = 0
        while shards:
            pages = await self._ranges(
                shards, kind, ("ZRANGE", start, start + _PAGE - 1, "WITHSCORES")
            )
            yield [upload_id for _, upload_id in heapq.merge(*pages)]
            shards = [
                shard for shard, page in zip(shards, pages, strict=True) if len(page) == _PAGE
            ]
            start += _PAGE

    async def due(self, kind: str, limit: int, offset: int = 0) -> list[str]:
        """Return the due uploads, earliest first, from `offset` on."""
        now = await self._steps.now()
        pages = await self._ranges(
            range(self._steps.shards),
            kind,
            ("ZRANGEBYSCORE", "-inf", repr(now), "WITHSCORES", "LIMIT", 0, offset + limit),
        )
        return [upload_id for _, upload_id in heapq.merge(*pages)][offset : offset + limit]

    async def count(self, kind: str) -> int:
        replies = await self._ask(range(self._steps.shards), kind, ("ZCARD",))
        return sum(replies)

    async def remove_stale(self, kind: str, upload_id: str, *, gone: bool = False) -> None:
        """Remove the entry of an upload that has nothing to do there.

        Args:
            gone: the upload does not exist any more.
        """
        if self._steps.is_single_server and not gone:
            return  # the set is exact: another process is working on the upload, or was faster
        await self._steps.move(upload_id, [(kind, None)])
        if not gone:
            await self._steps.repair(upload_id)

    async def _ranges(self, shards: Sequence[int], kind: str, command: Command) -> list[list[Age]]:
        replies = await self._ask(shards, kind, command)
        return [
            [
                (float(score), upload_id.decode())
                for upload_id, score in zip(reply[::2], reply[1::2], strict=True)
            ]
            for reply in replies
        ]

    async def _ask(self, shards: Sequence[int], kind: str, command: Command) -> list[Any]:
        """Run a command on the key of every shard, which is inserted as its first argument."""
        clients = self._steps.clients
        names = [keys.lookup_set(kind, shard) for shard in shards]
        verb, *arguments = command
        operation = f"find_{kind}"
        if self._steps.is_single_server:
            commands = [(verb, name, *arguments) for name in names]
            return await clients.pipeline(names[0], commands, operation=operation)
        return await gather_bounded(
            names,
            lambda name: clients.execute(name, verb, name, *arguments, operation=operation),
        )


async def gather_bounded(names: Iterable[str], read: Callable[[str], Awaitable[T]]) -> list[T]:
    """Return the results for all names in their order, with bounded concurrency.

    Raise the first error, after all other reads were cancelled.
    """
    permits = asyncio.Semaphore(_CONCURRENCY)

    async def one(name: str) -> T:
        async with permits:
            return await read(name)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(name)) for name in names]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]
