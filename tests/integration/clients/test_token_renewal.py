"""The SDK against a real intake whose authenticator lets tokens expire."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from sluice_client import (
    Client,
    ClientOptions,
    RetryPolicy,
    TokenExpired,
    Unauthenticated,
    UploadState,
    UploadStatus,
)
from sluice_common.rpc.stream_expiry import StreamExpiry
from sluice_core.access.principal import Principal
from sluice_core.errors import Unauthenticated as Refused
from support import tokens
from support.intake import BLOCK, running_intake
from support.jwt_authenticator import jwt_authenticator

DATA = random.Random(3).randbytes(20 * 1024 * 1024)
OPTIONS = ClientOptions(
    retry=RetryPolicy(first_delay_seconds=0.001, longest_delay_seconds=0.01, patience_seconds=20),
    completion_wait_seconds=0.1,
)


@dataclass
class FewCalls:
    """Accepts each token that it issued for a number of calls."""

    calls: int
    left: dict[str, int] = field(default_factory=dict)

    async def issue(self) -> str:
        token = f"token-{len(self.left)}"
        self.left[token] = self.calls
        return token

    async def authenticate(self, authorization: str | None) -> Principal:
        token = (authorization or "").removeprefix("Bearer ")
        if token not in self.left:
            raise Refused("BAD_TOKEN", "The token is unknown; send a valid one.")
        if not self.left[token]:
            raise Refused("TOKEN_EXPIRED", "The token has expired; send a new one.")
        self.left[token] -= 1
        return Principal("acme", "ann", frozenset({"tenant:admin"}))


async def test_upload_survives_tokens_of_one_call() -> None:
    """Every call and every stream of the upload needs a token of its own."""
    table = FewCalls(calls=1)
    async with (
        running_intake(authenticator=table) as server,
        Client(server.address, token=table.issue, options=OPTIONS) as client,
        Client(server.address, token="observer", options=OPTIONS) as observer,
    ):
        table.left["observer"] = 1_000_000
        # Without a repository no upload gets further than COMPLETING.
        upload = asyncio.create_task(client.upload(DATA, drive="d", path="p", streams=2))
        status = await _completing(observer)
        upload.cancel()
        await asyncio.wait([upload])
    assert (status.received_bytes, status.missing) == (len(DATA), ())
    assert len(table.left) > 4, "limits, begin, stream, completion, and the observer's"


async def test_stream_that_outlives_its_token_is_continued(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Signed tokens, and a clock that passes their end and the grace while chunks are sent."""
    monkeypatch.setattr(StreamExpiry, "check_seconds", 0.01)
    clock = tokens.DrivenClock()
    issued: list[str] = []
    renewed = asyncio.Event()

    async def issue() -> str:
        issued.append(tokens.rsa_key().token(tokens.claims(clock.now)))
        if len(issued) == 2:
            renewed.set()
        return issued[-1]

    async def source() -> AsyncIterator[bytes]:
        for at in range(0, len(DATA), BLOCK):
            if at == len(DATA) // 2:
                clock.now += 3600 + 300 + 1
                await renewed.wait()
            yield DATA[at : at + BLOCK]

    async with (
        running_intake(
            authenticator=jwt_authenticator(clock, tokens.rsa_key()), clock=clock
        ) as server,
        Client(server.address, token=issue, options=OPTIONS) as client,
    ):
        upload = asyncio.create_task(client.upload(source(), drive="d", path="p"))
        async with asyncio.timeout(60):
            await renewed.wait()
            status = await _completing(client)
        upload.cancel()
        await asyncio.wait([upload])
    assert (status.received_bytes, status.missing) == (len(DATA), ())
    assert len(issued) == 2


async def _completing(client: Client) -> UploadStatus:
    async with asyncio.timeout(60):
        while True:
            async for found in client.list_uploads([UploadState.COMPLETING]):
                return found


async def test_token_that_is_not_replaced_ends_the_call() -> None:
    table = FewCalls(calls=1)
    async with running_intake(authenticator=table) as server:
        async with Client(server.address, token=await table.issue(), options=OPTIONS) as client:
            await client.limits()
            with pytest.raises(TokenExpired, match="TOKEN_EXPIRED"):
                await client.status("any")
        for token in ("made-up", None):
            async with Client(server.address, token=token, options=OPTIONS) as client:
                with pytest.raises(Unauthenticated, match="BAD_TOKEN"):
                    await client.limits()
