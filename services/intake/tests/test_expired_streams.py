"""Streams that outlive the token of their caller: acknowledged chunks stay."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import pytest

from sluice.upload.v1 import upload_pb2 as pb
from sluice_backends.instruments import Registry
from sluice_common.rpc.errors import from_rpc_error
from sluice_common.rpc.stream_expiry import StreamExpiry
from sluice_common.security.claims import ClaimRules
from sluice_common.security.keys.key_ring import key_set
from sluice_common.security.metrics import TokenMetrics
from sluice_common.security.tokens import JwtAuthenticator
from sluice_common.settings.rpc_options import ServerOptions
from sluice_core.errors import SluiceError
from support import tokens
from support.intake import Intake, block, frames_of, header, running_intake
from support.jwt_authenticator import FixedKeys, bearer, jwt_authenticator
from support.tokens import NOW, DrivenClock, claims

GRACE_SECONDS = 300.0
AFTER = NOW + 60 + GRACE_SECONDS
METADATA = bearer(tokens.rsa_key().token(claims(exp=NOW + 60)))
RENEWED = bearer(tokens.rsa_key().token(claims(exp=AFTER + 60)))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> DrivenClock:
    # The test moves the clock; the server reads it again soon, not only after a minute.
    monkeypatch.setattr(StreamExpiry, "check_seconds", 0.01)
    return DrivenClock()


@pytest.fixture
async def intake(clock: DrivenClock) -> AsyncIterator[Intake]:
    async with running_intake(
        server=ServerOptions(stream_grace_seconds=GRACE_SECONDS),
        authenticator=jwt_authenticator(clock),
        clock=clock,
    ) as running:
        yield running


async def initiate(intake: Intake) -> str:
    request = pb.InitiateUploadRequest(drive="photos", path="a.bin")
    return (await intake.stub.InitiateUpload(request, metadata=METADATA)).upload_id


async def next_answer(call: Any) -> Any:
    """Return the next answer of an UploadStream that is no `Stored`."""
    while (answer := await call.read()).WhichOneof("event") == "stored":
        pass
    return answer


async def end_of(call: Any) -> SluiceError:
    """Read a stream to its end; return its error."""
    try:
        while await call.read() is not grpc.aio.EOF:  # type: ignore[attr-defined]
            pass
    except grpc.aio.AioRpcError as error:
        return from_rpc_error(error)
    raise AssertionError("the stream ended well")


async def received(intake: Intake, upload_id: str, metadata: Any) -> int:
    request = pb.GetUploadStatusRequest(upload_id=upload_id)
    return (await intake.stub.GetUploadStatus(request, metadata=metadata)).status.received_bytes


async def test_upload_stream_ends_and_continues_with_a_new_token(
    intake: Intake, clock: DrivenClock
) -> None:
    """In the middle of a chunk: what was acknowledged stays, the rest is sent again."""
    upload_id = await initiate(intake)
    open_stream: Any = intake.stub.UploadStream
    call = open_stream(metadata=METADATA)
    for frame in frames_of(upload_id, 0, b"first"):
        await call.write(frame)
    assert (await next_answer(call)).accepted.number == 0
    clock.now = AFTER - 1
    for frame in frames_of(upload_id, 1, b"in the grace period"):
        await call.write(frame)
    assert (await next_answer(call)).accepted.number == 1
    await call.write(header(upload_id, 2, 10))
    await call.write(block(b"half "))
    clock.now = AFTER
    error = await end_of(call)
    assert (error.code, error.reason) == ("UNAUTHENTICATED", "TOKEN_EXPIRED")
    assert await received(intake, upload_id, RENEWED) == len(b"firstin the grace period")

    again = open_stream(metadata=RENEWED)
    for frame in frames_of(upload_id, 2, b"half a one"):
        await again.write(frame)
    assert (await next_answer(again)).accepted.number == 2
    await again.done_writing()
    counted = intake.metrics.registry.get_sample_value("sluice_auth_expired_streams_total")
    assert counted == 1


async def test_waiting_upload_stream_ends(intake: Intake, clock: DrivenClock) -> None:
    upload_id = await initiate(intake)
    open_stream: Any = intake.stub.UploadStream
    call = open_stream(metadata=METADATA)
    for frame in frames_of(upload_id, 0, b"first"):
        await call.write(frame)
    assert (await next_answer(call)).accepted.number == 0
    clock.now = AFTER
    assert (await end_of(call)).reason == "TOKEN_EXPIRED"


async def test_watch_ends(intake: Intake, clock: DrivenClock) -> None:
    upload_id = await initiate(intake)
    watch: Any = intake.stub.WatchUpload
    call = watch(pb.WatchUploadRequest(upload_id=upload_id), metadata=METADATA)
    assert (await call.read()).status.upload_id == upload_id
    clock.now = AFTER
    assert (await end_of(call)).reason == "TOKEN_EXPIRED"


async def test_stream_ends_when_its_key_is_withdrawn(clock: DrivenClock) -> None:
    """And goes on while other keys come and go."""
    old, new = tokens.rsa_key(), tokens.rsa_key("rsa-2")
    source = FixedKeys(key_set(tokens.key_set(old)))
    rules, metrics = ClaimRules(tokens.AUDIENCE), TokenMetrics(Registry())
    authenticator = JwtAuthenticator(source, rules, metrics, clock=clock)
    async with running_intake(authenticator=authenticator, clock=clock) as intake:
        upload_id = await initiate(intake)
        open_stream: Any = intake.stub.UploadStream
        call = open_stream(metadata=METADATA)
        source.keys = key_set(tokens.key_set(old, new))
        for frame in frames_of(upload_id, 0, b"first"):
            await call.write(frame)
        assert (await next_answer(call)).accepted.number == 0
        source.keys = key_set(tokens.key_set(new))
        assert (await end_of(call)).reason == "TOKEN_EXPIRED"
        renewed = bearer(new.token(claims()))
        assert await received(intake, upload_id, renewed) == len(b"first")


async def test_no_call_begins_with_an_expired_token(intake: Intake, clock: DrivenClock) -> None:
    """The grace is for streams that run."""
    upload_id = await initiate(intake)
    clock.now = NOW + 100
    open_stream: Any = intake.stub.UploadStream
    assert (await end_of(open_stream(metadata=METADATA))).reason == "TOKEN_EXPIRED"
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await received(intake, upload_id, METADATA)
    assert from_rpc_error(caught.value).reason == "TOKEN_EXPIRED"


async def test_token_of_another_tenant_finds_no_upload(intake: Intake) -> None:
    upload_id = await initiate(intake)
    other = bearer(tokens.rsa_key().token(claims(tenant="globex", scope="tenant:admin")))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await received(intake, upload_id, other)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_two_credentials_are_refused(intake: Intake) -> None:
    """Even if both are the same, or one is empty."""
    for second in (METADATA, (("authorization", ""),), (("authorization", "Basic YTpi"),)):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await received(intake, "x", METADATA + second)
        assert from_rpc_error(caught.value).reason == "AMBIGUOUS_CREDENTIALS"


async def test_megabyte_of_token_is_refused_by_the_transport(intake: Intake) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await received(intake, "x", bearer("A" * 1_000_000))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert await initiate(intake), "the connection serves on"
