"""Several ledgers on one Redis, as in several processes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from typing import TypeVar

from sluice_backends.redis.options import RedisOptions
from sluice_core.errors import SluiceError
from sluice_core.ledger.options import LedgerOptions
from support.ledgers import ROOMY, FakeClock
from support.redis_ledgers import StagingLedger, opened
from support.redis_server import RedisServer

T = TypeVar("T")


class Processes:
    """Ledgers that share only Redis."""

    def __init__(self, server: RedisServer, stack: AsyncExitStack) -> None:
        self._server = server
        self._stack = stack
        self._redis = RedisOptions(server.url)
        self.clock = FakeClock()

    async def start(self, count: int, options: LedgerOptions = ROOMY) -> list[StagingLedger]:
        """Start ledgers on separate connections."""
        return [
            await self._stack.enter_async_context(opened(self._redis, options, self.clock))
            for _ in range(count)
        ]

    async def together(self, *calls: Awaitable[T]) -> list[T | SluiceError]:
        """Return the outcomes of calls that reach the server simultaneously."""
        with self._server.client() as client:
            client.execute_command("CLIENT", "PAUSE", 10_000, "WRITE")
            tasks = [asyncio.ensure_future(call) for call in calls]
            try:
                await asyncio.sleep(0.05)  # all calls are sent, none can have been answered
                assert not any(task.done() for task in tasks)
            finally:
                client.execute_command("CLIENT", "UNPAUSE")
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        for outcome in outcomes:
            assert not isinstance(outcome, BaseException) or isinstance(outcome, SluiceError)
        return outcomes  # type: ignore[return-value]
