"""Fixtures: a gateway on real sockets before a real intake."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sluice_gateway.http.authentication import Authentication
from sluice_gateway.tus.options import TusOptions
from support.gateway import Gateway, TusBackend, running_gateway
from support.intake import Intake, TenantFromHeader, running_intake
from support.tus import TusClient


@pytest.fixture
async def intake() -> AsyncIterator[Intake]:
    async with running_intake() as running:
        yield running


@pytest.fixture
def options() -> TusOptions:
    """No worker stores what this intake accepts, so that nothing is to be waited for."""
    return TusOptions(max_size=64 * 1024 * 1024, complete_seconds=0.0)


@pytest.fixture
def backend(intake: Intake, options: TusOptions) -> TusBackend:
    """The intake alone; tokens name their tenant, on both sides."""
    return TusBackend(intake.address, "127.0.0.1:1", options, Authentication(TenantFromHeader()))


@pytest.fixture
async def gateway(tmp_path: Path, backend: TusBackend) -> AsyncIterator[Gateway]:
    async with running_gateway(tmp_path, tus=backend) as running:
        yield running


@pytest.fixture
def tus(gateway: Gateway) -> TusClient:
    return TusClient(gateway, "ann")
