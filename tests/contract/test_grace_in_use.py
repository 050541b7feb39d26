"""The grace period of a stream whose repository is another process and checks its token too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from sluice.upload.v1 import upload_pb2 as up
from sluice_common.rpc.errors import from_rpc_error
from sluice_common.rpc.stream_expiry import StreamExpiry
from sluice_common.settings.rpc_options import ServerOptions
from sluice_intake import lookup
from support import tokens
from support.guarded_services import OPEN, guarded_services, refused
from support.intake import frames_of
from support.jwt_authenticator import bearer, jwt_authenticator
from support.tokens import NOW, DrivenClock, claims

GRACE_SECONDS = 300.0
EXPIRES_AT = NOW + 60


async def answer(call: Any) -> Any:
    while (event := await call.read()).WhichOneof("event") == "stored":
        pass
    return event


async def test_grace_holds_with_a_separate_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The repeated check asks the repository with the stream's own token, which has expired."""
    monkeypatch.setattr(lookup, "RECHECK_SECONDS", 0.0)
    monkeypatch.setattr(StreamExpiry, "check_seconds", 0.01)
    clock = DrivenClock()
    options = ServerOptions(stream_grace_seconds=GRACE_SECONDS)
    token = bearer(tokens.rsa_key().token(claims(exp=EXPIRES_AT)))
    async with guarded_services(tmp_path, jwt_authenticator(clock), clock, options) as services:
        await services.add_drives("acme")
        request = up.InitiateUploadRequest(drive=OPEN, path="a")
        upload = await services.intake.InitiateUpload(request, metadata=token)
        stream: Any = services.intake.UploadStream
        call = stream(metadata=token)
        for number, seconds in enumerate((0.0, 100.0, GRACE_SECONDS - 1)):
            clock.now = EXPIRES_AT + seconds
            services.clock.seconds += 60.0  # the cached drive is no longer fresh
            for frame in frames_of(upload.upload_id, number, b"x"):
                await call.write(frame)
            assert (await answer(call)).accepted.number == number
        again = services.intake.InitiateUpload(request, metadata=token)
        assert await refused(again) == "TOKEN_EXPIRED", "no grace for new calls"
        clock.now = EXPIRES_AT + GRACE_SECONDS
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await answer(call)
    assert from_rpc_error(ended.value).reason == "TOKEN_EXPIRED"
