"""Final uploads: partial uploads put together."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import structlog

from sluice_core.access.principal import Principal
from sluice_core.errors import AlreadyExists, FailedPrecondition, SluiceError
from sluice_gateway.tus import refusals
from sluice_gateway.tus.headers import Concat
from sluice_gateway.tus.intake import IntakeUploads, Upload
from sluice_gateway.tus.nodes import RepositoryNodes
from sluice_gateway.tus.options import PIECE_BYTES, TusOptions
from sluice_gateway.tus.photos import PhotoUploads
from sluice_gateway.tus.pieces import BodyBrokenOff, pieces
from sluice_gateway.tus.reception import Reception
from sluice_gateway.tus.targets import (
    request_id_of,
    target_of,
    target_of_photo,
    unique_of,
)

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Concatenation:
    """Puts uploads together.

    A partial upload stays open, and expires like any other, until a final upload names it. Then it
    becomes a node, whose bytes are sent to the intake again as those of the final upload, and is
    deleted. Every step can be repeated: the same final upload of the same partial uploads is one
    upload, and its copy continues at its offset, on any replica.
    """

    uploads: IntakeUploads
    nodes: RepositoryNodes
    reception: Reception
    photos: PhotoUploads
    options: TusOptions

    async def create(
        self, principal: Principal, metadata: Mapping[str, str], concat: Concat
    ) -> Upload:
        """Create a final upload and return it when it has all bytes.

        Raise `InvalidArgument` UPLOAD_NOT_PARTIAL, `FailedPrecondition` PARTIAL_UPLOAD_INCOMPLETE,
        `Unavailable` PARTIAL_UPLOAD_PENDING, `ResourceExhausted` UPLOAD_TOO_LARGE, and the errors
        of the intake and of the repository.
        """
        partials = [await self.uploads.get(upload_id) for upload_id in concat.parts]
        length = self._check(partials)
        facts = (f"{key}\0{value}" for key, value in sorted(metadata.items()))
        request_id = request_id_of("final", principal.subject, str(concat), *facts)
        photo = await self.photos.photo_of(principal, metadata, concat, length)
        if photo is None:
            target = target_of(metadata, concat, unique_of(request_id), self.options.default_drive)
        else:
            target = target_of_photo(photo, metadata, concat)
        upload = await self.uploads.get(await self.uploads.create(target, length, request_id))
        await self.photos.bind(principal, photo, upload)
        if upload.is_open:
            with self.reception.slots.hold(principal.tenant):
                upload = await self._fill(upload, partials)
            upload = await self.reception.complete(upload, self.options.complete_seconds)
        await self._delete(partials)
        return upload

    def _check(self, partials: Sequence[Upload]) -> int:
        """Return the length of the final upload."""
        for partial in partials:
            if not partial.is_partial:
                raise refusals.not_partial()
            if not partial.has_all_bytes:
                raise refusals.partial_incomplete()
        length = sum(partial.length for partial in partials)
        if length > self.options.max_size:
            raise refusals.upload_too_large(self.options.max_size)
        return length

    async def _fill(self, upload: Upload, partials: Sequence[Upload]) -> Upload:
        """Send the bytes that the final upload still lacks."""
        await self._store(partials)
        stream = self.uploads.stream(upload)
        try:
            async with (
                aclosing(self._bytes_from(partials, upload.offset)) as blocks,
                aclosing(pieces(blocks, upload.offset, PIECE_BYTES)) as cut,
            ):
                async for piece in cut:
                    await stream.send(piece)
            await stream.close()
        except BodyBrokenOff as broken:
            return await self._completed_by_another(upload, broken.cause)
        except (AlreadyExists, FailedPrecondition) as error:
            return await self._completed_by_another(upload, error)
        finally:
            stream.cancel()
        return await self.uploads.get(upload.upload_id)

    async def _completed_by_another(self, upload: Upload, error: Exception) -> Upload:
        """Return the upload if a repetition of this request was faster, else raise the error.

        A faster one has deleted the nodes of the partial uploads.
        """
        current = await self.uploads.get(upload.upload_id)
        if not current.has_all_bytes:
            raise error
        return current

    async def _store(self, partials: Sequence[Upload]) -> None:
        """Make nodes of partial uploads."""
        wanted = [partial for partial in partials if not partial.is_stored]
        # All at once at first, so that their completions overlap.
        stored = [await self.uploads.complete(partial, 0) for partial in wanted]
        late = [partial for partial, is_done in zip(wanted, stored, strict=True) if not is_done]
        async with asyncio.timeout(self.options.concatenate_seconds):
            for partial in late:
                if not await self.uploads.complete(partial, self.options.concatenate_seconds):
                    raise refusals.partial_not_stored()

    async def _bytes_from(
        self, partials: Sequence[Upload], offset: int
    ) -> AsyncGenerator[bytes, None]:
        for partial in partials:
            skipped = min(offset, partial.length)
            offset -= skipped
            if skipped < partial.length:
                async with aclosing(self.nodes.read(partial.node_id, skipped)) as blocks:
                    async for block in blocks:
                        yield block

    async def _delete(self, partials: Sequence[Upload]) -> None:
        """Delete the nodes of partial uploads. A repetition of the request does it again."""
        for partial in partials:
            try:
                await self.nodes.delete(partial.node_id)
            except SluiceError as error:
                _log.warning(
                    "partial.delete_failed", upload_id=partial.upload_id, reason=error.reason
                )
