"""Uploads under any sequence of faults: correct content, no received chunk resent."""

from __future__ import annotations

import random
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sluice_client import Client, ClientOptions, RetryPolicy
from support.fake_intake import CHUNK_BYTES, FakeIntake, serving
from support.scripted_faults import Break, CallFault, StreamFault

healable = st.sampled_from([kind for kind in Break if kind is not Break.DENIED])
stream_faults = st.lists(
    st.builds(StreamFault, st.integers(0, 24), healable, st.booleans()), max_size=8
)
call_faults = st.lists(
    st.builds(
        CallFault,
        st.sampled_from(
            [
                grpc.StatusCode.UNAVAILABLE,
                grpc.StatusCode.DEADLINE_EXCEEDED,
                grpc.StatusCode.ABORTED,
            ]
        ),
        done=st.booleans(),
    ),
    max_size=3,
)
sizes = st.sampled_from(
    [0, 1, 1024, 1025, CHUNK_BYTES, CHUNK_BYTES + 1, 6 * CHUNK_BYTES, 9 * CHUNK_BYTES - 7]
)


def fast(state: Path) -> ClientOptions:
    return ClientOptions(
        retry=RetryPolicy(
            first_delay_seconds=0.0005, longest_delay_seconds=0.005, patience_seconds=20
        ),
        completion_wait_seconds=0.1,
        state_dir=state,
    )


def count_damages(faults: list[StreamFault]) -> int:
    return sum(fault.kind is Break.DATA_LOSS for fault in faults)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    size=sizes,
    streams=st.integers(1, 4),
    faults=stream_faults.filter(lambda faults: count_damages(faults) <= 3),
    initiate=call_faults,
    status=call_faults,
    complete=call_faults,
    from_file=st.booleans(),
    max_ranges=st.sampled_from([1, 2, 1000]),
)
async def test_repeatable_source_survives_any_sequence_of_breaks(
    size: int,
    streams: int,
    faults: list[StreamFault],
    initiate: list[CallFault],
    status: list[CallFault],
    complete: list[CallFault],
    from_file: bool,
    max_ranges: int,
) -> None:
    data = random.Random(size).randbytes(size)
    intake = FakeIntake()
    intake.stream_faults = list(faults)
    intake.max_ranges = max_ranges
    intake.call_faults.update(
        InitiateUpload=list(initiate), GetUploadStatus=list(status), CompleteUpload=list(complete)
    )
    with tempfile.TemporaryDirectory() as folder:
        source: bytes | Path = data
        if from_file:
            source = Path(folder) / "source"
            source.write_bytes(data)
        async with serving(intake) as address, Client(address, options=fast(Path(folder))) as it:
            result = await it.upload(source, drive="d", path="p", streams=streams)
    (upload,) = intake.completed
    assert upload.data == data
    assert len(intake.uploads) == 1, "a lost answer of InitiateUpload opens no second upload"
    assert intake.resent == []
    assert (result.size, result.upload_id) == (size, upload.upload_id)


async def pieces(data: bytes, sizes: list[int]) -> AsyncIterator[bytes]:
    at = 0
    for size in sizes:
        yield data[at : at + size]
        at += size
    yield data[at:]


@settings(max_examples=40, deadline=None)
@given(
    size=sizes,
    cuts=st.lists(st.integers(0, 3 * CHUNK_BYTES), max_size=8),
    streams=st.integers(1, 3),
    faults=stream_faults.filter(lambda faults: count_damages(faults) <= 3),
)
async def test_one_way_source_survives_broken_streams(
    size: int, cuts: list[int], streams: int, faults: list[StreamFault]
) -> None:
    data = random.Random(size).randbytes(size)
    intake = FakeIntake()
    intake.stream_faults = list(faults)
    with tempfile.TemporaryDirectory() as folder:
        async with serving(intake) as address, Client(address, options=fast(Path(folder))) as it:
            result = await it.upload(pieces(data, cuts), drive="d", path="p", streams=streams)
    (upload,) = intake.completed
    assert upload.data == data
    assert intake.resent == []
    assert result.size == size


@pytest.mark.rule(28)
@settings(max_examples=25, deadline=None)
@given(
    after=st.integers(1, 9),
    faults=stream_faults.filter(lambda faults: count_damages(faults) <= 3),
    take_back=st.lists(st.sets(st.integers(0, 8)), max_size=3),
    streams=st.integers(1, 4),
)
async def test_server_that_lost_its_state_gets_everything_again(
    after: int, faults: list[StreamFault], take_back: list[set[int]], streams: int
) -> None:
    data = random.Random(after).randbytes(9 * CHUNK_BYTES)
    intake = FakeIntake()
    intake.lose_everything_after = after
    intake.stream_faults = list(faults)
    intake.take_back_at_completion = [set(numbers) for numbers in take_back]
    with tempfile.TemporaryDirectory() as folder:
        async with serving(intake) as address, Client(address, options=fast(Path(folder))) as it:
            result = await it.upload(data, drive="d", path="p", streams=streams)
    (upload,) = intake.completed
    assert upload.data == data
    assert intake.resent == []
    assert result.restarts == 1


@pytest.mark.parametrize("streams", [1, 2, 4])
async def test_chunk_that_others_wait_for_is_never_stuck_behind_them(
    client: Client, intake: FakeIntake, streams: int
) -> None:
    """The stream with the needed chunk breaks while the others are delayed by it."""
    data = random.Random(1).randbytes(12 * CHUNK_BYTES)
    intake.wait_for_chunk = 0
    intake.stream_faults = [StreamFault(2, Break.UNAVAILABLE)]
    await client.upload(data, drive="d", path="p", streams=streams)
    assert intake.completed[0].data == data
    assert intake.resent == []
