"""Faults 12, 13 and 17 between a client and the intake: the upload arrives unchanged."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from sluice_client import Client
from support.network_faults import Faults, Way
from support.proxy import FaultProxy
from support.scene import Scene

MIB = 1024 * 1024
CHUNK = MIB

Weather = Callable[[FaultProxy], Coroutine[Any, Any, None]]


async def upload(address: str, source: Path, size: int) -> None:
    source.write_bytes(os.urandom(size))
    async with Client(address) as client:
        done = await client.upload(source, drive="storm", path="file", chunk_size=CHUNK)
    assert done.size == size


@pytest.mark.rule(5)
async def test_flipped_bit_is_refused_by_the_intake_and_resent(
    here: Scene, line: FaultProxy, tmp_path: Path
) -> None:
    line.up = Faults(flip_at=CHUNK + CHUNK // 2)
    await upload(line.address, tmp_path / "file", 6 * MIB)
    (noted,) = here.oracle.observations.uploads.values()
    # The damaged chunk reached the intake; the correct one was accepted under its number.
    assert [len(contents) for contents in noted.sent.values()].count(2) == 1
    await here.judge()


async def resets(line: FaultProxy) -> None:
    for _ in range(4):
        await asyncio.sleep(0.4)
        line.reset()


async def a_black_hole(line: FaultProxy) -> None:
    await asyncio.sleep(0.5)
    line.both(Faults(stalled=True))
    await asyncio.sleep(3)
    line.heal()


async def lost_answers(line: FaultProxy) -> None:
    """Deliver the requests but stall the responses until the connection breaks."""
    await asyncio.sleep(0.5)
    line.down = Faults(stalled=True)
    await asyncio.sleep(1)
    line.reset()
    line.heal()


async def half_open(line: FaultProxy) -> None:
    await asyncio.sleep(0.5)
    line.half_close(Way.UP)
    await asyncio.sleep(0.5)
    line.half_close(Way.DOWN)


async def crumbs(line: FaultProxy) -> None:
    line.both(Faults(latency_seconds=0.05, slice_bytes=1111))
    await asyncio.sleep(3)
    line.heal()


@pytest.mark.parametrize("weather", [resets, a_black_hole, lost_answers, half_open, crumbs])
async def test_upload_survives_connection_faults(
    here: Scene, line: FaultProxy, tmp_path: Path, weather: Weather
) -> None:
    # Slow enough that every fault occurs during the upload on any machine.
    line.up = Faults(bytes_per_second=4 * MIB)
    async with asyncio.timeout(120), asyncio.TaskGroup() as group:
        group.create_task(upload(line.address, tmp_path / "file", 8 * MIB))
        group.create_task(weather(line))
    await here.judge()
