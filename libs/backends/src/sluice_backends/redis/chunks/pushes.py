"""Pushes of one chunk that follow each other without waiting for each reply."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter
from typing import Any, Final

from redis.exceptions import ResponseError

from sluice_backends.redis.client.connection import RedisClients, answers, transaction
from sluice_backends.redis.client.errors import VENDOR_ERRORS, translated, unavailable
from sluice_backends.redis.client.link import Link, Replies
from sluice_backends.redis.client.resp import Command
from sluice_core.uploads.chunk_checks import staging_dropped

OPERATION: Final = "chunk_push"
_ON_THE_WAY: Final = 2
"""So many pushes may be without a reply when `push` returns: while Redis takes one, the next is in
the connection and the one after it is read from the client. Each holds a block in memory."""

Check = Callable[[list[Any]], None]
"""Looks at the replies to one push; raises what is wrong with them."""


class Pushes:
    """Sends commands on one key, in order, and never one of them twice.

    What is on the way shares one connection, which keeps the order; it goes back to the others
    with the last reply, so that a sender who falls silent holds none. In a cluster a push waits
    for its reply: a redirection of one would overtake the next.

    The first failure is the failure of all: it is raised by every later call.
    """

    def __init__(self, clients: RedisClients, key: str) -> None:
        self._clients = clients
        self._key = key
        self._server = clients.only_server
        self._link: Link | None = None
        self._unanswered = 0
        self._seconds = clients.metrics.seconds.labels(OPERATION)
        self._failure: Exception | None = None
        self._news: asyncio.Future[None] | None = None

    async def push(
        self, commands: Sequence[Command], check: Check, *, atomic: bool = False
    ) -> None:
        """Send, and return when few enough are on the way.

        Args:
            check: called with the replies to these commands, when none of them is an error.
            atomic: all or none of them, as one step.
        """
        self._raise_failure()
        if self._server is None:
            await self._push_and_wait(commands, check, atomic=atomic)
            return
        try:
            if self._link is None:
                async with asyncio.timeout(self._clients.timeout_seconds):
                    self._link = await self._server.take()
                self._raise_failure()
            replies = self._link.send(transaction(commands) if atomic else commands)
        except VENDOR_ERRORS as error:
            self._failed(error)
            self._raise_failure()
        else:
            self._unanswered += 1
            replies.add_done_callback(partial(self._answered, check, atomic, perf_counter()))
            await self._wait_until(_ON_THE_WAY)
        finally:
            self._give_back_unless_used()

    async def settle(self) -> None:
        """Return when every push has its reply, and each was right."""
        await self._wait_until(0)

    async def give_up(self) -> None:
        """Take no more, and return when nothing is on the way any more, whatever became of it.

        Cancelled, close the connection: what is still in it may reach the server all the same.
        """
        # Also for a push that waits for its connection: it would arrive after a removal.
        self._failure = self._failure or staging_dropped()
        try:
            while self._unanswered:
                await self._next_reply()
        except asyncio.CancelledError:
            if self._link is not None:
                self._link.abort()
            raise

    async def _push_and_wait(
        self, commands: Sequence[Command], check: Check, *, atomic: bool
    ) -> None:
        try:
            check(
                await self._clients.pipeline(
                    self._key, commands, operation=OPERATION, atomic=atomic
                )
            )
        except BaseException as error:
            # Also when cancelled: whether it was done is not known.
            self._failure = error if isinstance(error, Exception) else unavailable()
            raise

    async def _wait_until(self, on_the_way: int) -> None:
        while self._unanswered > on_the_way and self._failure is None:
            await self._next_reply()
        self._raise_failure()

    async def _next_reply(self) -> None:
        if self._news is None:
            self._news = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(self._clients.timeout_seconds):
                # Shared: who drops the upload may wait for the same reply as its sender.
                await asyncio.shield(self._news)
        except TimeoutError as error:
            self._failed(error)
            if self._link is not None:
                # What else is on the way fails with it.
                self._link.abort()

    def _answered(self, check: Check, atomic: bool, begun: float, replies: Replies) -> None:
        self._seconds.observe(perf_counter() - begun)
        try:
            check(answers(replies.result(), atomic=atomic))
        except VENDOR_ERRORS as error:
            self._failed(error)
        except Exception as error:  # noqa: BLE001 - a callback: raised by whoever pushes or waits
            if isinstance(error.__cause__, ResponseError):
                self._clients.metrics.errors.labels(OPERATION).inc()
            self._failure = self._failure or error
        self._one_less()
        if self._news is not None:
            self._news.set_result(None)
            self._news = None

    def _one_less(self) -> None:
        self._unanswered -= 1
        self._give_back_unless_used()

    def _give_back_unless_used(self) -> None:
        if self._unanswered == 0 and self._link is not None and self._server is not None:
            self._server.give_back(self._link)
            self._link = None

    def _failed(self, error: Exception) -> None:
        if self._failure is None:
            self._clients.metrics.errors.labels(OPERATION).inc()
            self._failure = translated(error)
            self._failure.__cause__ = error

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure
