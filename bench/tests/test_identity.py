"""Authentication of the loads: servers accept their tokens, and every call carries one."""

from __future__ import annotations

import stat
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio
import pytest

from bench.deployment import deployment
from bench.identity import Identity, identity
from bench.load.authorized import authorized
from bench.load.chunk_sender import upload_chunk, upload_stream
from bench.measurement import Load, measure
from bench.units import MIB
from sluice.upload.v1 import upload_pb2 as pb
from sluice.upload.v1 import upload_pb2_grpc
from sluice_backends.instruments import Registry
from sluice_common.security.opening import open_authenticator
from sluice_common.settings import load_settings
from sluice_core.access.scopes import Scope


def settings_of(keys: Identity) -> dict[str, object]:
    """Return the settings of the servers as arguments of `load_settings`."""
    names = {name.removeprefix("SLUICE_AUTH__").lower(): v for name, v in keys.settings.items()}
    return {"auth": names}


async def test_token_is_that_of_its_tenant() -> None:
    with identity() as keys:
        auth = load_settings(**settings_of(keys)).auth
        async with open_authenticator(auth, Registry()) as authenticator:
            for tenant in ("large", "small"):
                token = keys.token_file(tenant).read_text(encoding="utf-8")
                principal = await authenticator.authenticate(f"Bearer {token}")
                assert principal.tenant == tenant
                assert Scope.UPLOADS_WRITE in principal.scopes


def test_keys_are_private_and_deleted() -> None:
    with identity() as keys:
        assert stat.S_IMODE(keys.folder.stat().st_mode) == 0o700
        assert keys.token_file("bench").exists()
    assert not keys.folder.exists()


class Intake(upload_pb2_grpc.IntakeServiceServicer):
    """Intake that records the header `authorization` of every call."""

    def __init__(self) -> None:
        self.received: list[object] = []

    def _record(self, context: grpc.aio.ServicerContext) -> None:  # type: ignore[type-arg]
        self.received.append(dict(context.invocation_metadata() or ()).get("authorization"))

    async def InitiateUpload(self, request, context):  # type: ignore[no-untyped-def]  # noqa: N802
        self._record(context)
        return pb.InitiateUploadResponse(upload_id="one")

    async def UploadChunk(self, request, context):  # type: ignore[no-untyped-def]  # noqa: N802
        self._record(context)
        return pb.UploadChunkResponse()

    async def UploadStream(self, request_iterator, context):  # type: ignore[no-untyped-def]  # noqa: N802
        self._record(context)
        async for _ in request_iterator:
            yield pb.UploadStreamResponse()

    async def WatchUpload(self, request, context):  # type: ignore[no-untyped-def]  # noqa: N802
        self._record(context)
        yield pb.WatchUploadResponse()


@pytest.fixture
async def intake() -> Intake:
    return Intake()  # type: ignore[abstract]  # only the methods that a load calls


@pytest.fixture
async def channel(intake: Intake) -> AsyncIterator[grpc.aio.Channel]:
    server = grpc.aio.server()
    upload_pb2_grpc.add_IntakeServiceServicer_to_server(intake, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as opened:
        yield opened
    await server.stop(None)


@pytest.mark.parametrize("given", [True, False])
async def test_every_call_carries_the_given_token(
    given: bool, intake: Intake, channel: grpc.aio.Channel, tmp_path: Path
) -> None:
    token_file = tmp_path / "token"
    token_file.write_text("a.b.c\n")
    calling = authorized(channel, token_file if given else None)
    stub = upload_pb2_grpc.IntakeServiceStub(calling)
    await stub.InitiateUpload(pb.InitiateUploadRequest())
    await upload_chunk(calling)(b"")
    stream = upload_stream(calling)()
    await stream.write(b"")
    await stream.read()
    stream.cancel()
    async for _ in stub.WatchUpload(pb.WatchUploadRequest()):
        pass
    assert intake.received == ["Bearer a.b.c" if given else None] * 4


def test_deployment_with_keys_serves_the_load() -> None:
    """Without a token, the intake refuses to open an upload."""
    with identity() as keys, deployment(1, keys) as sluice:
        run = measure(sluice, Load(chunk_bytes=MIB, chunks=4))
        assert run.figures["chunks"] == 4
        with grpc.insecure_channel(sluice.intake) as channel:
            stub = upload_pb2_grpc.IntakeServiceStub(channel)
            with pytest.raises(grpc.RpcError) as refused:
                stub.InitiateUpload(pb.InitiateUploadRequest(drive=sluice.drive, path="a"))
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
