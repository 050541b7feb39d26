"""SockJS on a real uvicorn and socket: its information, and its frames around those of STOMP."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sluice_gateway.live.framing import SOCKJS
from sluice_gateway.live.stomp.closing import CloseCode
from sluice_gateway.live.stomp.frames import Frame, FrameError, encode_frame
from support.live_gateway import ORIGIN, JobTable, StompClient, running_gateway, stomp_client
from support.live_updates import photo_update

CONNECT = encode_frame(
    Frame("CONNECT", (("accept-version", "1.2"), ("host", "h"), ("Authorization", "Bearer ann")))
).decode()
SUBSCRIBE = encode_frame(
    Frame("SUBSCRIBE", (("id", "s"), ("destination", "/topic/job/job-1")))
).decode()


async def next_text(client: StompClient) -> str:
    async with asyncio.timeout(30):
        message = await client.socket.recv()
    assert isinstance(message, str)
    return message


async def get_info(port: int, **headers: str) -> tuple[dict[str, Any], Any]:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"http://127.0.0.1:{port}/ws/info", headers=headers) as response,
    ):
        assert response.status == 200
        return await response.json(), response.headers


async def test_information_offers_the_websocket_alone() -> None:
    async with running_gateway() as gateway:
        info, headers = await get_info(gateway.port, Origin=ORIGIN)
        again, _ = await get_info(gateway.port)
        assert (info["websocket"], info["cookie_needed"]) == (True, False)
        assert info["entropy"] != again["entropy"]
        assert headers["access-control-allow-origin"] == ORIGIN
        _, foreign = await get_info(gateway.port, Origin="https://evil.example")
        assert "access-control-allow-origin" not in foreign


async def test_frames_travel_in_those_of_sockjs() -> None:
    jobs = JobTable()
    jobs.add("job-1", "ann", photo_update("p\u00fc\u2028"))
    async with running_gateway(jobs=jobs) as gateway:
        below = replace(gateway, path="/ws/000/abc/websocket")
        async with stomp_client(below, subprotocols=()) as client:
            assert await next_text(client) == "o"
            await client.socket.send("")
            await client.socket.send(json.dumps([CONNECT, SUBSCRIBE]))
            first, second = await next_text(client), await next_text(client)
            assert first.isascii()
            assert second.isascii()
            (connected,) = json.loads(first.removeprefix("a"))
            (message,) = json.loads(second.removeprefix("a"))
            assert connected.startswith("CONNECTED\n")
            assert "p\u00fc\u2028" in message
            await gateway.hub.sessions.stop()
            assert await next_text(client) == 'c[1012,"RESTART retry-after-ms=5000"]'
            assert (await client.closed())[0] == CloseCode.RESTART


@pytest.mark.parametrize("sent", [CONNECT, "{", '"text"', "[1]", '{"a":1}', "[" * 5_000, "[null]"])
async def test_other_messages_end_the_session(sent: str) -> None:
    async with running_gateway() as gateway:
        below = replace(gateway, path="/ws/000/abc/websocket")
        async with stomp_client(below, subprotocols=()) as client:
            assert await next_text(client) == "o"
            await client.socket.send(sent)
            assert "BAD_FRAME" in await next_text(client)
            assert await next_text(client) == 'c[1002,"BAD_FRAME"]'


@given(st.lists(st.text(max_size=20), max_size=5))
def test_array_of_strings_is_taken_apart(texts: list[str]) -> None:
    assert SOCKJS.decode(json.dumps(texts)) == [text.encode() for text in texts]


@given(st.one_of(st.text(max_size=50), st.binary(max_size=50)))
def test_any_message_is_read_or_refused(message: str | bytes) -> None:
    with suppress(FrameError):
        assert all(isinstance(piece, bytes) for piece in SOCKJS.decode(message))
