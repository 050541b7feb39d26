"""The gRPC host: health, reflection, channelz, drain, allowed addresses."""

from __future__ import annotations

import asyncio
import stat
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_channelz.v1 import channelz_pb2, channelz_pb2_grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from sluice_backends.instruments import Registry
from sluice_common.rpc.host import CHANNELZ, METRICS, RpcHost, Service, hosting
from sluice_common.rpc.server import build_server, listen_in, private_folder
from sluice_common.security.authentication import LocalAuthenticator
from sluice_common.settings import SluiceSettings, load_settings
from sluice_common.settings.rpc_options import ServerOptions
from sluice_common.telemetry.tracing import Tracing
from sluice_core.access.principal import DEFAULT_TENANT, Principal, current_principal
from sluice_core.addresses import Address
from sluice_core.configuration import ConfigurationError

ANY = Address("127.0.0.1", 0)
SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE = "test.Slow"


class Slow:
    """A service whose call ends when the test releases it."""

    def __init__(self) -> None:
        self.called = asyncio.Event()
        self.release = asyncio.Event()

    async def call(self, request: bytes, context: Any) -> bytes:
        self.called.set()
        await self.release.wait()
        return request

    def add_to(self, server: grpc.aio.Server) -> None:
        handlers = {"Call": grpc.unary_unary_rpc_method_handler(self.call)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))


def settings(**overrides: object) -> SluiceSettings:
    return load_settings(**{"metrics_address": ANY, **overrides})


@asynccontextmanager
async def host(
    slow: Slow, used: SluiceSettings, addresses: dict[str, Address] | None = None
) -> AsyncIterator[RpcHost]:
    async with hosting(
        used,
        [Service(SERVICE, slow.add_to)],
        addresses or {"SLUICE_INTAKE_ADDRESS": ANY},
        Registry(),
        LocalAuthenticator(),
        Tracing(None),
    ) as running:
        yield running


def channel_to(running: RpcHost, setting: str = "SLUICE_INTAKE_ADDRESS") -> grpc.aio.Channel:
    return grpc.aio.insecure_channel(str(running.addresses[setting]))


async def health_of(channel: grpc.aio.Channel, service: str) -> int:
    stub = health_pb2_grpc.HealthStub(channel)
    answer = await stub.Check(health_pb2.HealthCheckRequest(service=service))
    return int(answer.status)


async def test_services_and_server_are_healthy_once_listening() -> None:
    async with host(Slow(), settings()) as running, channel_to(running) as channel:
        assert await health_of(channel, "") == SERVING
        assert await health_of(channel, SERVICE) == SERVING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await health_of(channel, "test.Unknown")
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_all_addresses_serve_all_services() -> None:
    addresses = {"SLUICE_INTAKE_ADDRESS": ANY, "SLUICE_REPOSITORY_ADDRESS": ANY}
    async with host(Slow(), settings(), addresses) as running:
        ports = {running.addresses[name].port for name in (*addresses, METRICS)}
        assert len(ports) == 3
        assert 0 not in ports
        for name in addresses:
            async with channel_to(running, name) as channel:
                assert await health_of(channel, SERVICE) == SERVING


async def test_drain_notifies_watchers_and_finishes_calls_in_flight() -> None:
    slow, stop = Slow(), asyncio.Event()
    async with host(slow, settings()) as running, channel_to(running) as channel:
        serving = asyncio.create_task(running.serve_until(stop, drain_seconds=10))
        watching = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert (await watching.read()).status == SERVING
        in_flight = channel.unary_unary(f"/{SERVICE}/Call", None, None)(b"x")
        await slow.called.wait()
        stop.set()
        assert (await watching.read()).status == NOT_SERVING
        watching.cancel()
        slow.release.set()
        assert await in_flight == b"x"
        async with asyncio.timeout(5):
            await serving


async def test_drain_is_bounded_by_drain_seconds() -> None:
    slow, stop = Slow(), asyncio.Event()
    async with host(slow, settings()) as running, channel_to(running) as channel:
        serving = asyncio.create_task(running.serve_until(stop, drain_seconds=0.2))
        in_flight = channel.unary_unary(f"/{SERVICE}/Call", None, None)(b"x")
        await slow.called.wait()
        stop.set()
        async with asyncio.timeout(5):
            await serving
        with pytest.raises(grpc.aio.AioRpcError):
            await in_flight


