"""Pipelined pushes of one chunk."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter
from typing import Any, Final

from redis.exceptions import ResponseError

from sluice_backends.redis.client.connection import RedisClients, transaction, unwrap_replies
from sluice_backends.redis.client.errors import VENDOR_ERRORS, translate, unavailable
from sluice_backends.redis.client.link import Link, Replies
from sluice_backends.redis.client.resp import Command
from sluice_core.uploads.chunk_checks import staging_dropped

OPERATION: Final = "chunk_push"
_MAX_IN_FLIGHT: Final = 2
"""Most pushes without a reply when `push` returns: Redis processes one, the next is in the
connection, and the one after it is read from the client. Each holds a block in memory."""

Check = Callable[[list[Any]], None]
"""Checks the replies to one push; raises an error if they are wrong."""


class Pushes:
    """Sender of commands on one key, in order, each at most once.

    All pushes in flight share one connection, which keeps their order. It returns to the pool with
    the last reply, so that a silent sender holds none. In a cluster a push waits for its reply: a
    redirected push could be overtaken by the next.

    The first failure is permanent: every later call raises it.
    """

    def __init__(self, clients: RedisClients, key: str) -> None:
        self._clients = clients
        self._key = key
        self._server = clients.only_server
        self._link: Link | None = None
        self._unanswered = 0
        self._seconds = clients.metrics.seconds.labels(OPERATION)
        self._failure: Exception | None = None
        self._reply_event: asyncio.Future[None] | None = None

    async def push(
        self, commands: Sequence[Command], check: Check, *, atomic: bool = False
    ) -> None:
        """Send commands; return when at most `_MAX_IN_FLIGHT` pushes are in flight.

        Args:
            check: called with the replies to these commands if none is an error.
            atomic: run all or none of them, as one step.
        """
        self._raise_failure()
        if self._server is None:
            await self._push_and_wait(commands, check, atomic=atomic)
            return
        try:
            if self._link is None:
                async with asyncio.timeout(self._clients.timeout_seconds):
                    self._link = await self._server.acquire()
                self._raise_failure()
            replies = self._link.send(transaction(commands) if atomic else commands)
        except VENDOR_ERRORS as error:
            self._fail(error)
            self._raise_failure()
        else:
            self._unanswered += 1
            replies.add_done_callback(partial(self._on_replies, check, atomic, perf_counter()))
            await self._wait_until(_MAX_IN_FLIGHT)
        finally:
            self._release_if_idle()

    async def settle(self) -> None:
        """Wait until every push has its reply; raise the first failure."""
        await self._wait_until(0)

    async def stop(self) -> None:
        """Refuse further pushes; return when none is in flight, whatever their outcome.

        When cancelled, close the connection. Commands in it may still reach the server.
        """
        # Also stops a push that waits for its connection: it would arrive after a removal.
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
            # Also when cancelled: the outcome is unknown.
            self._failure = error if isinstance(error, Exception) else unavailable()
            raise

    async def _wait_until(self, in_flight: int) -> None:
        while self._unanswered > in_flight and self._failure is None:
            await self._next_reply()
        self._raise_failure()

    async def _next_reply(self) -> None:
        if self._reply_event is None:
            self._reply_event = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(self._clients.timeout_seconds):
                # Shared: dropping the upload may wait for the same reply as its sender.
                await asyncio.shield(self._reply_event)
        except TimeoutError as error:
            self._fail(error)
            if self._link is not None:
                # All other pushes in flight fail with it.
                self._link.abort()

    def _on_replies(self, check: Check, atomic: bool, started: float, replies: Replies) -> None:
        self._seconds.observe(perf_counter() - started)
        try:
            check(unwrap_replies(replies.result(), atomic=atomic))
        except VENDOR_ERRORS as error:
            self._fail(error)
        except Exception as error:  # noqa: BLE001 - in a callback; raised by later calls
            if isinstance(error.__cause__, ResponseError):
                self._clients.metrics.errors.labels(OPERATION).inc()
            self._failure = self._failure or error
        self._unanswered -= 1
        self._release_if_idle()
        if self._reply_event is not None:
            self._reply_event.set_result(None)
            self._reply_event = None

    def _release_if_idle(self) -> None:
        if self._unanswered == 0 and self._link is not None and self._server is not None:
            self._server.release(self._link)
            self._link = None

    def _fail(self, error: Exception) -> None:
        if self._failure is None:
            self._clients.metrics.errors.labels(OPERATION).inc()
            self._failure = translate(error)
            self._failure.__cause__ = error

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure
