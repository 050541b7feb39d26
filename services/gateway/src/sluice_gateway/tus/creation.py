"""POST: creation of an upload, with its first bytes if there are any."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

import structlog
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import Receive

from sluice_core.access.principal import Principal
from sluice_core.errors import SluiceError
from sluice_core.uploads.names import check_request_id
from sluice_gateway.tus import headers as tus_headers
from sluice_gateway.tus import refusals
from sluice_gateway.tus.concatenation import Concatenation
from sluice_gateway.tus.intake import IntakeUploads, Upload
from sluice_gateway.tus.options import TusOptions
from sluice_gateway.tus.photos import PhotoUploads
from sluice_gateway.tus.reception import Reception
from sluice_gateway.tus.targets import request_id_of, target_of, target_of_photo, unique_of

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Creation:
    """Creates uploads. Each creation makes another upload, unless an `Idempotency-Key` says that it
    is a repetition."""

    uploads: IntakeUploads
    reception: Reception
    concatenation: Concatenation
    photos: PhotoUploads
    options: TusOptions

    async def create(self, principal: Principal, headers: Headers, receive: Receive) -> Upload:
        """Create the upload and return it.

        Raise `InvalidArgument`, `ResourceExhausted` UPLOAD_TOO_LARGE, the errors of InitiateUpload,
        of `PhotoUploads`, of `Reception.receive` and of `Concatenation.create`.
        """
        metadata = tus_headers.upload_metadata(headers)
        concat = tus_headers.upload_concat(headers)
        if concat is not None and concat.is_final:
            return await self.concatenation.create(principal, metadata, concat)
        length = tus_headers.upload_length(headers)
        if length > self.options.max_size:
            raise refusals.upload_too_large(self.options.max_size)
        has_body = tus_headers.content_length(headers) != 0
        if has_body:
            tus_headers.check_body_type(headers)
        request_id = _request_id(principal, headers)
        unique = unique_of(request_id) if request_id else secrets.token_hex(8)
        photo = await self.photos.photo_of(principal, metadata, concat, length)
        if photo is None:
            target = target_of(metadata, concat, unique, self.options.default_drive)
        else:
            target = target_of_photo(photo, metadata, concat)
        upload_id = await self.uploads.create(target, length, request_id)
        upload = await self.uploads.get(upload_id)
        try:
            # Before its first byte, so that the events of the upload find the photo.
            await self.photos.bind(principal, photo, upload)
        except SluiceError:
            await self._abort(upload_id)
            raise
        if length == 0 and not upload.is_stored:
            await self.uploads.complete(upload, self.options.complete_seconds)
        if not has_body or upload.offset > 0 or not upload.is_open:
            return upload
        try:
            return await self.reception.receive(principal, upload, headers, receive)
        except (SluiceError, ClientDisconnect):
            if not request_id:
                await self._abort(upload_id)  # its client never learns where it is
            raise

    async def _abort(self, upload_id: str) -> None:
        try:
            await self.uploads.abort(upload_id)
        except SluiceError as error:
            # The upload is completing already, or it will expire.
            _log.warning("upload.abort_failed", upload_id=upload_id, reason=error.reason)


def _request_id(principal: Principal, headers: Headers) -> str:
    keys = headers.getlist("idempotency-key")
    if not keys:
        return ""
    if len(keys) > 1 or not keys[0]:
        raise refusals.bad_header("Idempotency-Key", "send it once")
    key = check_request_id(keys[0], "Idempotency-Key")
    return request_id_of("create", principal.subject, key)
