"""Fuzzing of every method with arbitrary bytes: typed errors, no blocked loop, no growth.
SLUICE_FUZZ_INPUTS sets the number of requests per service (`make test-model` takes many).
"""

from __future__ import annotations

import gc
import gzip
import os
import tempfile
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
import psutil
import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor, ServiceDescriptor
from google.rpc import error_details_pb2
from grpc_channelz.v1 import channelz_pb2
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from grpc_status import rpc_status
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from sluice.repository.v1 import chunk_sink_pb2, repository_pb2
from sluice.upload.v1 import upload_pb2
from sluice_common.rpc.interceptors import admin_layers
from sluice_common.rpc.server import Health, build_channelz_server, listen
from sluice_common.settings.rpc_options import ServerOptions
from sluice_common.telemetry.metrics import RpcMetrics
from sluice_core.addresses import Address
from sluice_core.uploads.model import MIB
from support.chunk_sink import running_sink
from support.commits import TENANT
from support.intake import running_intake
from support.repository import running_repository
from support.threaded_server import LoopSteps, threaded_server

pytestmark = pytest.mark.measures

INPUTS = int(os.environ.get("SLUICE_FUZZ_INPUTS", "240"))
BATCH: Final = 12
LONGEST_STEP_SECONDS: Final = 0.05
LARGEST_GROWTH_BYTES: Final = 48 * MIB
ANSWERS_OF_ITS_OWN: Final = frozenset({"grpc.health.v1.Health", "grpc.channelz.v1.Channelz"})
"""Services whose handlers are gRPC's and answer NOT_FOUND without details."""


@asynccontextmanager
async def _intake() -> AsyncIterator[str]:
    async with running_intake() as intake:
        yield intake.address


@asynccontextmanager
async def _repository() -> AsyncIterator[str]:
    with tempfile.TemporaryDirectory() as folder:
        async with running_repository(Path(folder)) as repository:
            yield repository.address


@asynccontextmanager
async def _sink() -> AsyncIterator[str]:
    async with running_sink() as sink:
        yield sink.address


@asynccontextmanager
async def _channelz() -> AsyncIterator[str]:
    server = build_channelz_server((admin_layers(RpcMetrics(), ServerOptions()),))
    Health().add_to(server)
    address = listen(server, "TEST", Address("127.0.0.1", 0))
    await server.start()
    try:
        yield str(address)
    finally:
        await server.stop(None)


def _service(module: Any, name: str) -> ServiceDescriptor:
    found: ServiceDescriptor = module.DESCRIPTOR.services_by_name[name]
    return found


SERVICES: dict[str, tuple[ServiceDescriptor, Callable[[], AbstractAsyncContextManager[str]]]] = {
    "intake": (_service(upload_pb2, "IntakeService"), _intake),
    "repository": (_service(repository_pb2, "RepositoryService"), _repository),
    "chunk sink": (_service(chunk_sink_pb2, "ChunkSinkService"), _sink),
    "reflection": (_service(reflection_pb2, "ServerReflection"), _intake),
    "health": (_service(health_pb2, "Health"), _channelz),
    "channelz": (_service(channelz_pb2, "Channelz"), _channelz),
}


@dataclass(frozen=True, slots=True)
class Running:
    """Running service with a client that sends raw bytes."""

    service: ServiceDescriptor
    channel: grpc.Channel
    steps: LoopSteps

    def send(self, method: str, wire: bytes, seconds: float = 0.5) -> grpc.StatusCode:
        """Send one message; check the details of the status and return it."""
        path = f"/{self.service.full_name}/{method}"
        channel: Any = self.channel  # its stubs require serializers
        call = channel.stream_stream(path)(
            iter([wire]), timeout=seconds, metadata=(("authorization", TENANT),)
        )
        try:
            for _ in call:
                break
            else:
                return grpc.StatusCode.OK
            call.cancel()
        except grpc.RpcError:
            assert_typed(self.service.full_name, call)
            code: grpc.StatusCode = call.code()
            return code
        return grpc.StatusCode.OK


def assert_typed(service: str, call: Any) -> None:
    """Check that an error carries a machine-readable reason."""
    code, text = call.code(), call.details()
    assert code not in (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL), (code, text)
    if code is grpc.StatusCode.DEADLINE_EXCEEDED or service in ANSWERS_OF_ITS_OWN:
        return  # a watch or a wait that the client ended
    status = rpc_status.from_call(call)
    assert status is not None, (code, text)
    info = error_details_pb2.ErrorInfo()
    assert any(detail.Unpack(info) for detail in status.details), (code, text)
    assert (info.domain, info.reason) == ("sluice", info.reason.upper()), (code, text)


@pytest.fixture(name="running", params=SERVICES, scope="module")
def a_running_service(request: pytest.FixtureRequest) -> Iterator[Running]:
    service, server = SERVICES[request.param]
    with threaded_server(server) as (address, steps):
        options = [("grpc.max_send_message_length", -1)]
        with grpc.insecure_channel(address, options=options) as channel:
            yield Running(service, channel, steps)


# ------------------------------------------------------------------ bytes


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes((*encoded, value))


