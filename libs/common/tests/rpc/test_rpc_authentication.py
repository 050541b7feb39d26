"""Authentication of every RPC, over a real server, for all kinds and shapes of handlers."""

from __future__ import annotations

import pytest

from sluice_common.telemetry.metrics import RpcMetrics
from support.echo_service import KINDS, call, refusal, serving
from support.token_authenticator import TokenAuthenticator


async def test_without_keys_every_request_is_local() -> None:
    async with serving(RpcMetrics()) as channel:
        assert await call(channel, "Echo", b"who") == b"default/local"


@pytest.mark.parametrize("method", KINDS)
async def test_a_request_without_credentials_is_refused(method: str) -> None:
    async with serving(RpcMetrics(), TokenAuthenticator()) as channel:
        error = await refusal(channel, method, b"x")
        assert (error.code, error.reason) == ("UNAUTHENTICATED", "BAD_CREDENTIALS")


async def test_principal_is_set_per_request_from_credentials() -> None:
    async with serving(RpcMetrics(), TokenAuthenticator()) as channel:
        good = (("authorization", "Bearer good"),)
        assert await call(channel, "Echo", b"who", metadata=good) == b"acme/ann"
        assert (await refusal(channel, "Echo", b"who")).code == "UNAUTHENTICATED"


async def test_two_authorization_headers_are_refused() -> None:
    async with serving(RpcMetrics(), TokenAuthenticator()) as channel:
        two = (("authorization", "Bearer good"), ("authorization", "Bearer good"))
        error = await refusal(channel, "Echo", b"who", metadata=two)
        assert (error.code, error.reason) == ("UNAUTHENTICATED", "AMBIGUOUS_CREDENTIALS")


async def test_authentication_is_counted_by_reason() -> None:
    metrics = RpcMetrics()
    async with serving(metrics, TokenAuthenticator()) as channel:
        good = (("authorization", "Bearer good"),)
        await call(channel, "Echo", b"x", good)
        await refusal(channel, "Echo", b"x")
        await refusal(channel, "Echo", b"x", good + good)
    read = metrics.registry.get_sample_value
    assert read("sluice_auth_accepted_total") == 1
    for reason in ("BAD_CREDENTIALS", "AMBIGUOUS_CREDENTIALS"):
        assert read("sluice_auth_refused_total", {"reason": reason}) == 1


async def test_probes_need_no_credentials() -> None:
    async with serving(RpcMetrics(), TokenAuthenticator()) as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check", None, None)
        assert await check(b"") == b"\x08\x01"  # status: SERVING
