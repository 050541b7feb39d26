"""One upload of very many chunks, whose cost per chunk must stay constant."""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections.abc import AsyncIterator
from statistics import median

import pytest

from sluice.upload.v1 import upload_pb2
from support.wire import WireClient

CHUNK_BYTES = 4096
STEPS = 20
FRESH_CHUNKS = 250

Request = upload_pb2.UploadStreamRequest
Answers = AsyncIterator[upload_pb2.UploadStreamResponse]


def request_of(upload_id: str, number: int, data: bytes) -> Request:
    at = number % 1000 * CHUNK_BYTES
    return Request(
        header=upload_pb2.ChunkHeader(upload_id=upload_id, number=number, size=CHUNK_BYTES),
        data=data[at : at + CHUNK_BYTES],
    )


async def seconds_until_accepted(answers: Answers, chunks: int) -> float:
    began = time.perf_counter()
    while chunks:
        chunks -= (await anext(answers)).WhichOneof("event") == "accepted"
    return time.perf_counter() - began


async def seconds_of_fresh_upload(wire: WireClient, path: str, data: bytes) -> float:
    """Return the time of the first chunks of a new upload under the current load."""
    opened = await wire.initiate(path, chunk_size=CHUNK_BYTES)

    requests = (request_of(opened.upload_id, number, data) for number in range(FRESH_CHUNKS))
    answers = aiter(wire.intake.UploadStream(requests))
    took = await seconds_until_accepted(answers, FRESH_CHUNKS)
    await wire.intake.AbortUpload(upload_pb2.AbortUploadRequest(upload_id=opened.upload_id))
    return took


@pytest.mark.slow
@pytest.mark.parametrize(
    "chunks",
    [
        10_000,
        pytest.param(100_000, marks=[pytest.mark.slow_fault, pytest.mark.timeout(900)]),
    ],
)
async def test_cost_per_chunk_is_constant_over_many_chunks(wire: WireClient, chunks: int) -> None:
    """The last quarter of an upload costs less than twice what the first does, chunk by chunk.

    If chunk n costs a + b n, this fails from b = 1.6 a / `chunks` on: 10,000 chunks find a cost
    that grows by 16 % of the first chunk's with every thousand; 100,000, of the nightly run, 1.6 %.
    """
    step = chunks // STEPS
    data = random.Random(1).randbytes(CHUNK_BYTES * 1000)
    digest = hashlib.sha256()
    opened = await wire.initiate(
        "many/chunks", chunk_size=CHUNK_BYTES, expected_size=chunks * CHUNK_BYTES
    )

    go_on = asyncio.Semaphore(0)

    async def requests() -> AsyncIterator[Request]:
        for number in range(chunks):
            if number % step == 0:
                await go_on.acquire()
            request = request_of(opened.upload_id, number, data)
            digest.update(request.data)
            yield request

    answers = aiter(wire.intake.UploadStream(requests()))
    # Each step is compared with a new upload, so that varying load of the machine cancels out.
    costs: list[float] = []
    for number in range(STEPS):
        go_on.release()
        took = await seconds_until_accepted(answers, step)
        fresh = await seconds_of_fresh_upload(wire, f"many/fresh {number}", data)
        costs.append(took / step / (fresh / FRESH_CHUNKS))
    assert [answer async for answer in answers] == []

    first, last = median(costs[:5]), median(costs[-5:])
    # A cost in proportion to n would make it seven times as much.
    assert last < first * 2, f"per chunk, of a fresh upload's: {[round(cost, 2) for cost in costs]}"

    status = await wire.complete(opened.upload_id)
    assert status.state == upload_pb2.UPLOAD_STATE_COMPLETED, status
    assert await wire.read_sha256(opened.node_id) == (digest.hexdigest(), chunks * CHUNK_BYTES)
