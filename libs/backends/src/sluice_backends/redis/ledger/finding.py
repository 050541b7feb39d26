"""Finding uploads by the sorted sets of all shards (rules 15, 22, 24, 25).

The sets are hints (lua/fragments/finding.lua). On one server they change in the same step as the
upload and are exact. In a cluster they follow it; so that no order of arrival loses an upload for
long, only `no_longer` takes one out: first out, then look, then in again where it belongs.
"""

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
_AT_ONCE = 16
"""Uploads that one search looks at in parallel; it has to leave connections to others."""

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


class UploadFinder:
    """Uploads by a kind of set, merged over the shards."""

    def __init__(self, steps: LedgerSteps) -> None:
        self._steps = steps

    async def oldest(self, kind: str) -> AsyncIterator[list[str]]:
        """Pages of the uploads of a kind, lowest score first.

        By rank: an upload that moves while the pages are read may be missed, and is found by the
        next search.
        """
        shards = list(range(self._steps.shards))
        start = 0
        while shards:
            found = await self._ranges(
                shards, kind, ("ZRANGE", start, start + _PAGE - 1, "WITHSCORES")
            )
            yield [upload_id for _, upload_id in heapq.merge(*found)]
            shards = [
                shard for shard, page in zip(shards, found, strict=True) if len(page) == _PAGE
            ]
            start += _PAGE

    async def due(self, kind: str, limit: int, offset: int = 0) -> list[str]:
        """Uploads whose time has come, longest first, those before the offset left out."""
        now = await self._steps.now()
        found = await self._ranges(
            range(self._steps.shards),
            kind,
            ("ZRANGEBYSCORE", "-inf", repr(now), "WITHSCORES", "LIMIT", 0, offset + limit),
        )
        return [upload_id for _, upload_id in heapq.merge(*found)][offset : offset + limit]

    async def count(self, kind: str) -> int:
        replies = await self._ask(range(self._steps.shards), kind, ("ZCARD",))
        return sum(replies)

    async def no_longer(self, kind: str, upload_id: str, *, gone: bool = False) -> None:
        """An upload was found by a set and there is nothing to be done for it.

        Args:
            gone: it is not there any more.
        """
        if self._steps.alone and not gone:
            return  # the set is exact: somebody is at it, or was quicker
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
        """A command for the key of every shard; the key comes first among its arguments."""
        clients = self._steps.clients
        names = [keys.found_by(kind, shard) for shard in shards]
        word, *arguments = command
        operation = f"find_{kind}"
        if self._steps.alone:
            commands = [(word, name, *arguments) for name in names]
            return await clients.pipeline(names[0], commands, operation=operation)
        return await each(
            names, lambda name: clients.execute(name, word, name, *arguments, operation=operation)
        )


async def each(names: Iterable[str], ask: Callable[[str], Awaitable[T]]) -> list[T]:
    """The answers for all names in their order, some of them asked for at the same time.

    Raises the first error; nothing of this is then going on any more.
    """
    permits = asyncio.Semaphore(_AT_ONCE)

    async def one(name: str) -> T:
        async with permits:
            return await ask(name)

    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(name)) for name in names]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]
