"""Every refusal of every kind of call, with the client still sending, arrives as what it is.

What a server sends is settled on bare HTTP/2 frames: trailers with its status, then at most
RST_STREAM NO_ERROR. What client libraries make of that is asked of them: Python's two, Go's and
Node's, built here of pinned versions.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence

import grpc.aio
import pytest

from support.foreign_clients import go_client, node_client
from support.refused_calls import (
    RefusedCall,
    call_in_asyncio,
    call_in_sync,
    ended_in_json,
    refusing_server,
)

TIMES = 5
Server = tuple[str, Sequence[RefusedCall]]


@pytest.fixture(name="server")
async def a_server() -> AsyncIterator[Server]:
    async with refusing_server() as running:
        yield running


async def test_pythons_asyncio_client_gets_every_refusal(server: Server) -> None:
    address, cases = server
    async with grpc.aio.insecure_channel(
        address, options=[("grpc.max_send_message_length", -1)]
    ) as channel:
        for case in cases:
            for _ in range(TIMES):
                assert await call_in_asyncio(channel, case) == case.expected, case.name


async def test_pythons_synchronous_client_gets_every_refusal(server: Server) -> None:
    address, cases = server
    for case in cases:
        for _ in range(TIMES):
            ended = await asyncio.to_thread(call_in_sync, address, case)
            assert ended == case.expected, case.name


@pytest.mark.parametrize("language", ["go", "node"])
async def test_a_foreign_client_gets_every_refusal(server: Server, language: str) -> None:
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
