"""Calls of an intake that the fault tests share, and their refusals."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from sluice.upload.v1 import upload_pb2 as pb
from support.network_faults import Faults
from support.proxy import FaultProxy
from support.wire import Chunk, WireClient, cut

MIB = 1024 * 1024
CHUNK = MIB


def chunks_of(count: int, seed: int) -> list[Chunk]:
    """Return chunks of `CHUNK` bytes each, determined by the seed."""
    return cut(random.Random(seed).randbytes(count * CHUNK), [CHUNK] * count)


async def put(wire: WireClient, upload_id: str, chunk: Chunk, **fields: Any) -> pb.Accepted:
    """Send one chunk by UploadChunk and return its acknowledgement."""
    request = pb.UploadChunkRequest(
        upload_id=upload_id,
        number=chunk.number,
        data=chunk.data,
        is_last=chunk.is_last,
        **fields,
    )
    return (await wire.intake.UploadChunk(request)).accepted


@dataclass(frozen=True, slots=True)
class Refusal:
    """How a call failed; `retry_after_seconds` is that of RetryInfo, if any."""

    code: grpc.StatusCode
    reason: str
    retry_after_seconds: float | None = None


def refusal_in(error: grpc.aio.AioRpcError) -> Refusal:
    status: Any = rpc_status.from_call(error)  # type: ignore[arg-type] # it has the methods
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    reason, seconds = "", None
    for detail in status.details if status is not None else ():
        if detail.Unpack(info):
            reason = info.reason
        elif detail.Unpack(retry):
            seconds = retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9
    return Refusal(error.code(), reason, seconds)


async def refusal_of(call: Awaitable[Any]) -> Refusal:
    """Return the refusal of a call that must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return refusal_in(caught.value)


async def put_with_retries(wire: WireClient, upload_id: str, chunk: Chunk) -> pb.Accepted:
    """Send one chunk; retry after the server's delay while it is refused with one."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await put(wire, upload_id, chunk)
            except grpc.aio.AioRpcError as error:
                delay = refusal_in(error).retry_after_seconds
                if delay is None:
                    raise
            await asyncio.sleep(delay)


async def available(wire: WireClient, upload_id: str) -> bool:
    """Return whether the upload's status can be read; raise any error but UNAVAILABLE."""
    try:
        await wire.status(upload_id)
    except grpc.aio.AioRpcError as error:
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            return False
        raise
    return True


@asynccontextmanager
async def slow_line(address: str, bytes_per_second: float) -> AsyncIterator[FaultProxy]:
    """Run a proxy with limited bandwidth, so that an upload takes long enough for a fault."""
    host, _, port = address.rpartition(":")
    async with FaultProxy(host, int(port)) as line:
        line.up = Faults(bytes_per_second=bytes_per_second)
        yield line
