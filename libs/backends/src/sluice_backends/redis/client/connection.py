"""Redis, one server or a cluster, behind one object: a key says where a command goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from itertools import chain
from time import perf_counter
from typing import Any, Final

from redis.crc import key_slot
from redis.exceptions import (
    AskError,
    ClusterDownError,
    ExecAbortError,
    MovedError,
    NoScriptError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)

from sluice_backends.redis.client.errors import (
    VENDOR_ERRORS,
    translated,
    unavailable,
    unusable_at_start,
)
from sluice_backends.redis.client.scripts import Script
from sluice_backends.redis.client.server import Argument, Command, Server
from sluice_backends.redis.client.slots import SlotTable
from sluice_backends.redis.client.subscription import OnNews, Subscription
from sluice_backends.redis.metrics import RedisMetrics
from sluice_backends.redis.options import RedisOptions
from sluice_core.errors import SluiceError, Unavailable

_REDIRECTIONS: Final = 5
_TRY_AGAIN_SECONDS: Final = 0.05
_WAIT_MARGIN_SECONDS: Final = 1.0


class RedisClients:
    """Sends commands to the server that has their key.

    Replies are what the protocol carries (RESP2: bytes, int, None, lists of them), undecoded.

    Nothing is retried after it may have run. Redirections of a cluster and NOSCRIPT are followed,
    because the server says with them that it has done nothing. A connection found closed before it
    is used is opened again, which covers a restarted server; beyond that the caller decides: each
    of them (a client's re-send, a worker's back-off) tries again anyway, and twice is too often.

    Every method raises `Unavailable` REDIS_UNAVAILABLE or `ResourceExhausted` REDIS_FULL.
    """

    def __init__(self, options: RedisOptions, metrics: RedisMetrics | None = None) -> None:
        self._options = options
        self._metrics = metrics if metrics is not None else RedisMetrics()
        self._seconds = cache(self._metrics.seconds.labels)
        self._slots = SlotTable(options) if options.cluster else None
        self._server = Server(options) if self._slots is None else None

    @property
    def metrics(self) -> RedisMetrics:
        return self._metrics

    @property
    def timeout_seconds(self) -> float:
        """Of one command, waiting for a connection included."""
        return self._options.operation_timeout_seconds

    @property
    def only_server(self) -> Server | None:
        """The one server that has all keys; None in a cluster."""
        return self._server

    # -- commands

    async def execute(self, key: str, *command: Argument, operation: str = "") -> Any:
        """One command on the server of a key.

        Args:
            operation: what metrics call it; the command's name by default.
        """
        name = operation or str(command[0]).lower()
        (reply,) = await self._send(name, key, [command])
        return _or_raise(reply)

    async def pipeline(
        self, key: str, commands: Sequence[Command], *, operation: str, atomic: bool = False
    ) -> list[Any]:
        """Commands on keys of one slot in one round trip; raises the first error among them.

        Args:
            atomic: all or none of them, as one step (MULTI/EXEC).
        """
        sent = transaction(commands) if atomic else commands
        replies = await self._send(operation, key, sent, whole=atomic)
        return answers(replies, atomic=atomic)

    async def call(self, script: Script, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """Run a script on keys of one slot."""
        (reply,) = await self._run(script, keys, arguments, ())
        return _or_raise(reply)

    async def call_and_wait(
        self, script: Script, keys: Sequence[str], arguments: Sequence[Argument]
    ) -> Any:
        """Run a script and wait until its writes are on `replicas_to_wait` replicas.

        WAIT covers what its own connection wrote last, so both travel on one connection, in one
        round trip. It covers all that was written on that server before, too, because replication
        is one ordered log: the RPUSHes of a chunk whose replies are in need not have been on the
        same connection (docs/protocol.md, rule 6). A failover in between loses nothing unseen: the
        accept script would not find its staging list on the new master.

        A script that wrote nothing gives WAIT nothing to wait for. One that must be sure of what
        an earlier call wrote (a duplicate) has to write something itself.

        Raises `Unavailable` NOT_REPLICATED when the replicas were too slow; the script has run.
        """
        replicas, timeout_ms = self._options.replicas_to_wait, self._options.wait_timeout_ms
        wait: Command = ("WAIT", replicas, timeout_ms)
        reply, reached = await self._run(
            script, keys, arguments, [wait], timeout_ms / 1000 + _WAIT_MARGIN_SECONDS
        )
        result = _or_raise(reply)
        if _or_raise(reached) < replicas:
            raise Unavailable(
                "NOT_REPLICATED",
                "Too few replicas have confirmed the write in time; send the same again.",
            )
        return result

    async def ask_masters(self, *command: Argument) -> dict[str, Any]:
        """One command to every server that takes writes; the replies by its name."""
        operation = str(command[0]).lower()
        with self._told(operation):
            async with asyncio.timeout(self._options.operation_timeout_seconds):
                servers = await self._masters()
                asked = (server.exchange([command]) for server in servers)
                answers = await asyncio.gather(*asked, return_exceptions=True)
            for answer in answers:
                if isinstance(answer, BaseException):
                    raise answer
        return {
            server.name: _or_raise(answer[0])
            for server, answer in zip(servers, answers, strict=True)
            if not isinstance(answer, BaseException)
        }

    @asynccontextmanager
    async def subscription(self, on_news: OnNews) -> AsyncIterator[Subscription]:
        """A connection of its own for subscriptions, closed at the end of the block.

        In a cluster any server will do: what is published reaches all of them.
        """
        with self._told("subscribe"):
            async with asyncio.timeout(self._options.operation_timeout_seconds):
                opened = await (await self._masters())[0].subscription()
        opened.on_news = on_news
        try:
            yield opened
        finally:
            await opened.aclose()

    async def aclose(self) -> None:
        for owner in (self._slots, self._server):
            if owner is not None:
                await owner.aclose()

    # -- on the way

    async def _run(
        self,
        script: Script,
        keys: Sequence[str],
        arguments: Sequence[Argument],
        after: Sequence[Command],
        extra_seconds: float = 0.0,
    ) -> list[Any]:
        rest: tuple[Argument, ...] = (len(keys), *keys, *arguments)
        replies = await self._send(
            script.name, keys[0], [("EVALSHA", script.sha, *rest), *after], extra_seconds
        )
        if isinstance(replies[0], NoScriptError):
            replies = await self._send(
                script.name, keys[0], [("EVAL", script.source, *rest), *after], extra_seconds
            )
        return replies

    async def _send(
        self,
        operation: str,
        key: str,
        commands: Sequence[Command],
        extra_seconds: float = 0.0,
        *,
        whole: bool = False,
    ) -> list[Any]:
        """The replies, redirections followed. Error replies are among them."""
        with self._told(operation):
            async with asyncio.timeout(self._options.operation_timeout_seconds + extra_seconds):
                if self._slots is None:
                    replies = await self._one().exchange(commands)
                else:
                    replies = await self._send_to_slot(self._slots, key, commands, whole=whole)
        if any(
            isinstance(each, ResponseError)
            for each in replies
            if not isinstance(each, NoScriptError)
        ):
            self._metrics.errors.labels(operation).inc()
        return replies

    async def _send_to_slot(
        self, slots: SlotTable, key: str, commands: Sequence[Command], *, whole: bool
    ) -> list[Any]:
        server = await slots.server_of(key)
        try:
            replies = await server.exchange(commands)
        except VENDOR_ERRORS:
            slots.suspect()
            raise
        for _ in range(_REDIRECTIONS):
            again = [n for n, reply in enumerate(replies) if isinstance(reply, _REDIRECTED)]
            if not again:
                break
            if whole:
                again = list(range(len(commands)))
            redirection = next(reply for reply in replies if isinstance(reply, _REDIRECTED))
            repeated = [commands[n] for n in again]
            fresh = await self._redirected(slots, server, key, redirection, repeated, whole=whole)
            for n, reply in zip(again, fresh, strict=True):
                replies[n] = reply
        if any(isinstance(reply, _NOT_HERE) for reply in replies):
            slots.suspect()
        return replies

    async def _redirected(
        self,
        slots: SlotTable,
        server: Server,
        key: str,
        redirection: ResponseError,
        commands: Sequence[Command],
        *,
        whole: bool,
    ) -> list[Any]:
        if isinstance(redirection, MovedError):
            address = (redirection.host, int(redirection.port))
            return await slots.moved(key_slot(key.encode()), address).exchange(commands)
        if isinstance(redirection, AskError):
            # ASKING holds for one command, or for one transaction if it stands before MULTI.
            target = slots.at((redirection.host, int(redirection.port)))
            if whole:
                return (await target.exchange([("ASKING",), *commands]))[1:]
            asked = chain.from_iterable((("ASKING",), command) for command in commands)
            return (await target.exchange(list(asked)))[1::2]
        await asyncio.sleep(_TRY_AGAIN_SECONDS)
        return await server.exchange(commands)

    def _one(self) -> Server:
        assert self._server is not None
        return self._server

    async def _masters(self) -> Sequence[Server]:
        if self._slots is None:
            return [self._one()]
        return await self._slots.masters()

    @contextmanager
    def _told(self, operation: str) -> Iterator[None]:
        """Measures, and turns what redis-py raises into our errors."""
        begun = perf_counter()
        try:
            yield
        except VENDOR_ERRORS as error:
            self._metrics.errors.labels(operation).inc()
            raise translated(error) from error
        finally:
            self._seconds(operation).observe(perf_counter() - begun)


_REDIRECTED: Final = (AskError, TryAgainError)  # MovedError is an AskError
_NOT_HERE: Final = (*_REDIRECTED, ClusterDownError, ReadOnlyError)


def transaction(commands: Sequence[Command]) -> Sequence[Command]:
    """What is sent to have all or none of the commands done."""
    return [("MULTI",), *commands, ("EXEC",)]


def answers(replies: Sequence[Any], *, atomic: bool) -> list[Any]:
    """The replies to commands, or to a transaction of them; raises the first error among them."""
    for reply in replies:
        # The error that made EXEC fail says more than EXEC's own.
        _or_raise(reply)
    return [_or_raise(reply) for reply in replies[-1]] if atomic else list(replies)


def _or_raise(reply: Any) -> Any:
    """The reply; an error reply is raised as ours."""
    if isinstance(reply, ResponseError) and not isinstance(reply, ExecAbortError):
        raise translated(reply) from reply
    if isinstance(reply, ExecAbortError):
        raise unavailable() from reply
    return reply


@asynccontextmanager
async def open_redis(
    options: RedisOptions, metrics: RedisMetrics | None = None
) -> AsyncIterator[RedisClients]:
    """Connections to Redis, closed at the end.

    Raises `ConfigurationError` when the server refuses the user or the password, and `Unavailable`
    when it does not answer: the process may then wait for it.
    """
    clients = RedisClients(options, metrics)
    try:
        await _knock(clients)
        yield clients
    finally:
        await clients.aclose()


async def _knock(clients: RedisClients) -> None:
    try:
        await clients.ask_masters("PING")
    except SluiceError as error:
        if isinstance(error.__cause__, Exception):
            unusable = unusable_at_start(error.__cause__)
            if unusable is not None:
                raise unusable from error
        raise
