"""Uploads by a generic client that knows the service only by server reflection."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import pytest
from google.protobuf import descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from sluice_core.uploads.checksums import crc32c
from support.intake import cut, running_intake
from support.part_worker import working_for

SERVICE = "sluice.upload.v1.IntakeService"


class GenericClient:
    """A client whose message classes are created from the server's descriptors."""

    def __init__(self, channel: grpc.aio.Channel, pool: descriptor_pool.DescriptorPool) -> None:
        self._channel: Any = channel
        self._service = pool.FindServiceByName(SERVICE)

    def message(self, name: str, **fields: Any) -> Any:
        method = name.removesuffix("Request")
        descriptor = self._service.methods_by_name[method].input_type
        return message_factory.GetMessageClass(descriptor)(**fields)

    def call(self, name: str) -> Any:
        method = self._service.methods_by_name[name]
        kind = f"{_arity(method.client_streaming)}_{_arity(method.server_streaming)}"
        return getattr(self._channel, kind)(
            f"/{SERVICE}/{name}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
        )


def _arity(streaming: bool) -> str:
    return "stream" if streaming else "unary"


async def _ask_reflection(channel: grpc.aio.Channel) -> descriptor_pool.DescriptorPool:
    """Return a pool with all files of the service, separate from the generated code."""
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)

    async def questions() -> AsyncIterator[Any]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")
        yield reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE)

    pool = descriptor_pool.DescriptorPool()
    waiting: dict[str, FileDescriptorProto] = {}
    async for answer in stub.ServerReflectionInfo(questions()):
        if answer.HasField("list_services_response"):
            assert SERVICE in [s.name for s in answer.list_services_response.service]
        for wire in answer.file_descriptor_response.file_descriptor_proto:
            file = FileDescriptorProto.FromString(wire)
            waiting[file.name] = file
    while waiting:
        ready = [f for f in waiting.values() if not any(d in waiting for d in f.dependency)]
        for file in ready:
            pool.Add(waiting.pop(file.name))
    return pool


@pytest.fixture(name="data")
def some_data() -> bytes:
    return os.urandom(2_500_000)


@pytest.mark.parametrize("way", ["UploadChunk", "UploadStream"])
async def test_a_generic_client_uploads(way: str, data: bytes) -> None:
    async with running_intake() as intake, working_for(intake) as worker:
        async with grpc.aio.insecure_channel(intake.address) as channel:
            client = GenericClient(channel, await _ask_reflection(channel))
            initiate = client.message("InitiateUploadRequest", drive="d", path="generic.bin")
            upload_id = (await client.call("InitiateUpload")(initiate)).upload_id
            chunks = cut(data, 700_000)
            if way == "UploadChunk":
                await _send_unary(client, upload_id, chunks)
            else:
                await _send_stream(client, upload_id, chunks)
            complete = client.message(
                "CompleteUploadRequest",
                upload_id=upload_id,
                total_chunks=len(chunks),
                sha256=hashlib.sha256(data).digest(),
                wait={"seconds": 10},
            )
            status = (await client.call("CompleteUpload")(complete)).status
        assert status.received_bytes == len(data)
        assert worker.object_of(upload_id) == data


async def _send_unary(client: GenericClient, upload_id: str, chunks: Any) -> None:
    for number, piece in enumerate(chunks):
        request = client.message(
            "UploadChunkRequest", upload_id=upload_id, number=number, data=piece
        )
        response = await client.call("UploadChunk")(request)
        assert response.accepted.crc32c == crc32c(piece)


async def _send_stream(client: GenericClient, upload_id: str, chunks: Any) -> None:
    async def frames() -> AsyncIterator[Any]:
        for number, piece in enumerate(chunks):
            opening = {"upload_id": upload_id, "number": number, "size": len(piece)}
            # One frame with header and data, then one with data only: both are valid.
            yield client.message("UploadStreamRequest", header=opening, data=piece[:1000])
            yield client.message("UploadStreamRequest", data=piece[1000:])

    answers = [answer async for answer in client.call("UploadStream")(frames())]
    accepted = [answer.accepted for answer in answers if answer.WhichOneof("event") == "accepted"]
    assert [a.number for a in accepted] == list(range(len(chunks)))
    assert [a.crc32c for a in accepted] == [crc32c(piece) for piece in chunks]
