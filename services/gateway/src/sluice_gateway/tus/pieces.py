"""Bodies cut into the chunks of the ledger."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable

from starlette.requests import ClientDisconnect

from sluice_core.errors import SluiceError


class BodyBrokenOff(Exception):
    """A body ended early. What had arrived was yielded before. `cause`: why it ended."""

    def __init__(self, cause: ClientDisconnect | SluiceError) -> None:
        super().__init__(str(cause))
        self.cause = cause


async def pieces(
    blocks: AsyncIterable[bytes], offset: int, piece_bytes: int
) -> AsyncGenerator[bytes, None]:
    """Yield a body in pieces that end at multiples of `piece_bytes` in the upload, and at its end.

    Of a body that breaks off, what has arrived is yielded too: the client continues after it.

    Args:
        blocks: the body; it may raise `ClientDisconnect` and `SluiceError`.
        offset: of the body in the upload.

    Raise `BodyBrokenOff`. No other error comes from here, so that the caller can tell those of the
    body from those of its own.
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
    except (ClientDisconnect, SluiceError) as error:
        if piece:
            yield bytes(piece)
        raise BodyBrokenOff(error) from error
    if piece:
        yield bytes(piece)
