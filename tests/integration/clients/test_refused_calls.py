"""Tests that rejections of a call reach clients in Python, Go and Node that are still sending.

The frames are tested, too: trailers with the status, then at most RST_STREAM NO_ERROR.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
import grpc.aio
import pytest

from support.foreign_clients import go_client, node_client
from support.half_messages import half_messages
from support.refused_calls import (
    LARGEST_MESSAGE,
    RefusedCall,
    call_in_asyncio,
    call_in_sync,
    ended_in_json,
    refusing_server,
)
from support.sending import send_all
from support.token_authenticator import GOOD

TIMES = 5
Server = tuple[str, Sequence[RefusedCall]]


@pytest.fixture(name="server")
async def run_server() -> AsyncIterator[Server]:
    async with refusing_server() as running:
        yield running


async def test_python_asyncio_client_gets_every_rejection(server: Server) -> None:
    address, cases = server
    async with grpc.aio.insecure_channel(
        address, options=[("grpc.max_send_message_length", -1)]
    ) as channel:
        for case in cases:
            for _ in range(TIMES):
                assert await call_in_asyncio(channel, case) == case.expected, case.name


async def test_python_sync_client_gets_every_rejection(server: Server) -> None:
    address, cases = server
    for case in cases:
        for _ in range(TIMES):
            ended = await asyncio.to_thread(call_in_sync, address, case)
            assert ended == case.expected, case.name


# Compiling the Go client once per clone takes half a minute.
@pytest.mark.parametrize("language", [pytest.param("go", marks=pytest.mark.slow), "node"])
async def test_go_and_node_clients_get_every_rejection(server: Server, language: str) -> None:
    address, cases = server
    command = await asyncio.to_thread(go_client if language == "go" else node_client, "refusals")
    client = await asyncio.create_subprocess_exec(
        *(*command.arguments, address),
        env=command.environment,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    requests = json.dumps([case.to_json(TIMES) for case in cases]).encode()
    out, err = await client.communicate(requests)
    assert client.returncode == 0, err.decode()
    expected = {case.name: case.expected for case in cases}
    seen = dict.fromkeys(expected, 0)
    for line in out.decode().splitlines():
        name, ended, frames = ended_in_json(line)
        assert ended == expected[name], (name, frames)
        seen[name] += 1
        if frames:
            ending = frames[frames.index("TRAILERS") :]
            assert ending in (["TRAILERS"], ["TRAILERS", "RST_STREAM NO_ERROR"])
    on_frames = int(language == "go")
    assert seen == {case.name: TIMES + on_frames * case.client_streams for case in cases}


GRPC_REJECTIONS: dict[str, dict[str, Any]] = {
    "a message too large": {"request": bytes(LARGEST_MESSAGE + 1)},
    "too much metadata": {"metadata": (*GOOD, ("x-fill", "y" * 20_000))},
    "an unknown method": {"method": "/sluice.upload.v1.IntakeService/Nothing"},
    "an unknown service": {"method": "/sluice.upload.v1.Nothing/GetLimits"},
}


@pytest.mark.parametrize("case", GRPC_REJECTIONS)
async def test_rejection_by_grpc_has_status_without_details(server: Server, case: str) -> None:
    """docs/wire.md states this; update it once a library returns details."""
    how = {"method": "/sluice.upload.v1.IntakeService/GetLimits", "request": b"", "metadata": GOOD}
    method, request, metadata = ({**how, **GRPC_REJECTIONS[case]}[name] for name in how)
    expected = "UNIMPLEMENTED" if "unknown" in case else "RESOURCE_EXHAUSTED"
    async with grpc.aio.insecure_channel(
        server[0], options=[("grpc.max_send_message_length", -1)]
    ) as opened:
        channel: Any = opened  # its stubs require serializers
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await channel.unary_unary(method)(request, metadata=metadata)
    assert caught.value.code().name == expected
    trailers: Any = caught.value.trailing_metadata() or ()
    assert {"grpc-status-details-bin", "x-request-id"}.isdisjoint(dict(trailers))


BARE_CALLS: dict[str, tuple[bytes, dict[str, str]]] = {
    "compressed, no encoding": (b"\1\0\0\0\0", {}),
    "compressed, identity": (b"\1\0\0\0\0", {"grpc-encoding": "identity"}),
    "an unknown encoding": (b"\1\0\0\0\0", {"grpc-encoding": "br"}),
    "a time-out that is none": (b"\0\0\0\0\0", {"grpc-timeout": "soon"}),
    "a binary value not in Base64": (b"\0\0\0\0\0", {"x-trace-bin": "***"}),
}


@pytest.mark.parametrize("case", BARE_CALLS)
async def test_headers_that_grpc_cannot_read_are_internal(server: Server, case: str) -> None:
    """On bare frames: no client library sends them. docs/wire.md has the row."""
    prefix, fields = BARE_CALLS[case]
    path = "/sluice.upload.v1.IntakeService/GetLimits"
    async with half_messages(server[0]) as connection:
        answer = await connection.call(path, prefix, {**dict(GOOD), **fields})
    internal = str(grpc.StatusCode.INTERNAL.value[0]).encode()
    assert b"grpc-status" + bytes([len(internal)]) + internal in answer
    assert b"grpc-status-details-bin" not in answer
    assert b"x-request-id" not in answer


async def test_too_large_message_after_response_is_exhausted(server: Server) -> None:
    """The response headers were sent before, so gRPC resets the stream with a code."""
    address, cases = server
    (case,) = (one for one in cases if one.name == "bidi, after an answer")
    async with grpc.aio.insecure_channel(
        address, options=[("grpc.max_send_message_length", -1)]
    ) as opened:
        channel: Any = opened
        call = channel.stream_stream(case.method)(metadata=GOOD)
        await call.write(b"".join(message.SerializeToString() for message in case.messages))
        assert await call.read()  # the chunk is accepted
        await send_all(call, [bytes(LARGEST_MESSAGE + 1)])
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_compressed_bomb_is_rejected_with_details(server: Server) -> None:
    """It is inflated only up to the limit of its method, and the status has our details."""
    async with grpc.aio.insecure_channel(
        server[0], options=[("grpc.max_send_message_length", -1)]
    ) as opened:
        channel: Any = opened  # its stubs require serializers
        call = channel.unary_unary("/sluice.upload.v1.IntakeService/GetLimits")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call(bytes(4 * LARGEST_MESSAGE), metadata=GOOD, compression=grpc.Compression.Gzip)
    trailers: Any = caught.value.trailing_metadata() or ()
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert b"MESSAGE_TOO_LARGE" in dict(trailers)["grpc-status-details-bin"]
