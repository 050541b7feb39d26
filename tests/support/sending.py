"""Sending on stream calls that preserves the server's status when the call ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Iterable
from typing import Any

import grpc.aio
from google.protobuf.message import Message

_CALL_ENDED = (grpc.aio.AioRpcError, grpc.aio.BaseError, asyncio.InvalidStateError)


async def send_all(call: Any, messages: Iterable[Message | bytes]) -> None:
    """Send all messages, then half-close; stop early when the server ends the call.

    Reading the call then raises the server's status. `call.write` of grpc.aio would replace that
    status with INTERNAL if the call ended just before the write, so a test of the status would be
    a race. This function uses the layer below `write`, as the SDK does.

    Args:
        call: a stream call of grpc.aio whose requests have not been sent yet.
        messages: in order; each is taken after the previous one was sent.
    """

    async def one_by_one() -> AsyncIterable[Message | bytes]:
        for message in messages:
            yield message

    await forward_all(call, one_by_one())


async def forward_all(call: Any, messages: AsyncIterable[Message | bytes]) -> None:
    """Do the same for messages from an asynchronous iterator."""
    writer = vars(call)["_cython_call"]
    try:
        await call.wait_for_connection()
        async for message in messages:
            wire = message if isinstance(message, bytes) else message.SerializeToString()
            await writer.send_serialized_message(wire)
        await call.done_writing()
    except _CALL_ENDED:
        return
