"""Chunk shapes: any sizes, order and kind of call give one object with the right bytes."""

from __future__ import annotations

import hashlib
import itertools
import random
from collections.abc import Callable
from typing import Any

import pytest

from sluice.upload.v1 import upload_pb2
from support.wire import Chunk, WireClient, cut

KIB = 1024
MIB = 1024 * KIB

Order = Callable[[list[Chunk]], list[Chunk]]


def forwards(chunks: list[Chunk]) -> list[Chunk]:
    return chunks


def backwards(chunks: list[Chunk]) -> list[Chunk]:
    return chunks[::-1]


def shuffled(chunks: list[Chunk]) -> list[Chunk]:
    return random.Random(7).sample(chunks, len(chunks))


def with_duplicates(chunks: list[Chunk]) -> list[Chunk]:
    twice = [chunk for chunk in chunks for _ in range(2)]
    return random.Random(11).sample(twice, len(twice))


ORDERS = [forwards, backwards, shuffled, with_duplicates]
# Chunk size, object size: many chunks in one part, or three parts, of which the last is short.
DECLARED = [(1, 300), (64 * KIB - 1, 17 * MIB), (5 * MIB, 23 * MIB), (16 * MIB, 33 * MIB)]


def random_bytes(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


async def send(wire: WireClient, way: str, upload_id: str, chunks: list[Chunk]) -> None:
    if way == "unary":
        await wire.send_unary(upload_id, chunks)
    else:
        await wire.send_streams(upload_id, chunks, 8 if way == "eight streams" else 1)


async def assert_becomes(wire: WireClient, upload_id: str, node_id: str, data: bytes) -> None:
    status = await wire.complete(upload_id)
    assert status.state == upload_pb2.UPLOAD_STATE_COMPLETED, status
    assert await wire.read_sha256(node_id) == (hashlib.sha256(data).hexdigest(), len(data))


@pytest.mark.parametrize("way", ["one stream", "eight streams", "unary"])
@pytest.mark.parametrize("order", ORDERS, ids=lambda order: order.__name__)
@pytest.mark.parametrize(("chunk_size", "size"), DECLARED)
async def test_chunks_of_a_declared_size_become_the_object(
    wire: WireClient, chunk_size: int, size: int, order: Order, way: str
) -> None:
    data = random_bytes(size, seed=chunk_size)
    opened = await wire.initiate(
        f"declared/{chunk_size}-{order.__name__}-{way}", chunk_size=chunk_size
    )
    chunks = order(cut(data, itertools.repeat(chunk_size)))
    await send(wire, way, opened.upload_id, chunks)
    await assert_becomes(wire, opened.upload_id, opened.node_id, data)


@pytest.mark.parametrize("way", ["one stream", "eight streams", "unary"])
@pytest.mark.parametrize("order", ORDERS, ids=lambda order: order.__name__)
async def test_undeclared_random_chunk_sizes_become_the_object(
    wire: WireClient, order: Order, way: str
) -> None:
    source = random.Random(23)
    data = random_bytes(24 * MIB, seed=23)
    sizes = [source.choice([1, 1000, 64 * KIB, 700_000, 3 * MIB]) for _ in range(200)]
    opened = await wire.initiate(f"random/{order.__name__}-{way}")
    await send(wire, way, opened.upload_id, order(cut(data, sizes)))
    await assert_becomes(wire, opened.upload_id, opened.node_id, data)


@pytest.mark.parametrize("declared", [True, False])
async def test_file_of_equal_zero_chunks_becomes_the_object(
    wire: WireClient, declared: bool
) -> None:
    data = bytes(40 * MIB)
    fields: dict[str, Any] = {"chunk_size": 5 * MIB} if declared else {}
    opened = await wire.initiate(f"zeros/{declared}", **fields)
    await wire.send_streams(opened.upload_id, shuffled(cut(data, itertools.repeat(5 * MIB))), 4)
    await assert_becomes(wire, opened.upload_id, opened.node_id, data)


async def test_an_empty_object_needs_one_empty_chunk_or_none(wire: WireClient) -> None:
    one = await wire.initiate("empty/one-chunk")
    await wire.send_stream(one.upload_id, [Chunk(0, b"", is_last=True)])
    await assert_becomes(wire, one.upload_id, one.node_id, b"")
    none = await wire.initiate("empty/no-chunk")
    status = await wire.complete(none.upload_id, total_chunks=0)
    assert status.state == upload_pb2.UPLOAD_STATE_COMPLETED
    inline = await wire.initiate("empty/inline", inline_data=b"")
    await assert_becomes(wire, inline.upload_id, inline.node_id, b"")
