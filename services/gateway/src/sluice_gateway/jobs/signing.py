"""Signed URLs of photos. Signing sends no request to the store."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from sluice_common.telemetry.tracing import current_traceparent
from sluice_core.objects.marks import path_mark, trace_mark
from sluice_core.photos.model import Photo
from sluice_core.photos.strategies import UploadStrategy
from sluice_core.ports.catalogue import Drive
from sluice_core.ports.object_store import ObjectAttributes, ObjectStore
from sluice_core.ports.upload_jobs import NewPhoto
from sluice_core.uploads.model import ObjectRef
from sluice_gateway.http.models import moment
from sluice_gateway.jobs.options import PhotoOptions
from sluice_gateway.jobs.part_plan import PartPlan, is_multipart, plan_parts
from sluice_gateway.jobs.views import MultipartView, PartUrlView, UploadItemView
from sluice_gateway.tus.headers import creation_headers
from sluice_gateway.tus.photos import PHOTO_KEY

_URLS_AT_ONCE: Final = 50
"""A URL takes 0.1 ms; others get their turn in between."""


class ObjectUrls:
    """Signs the URLs of uploads and downloads."""

    def __init__(
        self, objects: ObjectStore, options: PhotoOptions, clock: Callable[[], float] = time.time
    ) -> None:
        self._objects = objects
        self._options = options
        self._clock = clock

    async def check(self, drive: Drive, strategy: UploadStrategy, photo: NewPhoto | Photo) -> None:
        """Raise the error of a store that cannot sign, before a photo waits for a URL in vain."""
        if strategy is not UploadStrategy.TUS:
            lifetime = self._options.upload_url_seconds
            await self._objects.presign_put(
                photo.object, lifetime, photo.size, attributes_of(drive, photo)
            )

    async def items(
        self, drive: Drive, strategy: UploadStrategy, photos: Sequence[Photo]
    ) -> list[UploadItemView]:
        """Return how to send each of these photos."""
        items = []
        for number, photo in enumerate(photos):
            if number % _URLS_AT_ONCE == 0:
                await asyncio.sleep(0)
            items.append(await self.item(drive, strategy, photo))
        return items

    async def item(self, drive: Drive, strategy: UploadStrategy, photo: Photo) -> UploadItemView:
        """Return how to send a photo."""
        if strategy is UploadStrategy.TUS:
            headers = creation_headers(photo.size, tus_metadata(photo))
            return _item(photo, "POST", self._options.tus_path, headers)
        if is_multipart(photo.size):
            multipart = MultipartView(
                upload_id=public_upload_id(photo), part_size=plan_parts(photo.size).part_bytes
            )
            return _item(photo, "PUT", None, multipart=multipart)
        lifetime = self._options.upload_url_seconds
        # Read before signing: the stated time is never later than that of the URL.
        expires_at = self._clock() + lifetime
        signed = await self._objects.presign_put(
            photo.object, lifetime, photo.size, attributes_of(drive, photo)
        )
        return _item(photo, "PUT", signed.url, signed.headers, expires_at)

    async def parts(
        self, photo: Photo, plan: PartPlan, multipart_id: str, wanted: Mapping[int, int | None]
    ) -> list[PartUrlView]:
        """Return where to put parts.

        Args:
            wanted: CRC32C by part number, None for a part without one.
        """
        urls = []
        lifetime = self._options.upload_url_seconds
        for index, (number, crc32c) in enumerate(wanted.items()):
            if index % _URLS_AT_ONCE == 0:
                await asyncio.sleep(0)
            size = plan.size_of(number)
            expires_at = self._clock() + lifetime
            signed = await self._objects.presign_part(
                photo.object, multipart_id, number, lifetime, size, crc32c=crc32c
            )
            urls.append(
                PartUrlView(
                    part_number=number,
                    bytes=size,
                    presigned_url=signed.url,
                    headers=dict(signed.headers),
                    expires_at=moment(expires_at),
                )
            )
        return urls

    async def download(self, ref: ObjectRef, filename: str) -> tuple[str, float]:
        """Return the URL of an object that is saved under this name, and when it expires."""
        lifetime = self._options.download_url_seconds
        expires_at = self._clock() + lifetime
        return await self._objects.presign_get(ref, lifetime, filename), expires_at

    async def thumbnails(self, refs: Iterable[tuple[ObjectRef, str]]) -> list[tuple[str, float]]:
        """Return URLs of thumbnails and when they expire."""
        urls = []
        for number, (ref, filename) in enumerate(refs):
            if number % _URLS_AT_ONCE == 0:
                await asyncio.sleep(0)
            urls.append(await self.download(ref, filename))
        return urls


def public_upload_id(photo: Photo) -> str:
    """Return the id of an attempt's multipart as clients know it.

    The store's multipart is opened when the first part is asked for: opening those of 100 photos
    with their job takes up to a second.
    """
    return f"{photo.photo_id}-{photo.attempt}"


def tus_metadata(photo: Photo) -> Mapping[str, str]:
    """Return the metadata that make an upload by tus the one of this photo."""
    return {
        PHOTO_KEY: photo.photo_id,
        "filename": photo.filename,
        "filetype": photo.content_type,
    }


def attributes_of(drive: Drive, photo: NewPhoto | Photo) -> ObjectAttributes:
    """Return the attributes of a photo's object.

    Its path travels in the metadata (ADR 0015), and so does the trace of this request, which its
    processing continues.
    """
    return ObjectAttributes(
        photo.content_type,
        drive.policy.storage_class,
        drive.policy.encryption,
        {**path_mark(photo.path), **trace_mark(current_traceparent())},
    )


def _item(
    photo: Photo,
    method: str,
    url: str | None,
    headers: Mapping[str, str] | None = None,
    expires_at: float | None = None,
    multipart: MultipartView | None = None,
) -> UploadItemView:
    return UploadItemView(
        photo_id=photo.photo_id,
        filename=photo.filename,
        method=method,
        presigned_url=url,
        headers=dict(headers or {}),
        expires_at=None if expires_at is None else moment(expires_at),
        multipart=multipart,
    )
