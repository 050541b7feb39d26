"""One upload of very many chunks: the cost of a chunk does not grow with their number."""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import AsyncIterator
from statistics import median

import pytest

from sluice.upload.v1 import upload_pb2
from support.wire import WireClient

CHUNKS = 100_000
CHUNK_BYTES = 4096


@pytest.mark.slow
@pytest.mark.long  # minutes
async def test_a_hundred_thousand_chunks_complete_and_the_time_per_chunk_does_not_grow(
    wire: WireClient,
) -> None:
    data = random.Random(1).randbytes(CHUNK_BYTES * 1000)
    digest = hashlib.sha256()
    opened = await wire.initiate(
        "many/chunks", chunk_size=CHUNK_BYTES, expected_size=CHUNKS * CHUNK_BYTES
    )

    async def requests() -> AsyncIterator[upload_pb2.UploadStreamRequest]:
        for number in range(CHUNKS):
            at = number % 1000 * CHUNK_BYTES
            block = data[at : at + CHUNK_BYTES]
            digest.update(block)
            yield upload_pb2.UploadStreamRequest(
                header=upload_pb2.ChunkHeader(
                    upload_id=opened.upload_id, number=number, size=CHUNK_BYTES
                ),
                data=block,
            )

    marks: list[float] = []
    accepted = 0
    began = time.perf_counter()
    async for answer in wire.intake.UploadStream(requests()):
        if answer.WhichOneof("event") == "accepted":
            accepted += 1
            if accepted % 5000 == 0:
                marks.append(time.perf_counter() - began)
    assert accepted == CHUNKS

    steps = [after - before for before, after in zip([0.0, *marks], marks, strict=False)]
    first, last = median(steps[:5]), median(steps[-5:])
    # A linear cost per chunk would make the last quarter seven times as slow as the first one;
    # what else runs on the machine must not decide.
    assert last < first * 2, f"per 5,000 chunks: {[round(step, 2) for step in steps]}"

    status = await wire.complete(opened.upload_id)
    assert status.state == upload_pb2.UPLOAD_STATE_COMPLETED, status
    assert await wire.read_sha256(opened.node_id) == (digest.hexdigest(), CHUNKS * CHUNK_BYTES)
