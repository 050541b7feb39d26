"""Bodies cut into the chunks of the ledger."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable

from starlette.requests import ClientDisconnect

from sluice_core.errors import SluiceError


async def pieces(
    blocks: AsyncIterable[bytes], offset: int, piece_bytes: int
) -> AsyncGenerator[bytes, None]:
    """Yield a body in pieces that end at multiples of `piece_bytes` in the upload, and at its end.

    Of a body that breaks off, what has arrived is yielded too, then the error is raised: the client
    continues after it.

    Args:
        offset: of the body in the upload.
    """
    piece = bytearray()
    room = piece_bytes - offset % piece_bytes
    try:
        async for block in blocks:
            taken = 0
            while len(block) - taken >= room:
                piece += memoryview(block)[taken : taken + room]
                yield bytes(piece)
                taken += room
                piece.clear()
                room = piece_bytes
            piece += memoryview(block)[taken:]
            room -= len(block) - taken
    except (ClientDisconnect, SluiceError):
        if piece:
            yield bytes(piece)
        raise
    if piece:
        yield bytes(piece)
