"""Downloads that outlive the token of their caller."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from sluice.repository.v1 import repository_pb2 as pb
from sluice_common.rpc.errors import from_rpc_error
from sluice_common.rpc.stream_expiry import StreamExpiry
from sluice_common.telemetry.metrics import RpcMetrics
from sluice_core.errors import SluiceError
from sluice_core.uploads.model import MIB
from support import tokens
from support.jwt_authenticator import bearer, jwt_authenticator
from support.repository import running_repository, serving
from support.tokens import NOW, DrivenClock, claims
from support.waiting import until

CONTENT = bytes(64 * MIB)
GRACE_SECONDS = 300.0


async def test_read_ends_with_its_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also of a client that does not read: it gets the status after the data on its way."""
    monkeypatch.setattr(StreamExpiry, "check_seconds", 0.01)
    clock, metrics = DrivenClock(), RpcMetrics()
    async with running_repository(tmp_path) as storage:
        commit = await storage.store("large.bin", CONTENT)
        async with serving(
            storage.catalogue,
            storage.objects,
            authenticator=jwt_authenticator(clock),
            clock=clock,
            metrics=metrics,
        ) as repository:
            read: Any = repository.stub.ReadNode
            token = tokens.rsa_key().token(claims(exp=NOW + 60, scope="tenant:admin"))
            call = read(pb.ReadNodeRequest(node_id=commit.node_id), metadata=bearer(token))
            sizes = [len((await call.read()).data)]
            clock.now = NOW + 60 + GRACE_SECONDS
            ended = "sluice_auth_expired_streams_total"
            await until(lambda: metrics.registry.get_sample_value(ended) == 1)
            error = await read_on(call, sizes)
    assert (error.code, error.reason) == ("UNAUTHENTICATED", "TOKEN_EXPIRED")
    assert sum(sizes) < len(CONTENT)


async def read_on(call: Any, sizes: list[int]) -> SluiceError:
    """Read to the end of a call and return its error."""
    try:
        while (answer := await call.read()) is not grpc.aio.EOF:  # type: ignore[attr-defined]
            sizes.append(len(answer.data))
    except grpc.aio.AioRpcError as error:
        return from_rpc_error(error)
    raise AssertionError("the whole node was read")
