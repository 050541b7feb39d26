"""The layer of rate limits, over a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator

import grpc
import grpc.aio
import pytest
from grpc_reflection.v1alpha import reflection_pb2

from sluice.repository.v1 import chunk_sink_pb2
from sluice.upload.v1 import upload_pb2 as pb
from sluice_backends.memory.rates import MemoryRateBuckets
from sluice_common.rates.limiter import RateLimiter
from sluice_common.rates.metrics import RateMetrics
from sluice_common.rpc.errors import from_rpc_error
from sluice_common.rpc.interceptors import server_layers
from sluice_common.rpc.rate_limiting import RateLimiting
from sluice_common.rpc.reflection import V1, V1ALPHA, add_reflection
from sluice_common.rpc.server import Health, build_server, listen
from sluice_common.security.authentication import LocalAuthenticator
from sluice_common.settings.rates import Rates
from sluice_common.settings.rpc_options import ServerOptions
from sluice_common.telemetry.metrics import RpcMetrics
from sluice_core.addresses import Address
from sluice_core.rates.model import SECOND_US, Rate, RateKind, RateScope
from support.intake import refusal, running_intake

SINK = chunk_sink_pb2.DESCRIPTOR.services_by_name["ChunkSinkService"].full_name
TWO_CALLS = Rates(tenant_calls_per_second=1, burst_seconds=2.0)
"""Two calls at once, and one more every second."""


async def test_calls_above_the_rate_are_refused_with_a_delay() -> None:
    async with running_intake(rates=Rates(subject_calls_per_second=1, burst_seconds=3)) as intake:
        for _ in range(3):
            await intake.stub.GetLimits(pb.GetLimitsRequest(), metadata=intake.metadata)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await intake.stub.GetLimits(pb.GetLimitsRequest(), metadata=intake.metadata)
        error = from_rpc_error(caught.value)
        assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "RATE_LIMITED")
        assert error.metadata["kind"] == "calls"
        assert error.metadata["scope"] == "subject"
        assert error.retry_after_seconds is not None, "RetryInfo"
        assert 0 < error.retry_after_seconds <= 1
        other = intake.of("another tenant")
        await other.stub.GetLimits(pb.GetLimitsRequest(), metadata=other.metadata)


async def test_refused_stream_ends_with_the_same_status() -> None:
    async with running_intake(rates=TWO_CALLS) as intake:
        upload = await intake.initiate()
        await intake.status(upload.upload_id)
        answered = await intake.send_stream([])
        assert answered.error is not None
        assert answered.error.reason == "RATE_LIMITED"


@pytest.fixture(name="exhausted")
async def an_exhausted_server() -> AsyncIterator[grpc.aio.Channel]:
    """Open a channel to a server whose caller has used up its only call of a day."""
    rates = {
        (RateScope.TENANT, RateKind.CALLS): Rate(1, period_us=86_400 * SECOND_US, burst=1),
    }
    limiter = RateLimiter(MemoryRateBuckets(), rates, RateMetrics())
    layers = server_layers(RpcMetrics(), LocalAuthenticator(), inner=(RateLimiting(limiter),))
    server = build_server(ServerOptions(), (layers,))
    health = Health()
    health.add_to(server)
    add_reflection(server, ("sluice.upload.v1.IntakeService",))
    echo = {"Say": grpc.unary_unary_rpc_method_handler(_echo)}
    for service in ("test.Echo", SINK):
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, echo),))
    address = listen(server, "TEST", Address("127.0.0.1", 0))
    await server.start()
    await health.serving(())
    async with grpc.aio.insecure_channel(str(address)) as channel:
        assert await channel.unary_unary("/test.Echo/Say", None, None)(b"hi") == b"hi"
        yield channel
    await server.stop(None)


async def _echo(request: bytes, context: object) -> bytes:
    return request


@pytest.mark.parametrize(
    ("method", "request_bytes"),
    [("/grpc.health.v1.Health/Check", b""), (f"/{SINK}/Say", b"chunk")],
    ids=["health", "chunks between services"],
)
async def test_exempt_services_are_not_limited(
    exhausted: grpc.aio.Channel, method: str, request_bytes: bytes
) -> None:
    for _ in range(20):
        await exhausted.unary_unary(method, None, None)(request_bytes)
    assert (
        await refusal(exhausted.unary_unary("/test.Echo/Say", None, None)(b"hi"))
    ).reason == "RATE_LIMITED"


@pytest.mark.parametrize("version", [V1, V1ALPHA])
async def test_reflection_is_not_limited(exhausted: grpc.aio.Channel, version: str) -> None:
    question = reflection_pb2.ServerReflectionRequest(list_services="")
    for _ in range(5):
        call = exhausted.stream_stream(f"/{version}/ServerReflectionInfo", None, None)
        answers = [answer async for answer in call(iter([question.SerializeToString()]))]
        assert answers
