"""A server interceptor that checks tokens against a table whose entries expire on command."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import grpc
import grpc.aio

from support.scripted_faults import refuse


class TokenTable(grpc.aio.ServerInterceptor):  # type: ignore[type-arg]  # only in stubs
    """Accepts the tokens in `valid`; refuses those that expired, and any other as BAD_TOKEN.

    `expire_at` holds, by method, the number of answers after which every valid token expires.
    Streams then end with TOKEN_EXPIRED instead of their next answer, as those do that outlive
    their tokens. A unary call expires them before its work.
    """

    def __init__(self, *valid: str) -> None:
        self.valid = set(valid)
        self.expired: set[str] = set()
        self.expire_at: dict[str, int] = {}
        self.on_expiry: Callable[[], None] = lambda: None
        """Called when tokens expire: a test issues the next one."""
        self.calls: Counter[tuple[str, str]] = Counter()
        """Calls by method and token."""
        self._answers: Counter[str] = Counter()
        self.has_refused = asyncio.Event()
        """Set when a call or a stream is refused as expired."""
        self.peers: list[str] = []
        """Addresses that calls came from, in order."""

    def expire(self) -> None:
        self.expired |= self.valid
        self.valid.clear()
        self.on_expiry()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Any:
        handler: Any = await continuation(handler_call_details)
        method = str(handler_call_details.method).rpartition("/")[2]
        kind: Any = grpc.unary_unary_rpc_method_handler
        if handler.response_streaming:
            behavior = handler.stream_stream or handler.unary_stream
            around = self._stream(method, behavior)
            kind = (
                grpc.stream_stream_rpc_method_handler
                if handler.request_streaming
                else grpc.unary_stream_rpc_method_handler
            )
        else:
            around = self._unary(method, handler.unary_unary)
        return kind(around, handler.request_deserializer, handler.response_serializer)

    def _unary(self, method: str, behavior: Any) -> Any:
        async def checked(request: Any, context: Any) -> Any:
            token = await self._check(method, context)
            await self._expire_when_due(method, token, context)
            return await behavior(request, context)

        return checked

    def _stream(self, method: str, behavior: Any) -> Any:
        async def checked(request: Any, context: Any) -> AsyncIterator[Any]:
            token = await self._check(method, context)
            async with aclosing(behavior(request, context)) as answers:
                async for answer in answers:
                    await self._expire_when_due(method, token, context)
                    self._answers[method] += 1
                    yield answer

        return checked

    async def _check(self, method: str, context: Any) -> str:
        self.peers.append(context.peer())
        found = dict(context.invocation_metadata() or ()).get("authorization", "")
        token = str(found).removeprefix("Bearer ")
        self.calls[method, token] += 1
        if token in self.expired:
            self.has_refused.set()
            await refuse(context, grpc.StatusCode.UNAUTHENTICATED, "TOKEN_EXPIRED")
        if token not in self.valid:
            await refuse(context, grpc.StatusCode.UNAUTHENTICATED, "BAD_TOKEN")
        return token

    async def _expire_when_due(self, method: str, token: str, context: Any) -> None:
        if self.expire_at.get(method, self._answers[method] + 1) <= self._answers[method]:
            del self.expire_at[method]
            self.expire()
        if token in self.expired:
            self.has_refused.set()
            await refuse(context, grpc.StatusCode.UNAUTHENTICATED, "TOKEN_EXPIRED")
