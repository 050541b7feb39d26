"""Writing to a call that the server may end at any moment, without losing why it did.

`call.write` of grpc.aio puts INTERNAL of its own in the place of the server's status when the
message cannot be written because the call has just ended. A test that looks at the status would
then depend on who was faster. What is used here instead is the step below it, as in the SDK.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Iterable
from typing import Any

import grpc.aio
from google.protobuf.message import Message

_CALL_ENDED = (grpc.aio.AioRpcError, grpc.aio.BaseError, asyncio.InvalidStateError)


async def send_all(call: Any, messages: Iterable[Message | bytes]) -> None:
    """All messages, then half-close. Ends early when the server ends the call: reading tells why.

    Args:
        call: a stream call of grpc.aio whose requests have not been sent yet.
        messages: in order; each is taken when the one before it was sent.
    """

    async def one_by_one() -> AsyncIterable[Message | bytes]:
        for message in messages:
            yield message

    await forward_all(call, one_by_one())


async def forward_all(call: Any, messages: AsyncIterable[Message | bytes]) -> None:
    """The same for messages that arrive one after the other."""
    writer = vars(call)["_cython_call"]
    try:
        await call.wait_for_connection()
        async for message in messages:
            wire = message if isinstance(message, bytes) else message.SerializeToString()
            await writer.send_serialized_message(wire)
        await call.done_writing()
    except _CALL_ENDED:
        return
