"""Both versions of reflection know all names of the contract."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import pytest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha import reflection_pb2 as pb

from sluice.repository.v1 import repository_pb2
from sluice.upload.v1 import upload_pb2
from sluice_common.rpc.interceptors import server_layers
from sluice_common.rpc.reflection import V1, V1ALPHA, add_reflection
from sluice_common.rpc.server import build_server, listen
from sluice_common.settings.rpc_options import ServerOptions
from sluice_common.telemetry.metrics import RpcMetrics
from sluice_core.addresses import Address
from support.token_authenticator import TokenAuthenticator

VERSIONS = (V1, V1ALPHA)
UPLOAD, REPOSITORY = upload_pb2.DESCRIPTOR, repository_pb2.DESCRIPTOR
INTAKE = f"{UPLOAD.package}.IntakeService"


@pytest.fixture(name="channel")
async def a_channel() -> AsyncIterator[grpc.aio.Channel]:
    """Open a channel to a server that refuses all credentials; reflection needs none."""
    server = build_server(ServerOptions(), (server_layers(RpcMetrics(), TokenAuthenticator()),))
    add_reflection(server, (INTAKE,))
    address = listen(server, "TEST", Address("127.0.0.1", 0))
    await server.start()
    async with grpc.aio.insecure_channel(str(address)) as channel:
        yield channel
    await server.stop(None)


async def ask(
    channel: grpc.aio.Channel, version: str, **question: str
) -> pb.ServerReflectionResponse:
    call = channel.stream_stream(
        f"/{version}/ServerReflectionInfo",
        pb.ServerReflectionRequest.SerializeToString,
        pb.ServerReflectionResponse.FromString,
    )([pb.ServerReflectionRequest(**question)])  # type: ignore[arg-type]  # takes any iterable
    async for answer in call:
        assert isinstance(answer, pb.ServerReflectionResponse)
        return answer
    raise AssertionError("No answer came.")


def every_name() -> dict[str, str]:
    """Map each declared name to its file."""
    names: dict[str, str] = {}
    for file in (UPLOAD, REPOSITORY):
        for service in file.services_by_name.values():
            names[service.full_name] = file.name
            names.update((method.full_name, file.name) for method in service.methods)
        for message in file.message_types_by_name.values():
            names[message.full_name] = file.name
            members: list[Any] = [*message.fields, *message.oneofs, *message.nested_types]
            names.update((member.full_name, file.name) for member in members)
        for enum in file.enum_types_by_name.values():
            names[enum.full_name] = file.name
            names.update((f"{file.package}.{value.name}", file.name) for value in enum.values)
    return names


@pytest.mark.parametrize("version", VERSIONS)
async def test_every_declared_name_is_found(channel: grpc.aio.Channel, version: str) -> None:
    names = every_name()
    assert f"{INTAKE}.GetLimits" in names
    for name, file in names.items():
        answer = await ask(channel, version, file_containing_symbol=name)
        files = answer.file_descriptor_response.file_descriptor_proto
        assert file in {FileDescriptorProto.FromString(wire).name for wire in files}, name


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "name",
    [
        *("", ".", "..", "sluice", "sluice.upload.v1", "sluice.upload.v1.", "nothing"),
        *(f"{INTAKE}.", f"{INTAKE}.Nothing", f"{INTAKE}.GetLimits.x", f"x{INTAKE}"),
        *("sluice.upload.v1.ChunkHeader.nothing", "sluice.upload.v1.Nothing.size"),
        "a" * 50_000,
    ],
)
async def test_an_unknown_name_is_not_found(
    channel: grpc.aio.Channel, version: str, name: str
) -> None:
    answer = await ask(channel, version, file_containing_symbol=name)
    assert answer.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]


@pytest.mark.parametrize("version", VERSIONS)
async def test_both_versions_are_listed_and_described(
    channel: grpc.aio.Channel, version: str
) -> None:
    listed = (await ask(channel, version, list_services="")).list_services_response.service
    assert {*VERSIONS, INTAKE, "grpc.health.v1.Health"} == {service.name for service in listed}
    for name in VERSIONS:
        answer = await ask(channel, version, file_containing_symbol=f"{name}.ServerReflectionInfo")
        pool = descriptor_pool.DescriptorPool()
        for wire in answer.file_descriptor_response.file_descriptor_proto:
            pool.Add(FileDescriptorProto.FromString(wire))
        method = pool.FindServiceByName(name).methods_by_name["ServerReflectionInfo"]
        package = name.rpartition(".")[0]
        assert method.input_type.full_name == f"{package}.ServerReflectionRequest"
        oneof: Any = method.output_type.oneofs_by_name["message_response"]
        assert all(field.message_type.full_name.startswith(f"{package}.") for field in oneof.fields)
