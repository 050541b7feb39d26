"""Server reflection, v1 and v1alpha, for tools such as grpcurl."""

# grpcio only serves v1alpha, and its symbol lookup uses the protobuf runtime, which finds messages
# and services but no methods. Both versions have the same messages in different packages.

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Sequence
from typing import Any, Final, cast

import grpc
import grpc.aio
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import FileDescriptor
from grpc_health.v1 import health
from grpc_reflection.v1alpha import reflection, reflection_pb2

V1ALPHA: Final = reflection.SERVICE_NAME
V1: Final = V1ALPHA.replace("v1alpha", "v1")

_METHOD: Final = "ServerReflectionInfo"


def add_reflection(server: grpc.aio.Server, services: Sequence[str]) -> None:
    """Register server reflection.

    Args:
        services: full names of the services to list, besides health and reflection.
    """
    _register_v1(descriptor_pool.Default())
    names = (*services, health.SERVICE_NAME, V1, V1ALPHA)
    servicer = _Servicer(names, _Pool(descriptor_pool.Default()))
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        reflection_pb2.ServerReflectionRequest.FromString,
        reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        tuple(
            grpc.method_handlers_generic_handler(version, {_METHOD: handler})
            for version in (V1, V1ALPHA)
        )
    )


class _Servicer(reflection.aio.ReflectionServicer):  # type: ignore[misc, name-defined]  # untyped
    """grpcio's servicer with the types that are used here."""

    def ServerReflectionInfo(  # noqa: N802 - the name of the contract
        self, request_iterator: AsyncIterable[Any], unused_context: Any
    ) -> AsyncIterator[Any]:
        return cast(
            "AsyncIterator[Any]", super().ServerReflectionInfo(request_iterator, unused_context)
        )


class _Pool:
    """A descriptor pool that finds all symbols of reflection.proto, members included."""

    def __init__(self, pool: descriptor_pool.DescriptorPool) -> None:
        self._pool = pool

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def FindFileContainingSymbol(self, symbol: str) -> FileDescriptor:  # noqa: N802 - the pool's
        """Return the file that declares a type, a service or a member of one.

        Members are `package.Service.Method`, `package.Message.field` and enum values. Raise
        `KeyError`.
        """
        find: Any = self._pool.FindFileContainingSymbol
        try:
            return cast("FileDescriptor", find(symbol))
        except KeyError:
            owner, _, member = symbol.rpartition(".")
            file = cast("FileDescriptor", find(owner))
            if not _declares(file, owner, member):
                raise
            return file


def _declares(file: FileDescriptor, owner: str, member: str) -> bool:
    """Return whether the type or service `owner` of this file has the member."""
    local = owner.removeprefix(f"{file.package}.") if file.package else owner
    service = file.services_by_name.get(local)
    if service is not None:
        return member in service.methods_by_name
    first, *nested = local.split(".")
    message: Any = file.message_types_by_name.get(first)
    for name in nested:
        if message is None:
            return False
        message = message.nested_types_by_name.get(name)
    return message is not None and any(
        member in members
        for members in (
            message.fields_by_name,
            message.oneofs_by_name,
            message.enum_values_by_name,
            message.extensions_by_name,
        )
    )


def _register_v1(pool: descriptor_pool.DescriptorPool) -> None:
    """Add grpc.reflection.v1 to the pool, so that the service can describe itself."""
    old, new = V1ALPHA.rpartition(".")[0], V1.rpartition(".")[0]
    declared = descriptor_pb2.FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(declared)
    declared.name = f"{new.replace('.', '/')}/reflection.proto"
    declared.package = new
    for message in declared.message_type:
        for field in message.field:
            if field.type_name:
                field.type_name = field.type_name.replace(f".{old}.", f".{new}.")
    for service in declared.service:
        for method in service.method:
            method.input_type = method.input_type.replace(f".{old}.", f".{new}.")
            method.output_type = method.output_type.replace(f".{old}.", f".{new}.")
    try:
        pool.FindFileByName(declared.name)
    except KeyError:
        pool.AddSerializedFile(declared.SerializeToString())