async def reflected(channel: grpc.aio.Channel) -> set[str]:
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)
    request = reflection_pb2.ServerReflectionRequest(list_services="")

    async def once() -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
        yield request

    async for answer in stub.ServerReflectionInfo(once()):
        return {service.name for service in answer.list_services_response.service}
    raise AssertionError("No answer came.")


async def test_reflection_lists_the_services() -> None:
    async with host(Slow(), settings()) as running, channel_to(running) as channel:
        assert {SERVICE, "grpc.health.v1.Health"} <= await reflected(channel)


async def test_reflection_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_GRPC__REFLECTION", "false")
    async with host(Slow(), settings()) as running, channel_to(running) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await reflected(channel)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def servers_seen(channel: grpc.aio.Channel) -> int:
    stub = channelz_pb2_grpc.ChannelzStub(channel)
    answer = await stub.GetServers(channelz_pb2.GetServersRequest())
    return len(answer.server)


async def test_channelz_is_on_its_own_address_only() -> None:
    async with host(Slow(), settings(channelz_address=ANY)) as running:
        async with channel_to(running, CHANNELZ) as admin:
            assert await servers_seen(admin) >= 1
        async with channel_to(running) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await servers_seen(channel)
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("setting", ["intake", "metrics", "channelz"])
async def test_without_keys_only_loopback_is_allowed(setting: str) -> None:
    everywhere = Address("0.0.0.0", 0)
    overrides = {f"{setting}_address": everywhere}
    used = settings(**overrides)
    addresses = {"SLUICE_INTAKE_ADDRESS": used.intake_address.with_port(0)}
    with pytest.raises(ConfigurationError, match=f"SLUICE_{setting.upper()}_ADDRESS"):
        async with host(Slow(), used, addresses):
            pass


async def test_an_address_in_use_is_a_configuration_error() -> None:
    async with host(Slow(), settings()) as running:
        taken = {"SLUICE_INTAKE_ADDRESS": running.addresses["SLUICE_INTAKE_ADDRESS"]}
        with pytest.raises(ConfigurationError, match="SLUICE_INTAKE_ADDRESS: cannot listen"):
            async with host(Slow(), settings(), taken):
                pass


class NamedCallers:
    """Takes a token for the name of its caller."""

    async def authenticate(self, authorization: str | None) -> Principal:
        return Principal(str(authorization), "tester", frozenset())


async def test_own_socket_is_private_and_authenticates_itself() -> None:
    """The address takes every caller for the local one, and its own socket by their tokens."""
    tenants: list[str] = []

    async def call(request: bytes, _context: Any) -> bytes:
        tenants.append(current_principal().tenant)
        return request

    def add_to(server: grpc.aio.Server) -> None:
        handlers = {"Call": grpc.unary_unary_rpc_method_handler(call)}
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))

    async with hosting(
        settings(),
        [Service(SERVICE, add_to)],
        {"SLUICE_INTAKE_ADDRESS": ANY},
        Registry(),
        LocalAuthenticator(),
        Tracing(None),
        own_authenticator=NamedCallers(),
    ) as running:
        assert running.own_target is not None
        folder = Path(running.own_target.removeprefix("unix:")).parent
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        for target in (running.own_target, str(running.addresses["SLUICE_INTAKE_ADDRESS"])):
            async with grpc.aio.insecure_channel(target) as channel:
                untyped: Any = channel  # its stubs want serializers
                method = untyped.unary_unary(f"/{SERVICE}/Call")
                await method(b"", metadata=(("authorization", "ann"),))
    assert tenants == ["ann", DEFAULT_TENANT]
    assert not folder.exists()


async def test_missing_temporary_folder_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for folder in (tmp_path / "missing", tmp_path / ("long" * 30)):
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        with pytest.raises(ConfigurationError, match="TMPDIR"), private_folder() as made:
            listen_in(build_server(ServerOptions()), made)
        (tmp_path / ("long" * 30)).mkdir(exist_ok=True)