def _delimited(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


_NUMBERS = st.integers(1, 16) | st.sampled_from([0, 1000, 2**29 - 1])
_FIELDS = st.one_of(
    st.builds(lambda n, v: _varint(n << 3) + _varint(v), _NUMBERS, st.integers(0, 2**64 - 1)),
    st.builds(_delimited, _NUMBERS, st.binary(max_size=60)),
    st.builds(_delimited, _NUMBERS, st.text(max_size=30).map(str.encode)),
    st.builds(lambda n, v: _varint(n << 3 | 5) + v, _NUMBERS, st.binary(min_size=4, max_size=4)),
    st.builds(lambda n: _varint(n << 3 | 3), _NUMBERS),
)
_MESSAGES = st.lists(_FIELDS, max_size=8).map(b"".join)
_NESTED = st.lists(st.builds(_delimited, _NUMBERS, _MESSAGES), max_size=4).map(b"".join)
_FLOODS = st.builds(lambda field, count: field * count, _FIELDS, st.sampled_from([300, 3_000]))
_PLAIN = st.binary(max_size=200) | _MESSAGES | _NESTED | _FLOODS
_WIRES = st.one_of(
    _PLAIN,
    _PLAIN.map(gzip.compress),
    _PLAIN.map(zlib.compress),
    st.builds(lambda wire, cut: gzip.compress(wire)[:cut], _PLAIN, st.integers(0, 40)),
)


def test_any_bytes_get_a_typed_response(running: Running) -> None:
    """The event loop is never blocked, and the requests are not retained."""
    methods = [method.name for method in running.service.methods]
    requests = st.tuples(st.sampled_from(methods), _WIRES)
    process = psutil.Process()
    slow: list[tuple[str, bytes, str]] = []
    sample: list[tuple[str, bytes]] = []
    batches = [0]

    def send_any(inputs: int) -> None:
        @settings(
            max_examples=-(-inputs // BATCH),  # no fewer inputs than requested
            database=None,
            phases=(Phase.explicit, Phase.generate),  # shrinking would send thousands more
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        )
        @given(st.lists(requests, min_size=BATCH, max_size=BATCH))
        def send_batch(batch: list[tuple[str, bytes]]) -> None:
            # Here: the whole heap of a test run is not the server's to go through.
            batches[0] += 1
            gc.collect(1 if batches[0] % 20 else 2)
            if len(sample) < 10 * BATCH:
                sample.extend(batch)
            for method, wire in batch:
                running.send(method, wire)
                if running.steps.longest_seconds > LONGEST_STEP_SECONDS:
                    slow.append((method, wire[:40], running.steps.longest))
                    running.steps.reset()

        send_batch()

    for method in methods:
        running.send(method, b"")
    send_any(max(INPUTS // 10, 60))  # what is made once is made now
    running.steps.reset()
    slow.clear()
    gc.disable()
    try:
        send_any(INPUTS)
    finally:
        gc.enable()
    assert slow == []

    # Without Hypothesis, which remembers every input that it made: 12 KB of each.
    gc.collect()
    before = process.memory_info().rss
    for _ in range(max(INPUTS // len(sample), 3)):
        for method, wire in sample:
            running.send(method, wire)
    gc.collect()
    assert process.memory_info().rss - before < LARGEST_GROWTH_BYTES


# ------------------------------------------------------------------ the worst of each method


def _worst(descriptor: Descriptor, max_bytes: int) -> Iterator[tuple[str, bytes]]:
    """Return the most expensive messages of a limit's size, by their content."""
    smallest = {"unknown fields": b"\x82\x7d\x00"}
    for field in descriptor.fields:
        tag = _varint(field.number << 3 | 2)
        if field.type == FieldDescriptor.TYPE_MESSAGE:
            smallest[f"empty {field.name}"] = tag + b"\0"
            yield (
                f"unknown fields in {field.name}",
                _delimited(field.number, b"\x78\0" * ((max_bytes - 8) // 2)),
            )
        elif field.is_repeated:
            smallest[f"packed {field.name}"] = _varint(field.number << 3) + b"\1"
        elif field.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
            yield f"a long {field.name}", _delimited(field.number, b"a" * (max_bytes - 8))
    for what, field_bytes in smallest.items():
        yield what, field_bytes * (max_bytes // len(field_bytes))


def _seconds_to_copy_twice(wire: bytes) -> float:
    """Return the processor time that this machine takes now."""
    began = time.thread_time()
    bytes(bytearray(wire))
    return time.thread_time() - began


def test_no_message_blocks_the_event_loop(running: Running) -> None:
    """Each method gets the most expensive messages within its limit, and larger ones.

    The bound is 10 ms of processor time plus gRPC's two copies of every message. UploadChunk has
    more, because its chunk is copied once more.
    """
    slow: dict[str, float] = {}
    for method in running.service.methods:
        kinds: list[tuple[str, bytes]] = []
        limit = {"UploadStream": MIB, "PutChunks": MIB, "InitiateUpload": MIB}
        for size in {64 * 1024, limit.get(method.name, 64 * 1024), 8 * MIB}:
            kinds += _worst(method.input_type, size)
        for what, wire in kinds:
            for compressed in (wire, gzip.compress(wire, 1)):
                running.steps.reset()
                running.send(method.name, compressed)
                seconds = running.steps.longest_seconds
                if seconds > 0.01:  # once more: the first of a kind may load or collect something
                    running.steps.reset()
                    running.send(method.name, compressed)
                    seconds = min(seconds, running.steps.longest_seconds)
                bound = 0.03 if method.name == "UploadChunk" else 0.01
                if seconds > bound + _seconds_to_copy_twice(compressed):
                    slow[f"{method.name}: {what}, {len(compressed)} bytes"] = seconds
    assert slow == {}
