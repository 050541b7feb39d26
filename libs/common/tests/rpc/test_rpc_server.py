"""Flow-control settings that a server sends on the wire."""

from __future__ import annotations

import asyncio
import struct

import pytest

from sluice_common.rpc.server import build_server, listen
from sluice_common.settings.rpc_options import ServerOptions
from sluice_core.addresses import Address
from sluice_core.uploads.model import MIB

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS, NO_FLAGS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE = 4, 0, 4, 5
"""RFC 9113, 6.5."""


async def first_settings(options: ServerOptions) -> dict[int, int]:
    """Return the settings in the first frame of a server, by their identifiers."""
    server = build_server(options)
    address = listen(server, "TEST", Address("127.0.0.1", 0))
    await server.start()
    try:
        reader, writer = await asyncio.open_connection(address.host, address.port)
        writer.write(PREFACE + struct.pack(">IBBI", 0, SETTINGS, NO_FLAGS, 0)[1:])
        length, kind, _flags, _stream = struct.unpack(">IBBI", b"\0" + await reader.readexactly(9))
        assert kind == SETTINGS
        content = await reader.readexactly(length)
        writer.close()
        await writer.wait_closed()
    finally:
        await server.stop(None)
    return dict(struct.iter_unpack(">HI", content))


@pytest.mark.parametrize("window_bytes", [ServerOptions().stream_window_bytes, 256 * 1024])
async def test_a_stream_has_the_window_that_was_chosen(window_bytes: int) -> None:
    settings = await first_settings(ServerOptions(stream_window_bytes=window_bytes))
    assert settings[INITIAL_WINDOW_SIZE] == window_bytes


async def test_zero_leaves_windows_to_grpc() -> None:
    settings = await first_settings(ServerOptions(stream_window_bytes=0))
    assert settings[INITIAL_WINDOW_SIZE] != ServerOptions().stream_window_bytes


async def test_a_block_may_come_in_one_frame() -> None:
    assert (await first_settings(ServerOptions()))[MAX_FRAME_SIZE] == MIB
