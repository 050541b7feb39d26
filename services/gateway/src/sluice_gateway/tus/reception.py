"""Bytes of an upload: a body becomes chunks, and the last byte completes the upload."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Final

from starlette.datastructures import Headers
from starlette.types import Receive

from sluice_core.access.principal import Principal
from sluice_core.errors import AlreadyExists, FailedPrecondition, SluiceError
from sluice_gateway.http.paced_bodies import body_blocks
from sluice_gateway.tus import headers as tus_headers
from sluice_gateway.tus import refusals
from sluice_gateway.tus.body_slots import BodySlots
from sluice_gateway.tus.chunk_stream import ChunkStream
from sluice_gateway.tus.headers import Checksum
from sluice_gateway.tus.intake import IntakeUploads, Upload
from sluice_gateway.tus.options import PIECE_BYTES, TusOptions
from sluice_gateway.tus.pieces import BodyBrokenOff, pieces

_CHECKED_BLOCK_BYTES: Final = 64 * 1024
"""What a slow client sends within the interval of its pace: the intake ends chunks that bring
nothing for longer."""


@dataclass(frozen=True, slots=True)
class Reception:
    """Receives bodies.

    A body is read as fast as the intake accepts it: the connection's own flow control slows the
    client down.
    """

    uploads: IntakeUploads
    slots: BodySlots
    options: TusOptions

    async def receive(
        self, principal: Principal, upload: Upload, headers: Headers, receive: Receive
    ) -> Upload:
        """Append a body to an open upload and return the upload after it.

        What arrives of a body that breaks off is kept, unless it has a checksum.

        Raise `FailedPrecondition` UPLOAD_OFFSET_MISMATCH if another request has sent other bytes
        meanwhile, `ResourceExhausted` UPLOAD_LENGTH_EXCEEDED, `DataLoss` UPLOAD_CHECKSUM_MISMATCH,
        `DeadlineExceeded` MESSAGE_STALLED, `ClientDisconnect`, and the errors of the intake.
        """
        size = tus_headers.content_length(headers)
        if size is not None and upload.offset + size > upload.length:
            raise refusals.beyond_length(upload.length)
        checksum = tus_headers.upload_checksum(headers)
        with self.slots.hold(principal.tenant):
            if checksum is None:
                received = await self._append(upload, receive)
            else:
                received = await self._append_checked(upload, size, checksum, receive)
        return await self.complete(received, self.options.complete_seconds)

    async def complete(self, upload: Upload, seconds: float) -> Upload:
        """Complete an upload that has all bytes and is not partial.

        A request may end between the last byte and this step; whichever sees the upload next
        repeats it.
        """
        if not upload.has_all_bytes or not upload.is_open or upload.is_partial:
            return upload
        is_stored = await self.uploads.complete(upload, seconds)
        return replace(upload, is_open=False, is_stored=is_stored, expires_at=None)

    async def _append(self, upload: Upload, receive: Receive) -> Upload:
        stream = self.uploads.stream(upload)
        try:
            await self._send_pieces(stream, upload, receive)
            await stream.close()
        except BodyBrokenOff as broken:
            await stream.close()  # with what has arrived
            raise broken.cause from broken
        except (AlreadyExists, FailedPrecondition) as error:
            raise await self._race_lost(upload, error) from error
        finally:
            stream.cancel()
        return await self._after(upload, stream)

    async def _send_pieces(self, stream: ChunkStream, upload: Upload, receive: Receive) -> None:
        sent = upload.offset
        async with (
            aclosing(body_blocks(receive, self.options.pace)) as blocks,
            aclosing(pieces(blocks, upload.offset, PIECE_BYTES)) as cut,
        ):
            async for piece in cut:
                sent += len(piece)
                if sent > upload.length:
                    raise refusals.beyond_length(upload.length)
                await stream.send(piece)

    async def _append_checked(
        self, upload: Upload, size: int | None, checksum: Checksum, receive: Receive
    ) -> Upload:
        """Append a body as one chunk, which is accepted only when its checksum is right."""
        if size is None:
            raise refusals.length_required()
        if size > self.options.max_checked_bytes:
            raise refusals.checked_body_too_large(self.options.max_checked_bytes)
        actual = checksum.new_hash()
        stream = self.uploads.stream(upload)
        try:
            chunk = await stream.send_large(size)
            async with (
                aclosing(body_blocks(receive, self.options.pace)) as blocks,
                aclosing(pieces(blocks, 0, _CHECKED_BLOCK_BYTES)) as cut,
            ):
                async for piece in cut:
                    actual.update(piece)
                    await chunk.append(piece)
            if actual.digest() != checksum.digest:
                raise refusals.checksum_mismatch()
            if size > 0:
                await chunk.finish()
                await stream.close()
        except BodyBrokenOff as broken:
            raise broken.cause from broken
        except (AlreadyExists, FailedPrecondition) as error:
            raise await self._race_lost(upload, error) from error
        finally:
            stream.cancel()
        return await self._after(upload, stream)

    async def _after(self, upload: Upload, stream: ChunkStream) -> Upload:
        if stream.offset == upload.offset:
            return upload
        # Again from the ledger: the time of expiry has moved.
        return await self.uploads.get(upload.upload_id)

    async def _race_lost(self, upload: Upload, error: SluiceError) -> SluiceError:
        """Return the error for bytes that the ledger refused: another request was there first."""
        current = await self.uploads.get(upload.upload_id)
        if not current.is_open or current.offset != upload.offset:
            return refusals.offset_mismatch(current.offset)
        return error
