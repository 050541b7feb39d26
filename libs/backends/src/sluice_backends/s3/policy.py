"""Policy of object store calls: each is retried, and each attempt passes the circuit breaker."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from functools import partial, wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import stamina

from sluice_backends.s3.breaker import CIRCUIT_OPEN, Breaker, BreakerCall
from sluice_backends.s3.options import RetryOptions
from sluice_core.errors import Unavailable
from sluice_core.objects.body import closing
from sluice_core.ports.object_store import Body

P = ParamSpec("P")
T = TypeVar("T")


class CallPolicy:
    """The only layer that retries calls of the store: those that failed with `Unavailable`.

    The circuit breaker admits and counts each attempt. STORE_CIRCUIT_OPEN is not retried, because
    an early retry is useless.

    Every call of the port is safe to retry. A put replaces the result of an earlier attempt, and
    each attempt reads the body from its beginning. A retry of a completion may raise
    MULTIPART_NOT_FOUND when only the response of the first attempt was lost. The completer checks
    with `head` anyway, because an earlier completer may have died at this point (rule 18).

    An attempt is one call of the port, even if it sends several requests. A HEAD and the GET that
    finds the cause of its rejection thus have one outcome, and so have the probe of the store's
    capabilities and its cleanup.
    """

    def __init__(self, options: RetryOptions, breaker: Breaker) -> None:
        self._breaker = breaker
        self._retrying = stamina.AsyncRetryingCaller(
            attempts=options.attempts,
            timeout=options.total_seconds,
            wait_initial=options.wait_initial_seconds,
            wait_max=options.wait_max_seconds,
            wait_jitter=options.wait_initial_seconds,
        )

    async def call(self, send: Callable[[], Awaitable[T]], *, may_be_slow: bool = False) -> T:
        """Return the result of `send`.

        Args:
            may_be_slow: a long wait says nothing about the health of the store.
        """

        async def attempt() -> T:
            with self._breaker.attempt(may_be_slow=may_be_slow):
                return await send()

        return await self._retrying(_retry_decision, attempt)

    async def call_with_body(self, body: Body, send: Callable[[Body], Awaitable[T]]) -> T:
        """Return the result of `send`, which has to send the body that it is passed.

        An error of the body's source is not retried, because the source has its own retry, and it
        is no failure of the store.
        """
        source_errors: list[Exception] = []

        async def attempt() -> T:
            with self._breaker.attempt() as call:
                return await send(_ObservedBody(body, call, source_errors.append))

        def decide(error: Exception) -> bool | float:
            is_of_source = any(error is known for known in source_errors)
            return False if is_of_source else _retry_decision(error)

        return await self._retrying(decide, attempt)

    async def read(self, open_read: Callable[[], AsyncIterator[bytes]]) -> AsyncIterator[bytes]:
        """Yield the blocks of a read.

        It is retried until its first block; later the reader knows better where to resume.
        """
        blocks, first = await self._retrying(_retry_decision, self._read_first, open_read)
        async with closing(blocks):
            if first is None:
                return
            yield first
            async for block in blocks:
                yield block

    async def _read_first(
        self, open_read: Callable[[], AsyncIterator[bytes]]
    ) -> tuple[AsyncIterator[bytes], bytes | None]:
        blocks = self._read_once(open_read)
        try:
            return blocks, await anext(blocks, None)
        except BaseException:
            async with closing(blocks):
                raise

    async def _read_once(
        self, open_read: Callable[[], AsyncIterator[bytes]]
    ) -> AsyncIterator[bytes]:
        with self._breaker.attempt() as call:
            async with closing(open_read()) as blocks:
                async for block in blocks:
                    call.end_wait()
                    yield block
                    call.start_wait()


class _HasPolicy(Protocol):
    _policy: CallPolicy


S = TypeVar("S", bound=_HasPolicy)


def guarded(
    *, may_be_slow: bool = False
) -> Callable[
    [Callable[Concatenate[S, P], Coroutine[Any, Any, T]]],
    Callable[Concatenate[S, P], Coroutine[Any, Any, T]],
]:
    """Return a decorator that puts a store's method without a body under its `CallPolicy`.

    A guarded method must not call another one, which would multiply the retries.
    """

    def decorate(
        method: Callable[Concatenate[S, P], Coroutine[Any, Any, T]],
    ) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
        @wraps(method)
        async def call(store: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
            send = partial(method, store, *args, **kwargs)
            return await store._policy.call(send, may_be_slow=may_be_slow)

        return call

    return decorate


class _ObservedBody:
    """A body of one attempt that separates the waits for the store from those for the source.

    Args:
        on_source_error: called with the error of the source before it is raised.
    """

    def __init__(
        self, body: Body, call: BreakerCall, on_source_error: Callable[[Exception], None]
    ) -> None:
        self._body = body
        self._call = call
        self._on_source_error = on_source_error

    @property
    def size(self) -> int:
        return self._body.size

    @property
    def crc32c(self) -> int:
        return self._body.crc32c

    async def blocks(self) -> AsyncIterator[bytes]:
        call = self._call
        async with closing(self._body.blocks()) as blocks:
            while True:
                call.end_wait()
                call.neutral = True  # until the source has yielded a block or ended
                try:
                    block = await anext(blocks, None)
                except Exception as error:
                    self._on_source_error(error)
                    raise
                call.neutral = False
                call.start_wait()
                if block is None:
                    return
                yield block


def _retry_decision(error: Exception) -> bool | float:
    """Return whether to retry, or the minimum delay in seconds if the store specified one."""
    if not isinstance(error, Unavailable) or error.reason == CIRCUIT_OPEN:
        return False
    return True if error.retry_after_seconds is None else error.retry_after_seconds
