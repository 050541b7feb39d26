"""A server observed by the oracle, for fault tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc.aio

from support.deployments import Deployment
from support.oracle import Oracle, published_by
from support.oracle.judge import Resend
from support.recorder import Recorder
from support.server import StandaloneServer
from support.wire import CHANNEL_OPTIONS, WireClient


@dataclass(frozen=True, slots=True)
class Scene:
    """A running server; observed clients connect to `recorder.address`, as `wire` does."""

    backends: Deployment
    server: StandaloneServer
    recorder: Recorder
    wire: WireClient
    oracle: Oracle

    async def judge(self, resend: Resend | None = None, *, may_lose: bool = False) -> None:
        """Complete every upload (`Oracle.settle`), then check everything (`Oracle.check`)."""
        await self.oracle.settle(self.wire, resend)
        published = published_by(self.backends)
        await self.oracle.check(self.wire, self.backends, published, may_lose=may_lose)


@asynccontextmanager
async def scene(
    backends: Deployment, settings: Mapping[str, str] | None = None
) -> AsyncIterator[Scene]:
    """Run a server on these backends with an oracle in front of its intake."""
    oracle = Oracle()
    with backends.serving(settings) as server:
        async with (
            Recorder(server.address, oracle).serving() as recorder,
            grpc.aio.insecure_channel(recorder.address, options=CHANNEL_OPTIONS) as intake,
            grpc.aio.insecure_channel(server.repository_address) as repository,
        ):
            wire = WireClient(intake)
            wire.repository = WireClient(repository).repository
            yield Scene(backends, server, recorder, wire, oracle)
