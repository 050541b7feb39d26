"""Client of one Redis server or a cluster; commands are routed by key."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from itertools import chain
from time import perf_counter
from typing import Any, Final

from redis.asyncio.connection import parse_url
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

from sluice_backends.certificates import check_tls_files
from sluice_backends.redis.client.errors import (
    VENDOR_ERRORS,
    as_configuration_error,
    translate,
    unavailable,
)
from sluice_backends.redis.client.scripts import Script
from sluice_backends.redis.client.server import Argument, Command, Server
from sluice_backends.redis.client.slots import SlotTable
from sluice_backends.redis.client.subscription import OnMessage, Subscription
from sluice_backends.redis.metrics import RedisMetrics
from sluice_backends.redis.options import RedisOptions
from sluice_core.errors import SluiceError, Unavailable

_REDIRECTIONS: Final = 5
_TRY_AGAIN_SECONDS: Final = 0.05
_WAIT_MARGIN_SECONDS: Final = 1.0


class RedisClients:
    """Router of commands to the server that has their key.

    Replies are undecoded RESP2 values: bytes, int, None, lists of them.

    A command that may have run is never retried. Cluster redirections and NOSCRIPT are followed,
    since they state that the server has done nothing. A connection found closed before use is
    reopened, which covers a restarted server. Other retries are the caller's: clients resend and
    workers back off anyway, and retries must not multiply.

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
        """Limit of one command, waiting for a connection included."""
        return self._options.operation_timeout_seconds

    @property
    def only_server(self) -> Server | None:
        """Server that has all keys; None in a cluster."""
        return self._server

    # -- commands

    async def execute(self, key: str, *command: Argument, operation: str = "") -> Any:
        """Run one command on the server of a key.

        Args:
            operation: label in metrics; by default the command's name.
        """
        name = operation or str(command[0]).lower()
        (reply,) = await self._send(name, key, [command])
        return _or_raise(reply)

    async def pipeline(
        self, key: str, commands: Sequence[Command], *, operation: str, atomic: bool = False
    ) -> list[Any]:
        """Run commands on keys of one slot in one round trip; raise the first error reply.

        Args:
            atomic: run all or none of them, as one step (MULTI/EXEC).
        """
        sent = transaction(commands) if atomic else commands
        replies = await self._send(operation, key, sent, whole=atomic)
        return unwrap_replies(replies, atomic=atomic)

    async def call(self, script: Script, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """Run a script on keys of one slot."""
        (reply,) = await self._run(script, keys, arguments, ())
        return _or_raise(reply)

    async def call_and_wait(
        self, script: Script, keys: Sequence[str], arguments: Sequence[Argument]
    ) -> Any:
        """Run a script and wait until its writes are on `replicas_to_wait` replicas.

        WAIT covers the last write of its own connection, so both are sent on one connection in one
        round trip. It also covers all earlier writes on that server, because replication is one
        ordered log: the acknowledged RPUSHes of a chunk may have used other connections
        (docs/protocol.md, rule 6). A failover in between is detected: the accept script would not
        find its staging list on the new master.

        WAIT does not wait for a script that wrote nothing. A script that must be sure of an earlier
        call's writes (a duplicate) has to write something itself.

        Raise `Unavailable` NOT_REPLICATED when the replicas were too slow; the script has run.
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

    async def execute_on_masters(self, *command: Argument) -> dict[str, Any]:
        """Run one command on every master; return the replies by server name."""
        operation = str(command[0]).lower()
        with self._observed(operation):
            async with asyncio.timeout(self._options.operation_timeout_seconds):
                servers = await self._masters()
                exchanges = (server.exchange([command]) for server in servers)
                results = await asyncio.gather(*exchanges, return_exceptions=True)
            for result in results:
                if isinstance(result, BaseException):
                    raise result
        return {
            server.name: _or_raise(result[0])
            for server, result in zip(servers, results, strict=True)
            if not isinstance(result, BaseException)
        }

    @asynccontextmanager
    async def subscription(self, on_message: OnMessage) -> AsyncIterator[Subscription]:
        """Yield a dedicated connection for subscriptions.

        In a cluster it uses any server, since published messages reach all of them.
        """
        with self._observed("subscribe"):
            async with asyncio.timeout(self._options.operation_timeout_seconds):
                opened = await (await self._masters())[0].subscription()
        opened.on_message = on_message
        try:
            yield opened
        finally:
            await opened.aclose()

    async def aclose(self) -> None:
        for owner in (self._slots, self._server):
            if owner is not None:
                await owner.aclose()

    # -- sending and routing

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
        """Return the replies after following redirections, error replies included."""
        with self._observed(operation):
            async with asyncio.timeout(self._options.operation_timeout_seconds + extra_seconds):
                if self._slots is None:
                    replies = await self._single_server().exchange(commands)
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
            slots.mark_stale()
            raise
        for _ in range(_REDIRECTIONS):
            redirected = [n for n, reply in enumerate(replies) if isinstance(reply, _REDIRECTED)]
            if not redirected:
                break
            if whole:
                redirected = list(range(len(commands)))
            redirection = next(reply for reply in replies if isinstance(reply, _REDIRECTED))
            repeated = [commands[n] for n in redirected]
            fresh = await self._follow_redirection(
                slots, server, key, redirection, repeated, whole=whole
            )
            for n, reply in zip(redirected, fresh, strict=True):
                replies[n] = reply
        if any(isinstance(reply, _NOT_HERE) for reply in replies):
            slots.mark_stale()
        return replies

    async def _follow_redirection(
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
            return await slots.assign(key_slot(key.encode()), address).exchange(commands)
        if isinstance(redirection, AskError):
            # ASKING applies to the next command, or to a transaction if it precedes MULTI.
            target = slots.server_at((redirection.host, int(redirection.port)))
            if whole:
                return (await target.exchange([("ASKING",), *commands]))[1:]
            asking = chain.from_iterable((("ASKING",), command) for command in commands)
            return (await target.exchange(list(asking)))[1::2]
        await asyncio.sleep(_TRY_AGAIN_SECONDS)
        return await server.exchange(commands)

    def _single_server(self) -> Server:
        assert self._server is not None
        return self._server

    async def _masters(self) -> Sequence[Server]:
        if self._slots is None:
            return [self._single_server()]
        return await self._slots.masters()

    @contextmanager
    def _observed(self, operation: str) -> Iterator[None]:
        """Measure the time, count errors and translate those of redis-py."""
        started = perf_counter()
        try:
            yield
        except VENDOR_ERRORS as error:
            self._metrics.errors.labels(operation).inc()
            raise translate(error) from error
        finally:
            self._seconds(operation).observe(perf_counter() - started)


_REDIRECTED: Final = (AskError, TryAgainError)  # MovedError is an AskError
_NOT_HERE: Final = (*_REDIRECTED, ClusterDownError, ReadOnlyError)


def transaction(commands: Sequence[Command]) -> Sequence[Command]:
    """Return the commands wrapped in MULTI and EXEC."""
    return [("MULTI",), *commands, ("EXEC",)]


def unwrap_replies(replies: Sequence[Any], *, atomic: bool) -> list[Any]:
    """Return the replies to commands, or to a transaction of them; raise the first error."""
    for reply in replies:
        # The error that made EXEC fail is more specific than EXEC's own.
        _or_raise(reply)
    return [_or_raise(reply) for reply in replies[-1]] if atomic else list(replies)


def _or_raise(reply: Any) -> Any:
    """Return a reply; raise an error reply, translated."""
    if isinstance(reply, ResponseError) and not isinstance(reply, ExecAbortError):
        raise translate(reply) from reply
    if isinstance(reply, ExecAbortError):
        raise unavailable() from reply
    return reply


@asynccontextmanager
async def open_redis(
    options: RedisOptions, metrics: RedisMetrics | None = None
) -> AsyncIterator[RedisClients]:
    """Yield connections to Redis.

    Raise `ConfigurationError` when the server refuses the user or the password, when its
    certificate or a TLS file in the URL cannot be used, and `Unavailable` when it does not answer;
    the process may then wait for it.
    """
    _check_tls_files(options)
    clients = RedisClients(options, metrics)
    try:
        await _check_login(clients)
        yield clients
    finally:
        await clients.aclose()


def _check_tls_files(options: RedisOptions) -> None:
    # Typed as Any: the parts of a URL are keyword arguments of redis-py's connections.
    arguments: dict[str, Any] = dict(parse_url(options.url))
    check_tls_files(
        "SLUICE_REDIS__URL",
        ca=arguments.get("ssl_ca_certs"),
        cert=arguments.get("ssl_certfile"),
        key=arguments.get("ssl_keyfile"),
    )


async def _check_login(clients: RedisClients) -> None:
    try:
        await clients.execute_on_masters("PING")
    except SluiceError as error:
        if isinstance(error.__cause__, Exception):
            misconfigured = as_configuration_error(error.__cause__)
            if misconfigured is not None:
                raise misconfigured from error
        raise
