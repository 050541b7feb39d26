"""Checksum capabilities of an S3 store, detected by a probe: stores and versions differ."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import structlog

from sluice_backends.s3.calls import S3Calls
from sluice_backends.s3.checksums import (
    StoredChecksum,
    composite_checksum,
    decode_crc32c,
    encode_crc32c,
)
from sluice_backends.s3.conversions import Response
from sluice_core.errors import (
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unimplemented,
)
from sluice_core.objects.body import BytesBody
from sluice_core.uploads.ids import new_token

_log = structlog.get_logger(__name__)
_CONTENT = b"What does this store do with checksums?"
_UNSUPPORTED = (FailedPrecondition, InvalidArgument, Unimplemented)
"""Errors with which a store rejects an unknown parameter."""


class MultipartChecksum(StrEnum):
    """Coverage of the CRC32C of a multipart object."""

    FULL_OBJECT = "FULL_OBJECT"
    COMPOSITE = "COMPOSITE"
    NONE = "NONE"


def multipart_checksum(kind: MultipartChecksum) -> dict[str, Any]:
    """Return the parameters that create a multipart object with such a checksum."""
    if kind is MultipartChecksum.NONE:
        return {}
    return {"ChecksumAlgorithm": "CRC32C", "ChecksumType": str(kind)}


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Capabilities of a store.

    Attributes:
        takes_crc32c: accepts a CRC32C with a body; it is then sent.
        checks_crc32c: rejects a body or part with another CRC32C; otherwise it is verified locally.
        keeps_crc32c: `head` reports the CRC32C of a whole object.
        multipart: checksum stored for a multipart object.
        takes_bare_parts: completes such an object from parts that came without a CRC32C.
        takes_stray_crc32c: takes a CRC32C with a part of a multipart object that has none.
        keeps_objects: rejects `If-None-Match: *` where there is an object.
        lists_multiparts: lists the open multipart uploads of a key.
    """

    takes_crc32c: bool
    checks_crc32c: bool
    keeps_crc32c: bool
    multipart: MultipartChecksum
    takes_bare_parts: bool
    takes_stray_crc32c: bool
    keeps_objects: bool
    lists_multiparts: bool

    @property
    def client_multipart(self) -> MultipartChecksum:
        """Checksum of a multipart object whose parts come with a CRC32C or without one."""
        return self.multipart if self.takes_bare_parts else MultipartChecksum.NONE

    @property
    def takes_client_crc32c(self) -> bool:
        """Whether a part of such an object may have a CRC32C."""
        return self.takes_bare_parts or self.takes_stray_crc32c


async def probe(calls: S3Calls, bucket: str, prefix: str) -> Capabilities:
    """Return the capabilities of the store, detected with an object that is deleted afterwards.

    Runs once per store and process. Raises the errors of the port when the store is unusable.
    """
    key = f"{prefix}/{new_token()}"
    try:
        capabilities = await _Probe(calls, bucket, key).run()
    finally:
        await calls.run("delete_object", Bucket=bucket, Key=key)
    _log.info(
        "object_store.probed",
        bucket=bucket,
        takes_crc32c=capabilities.takes_crc32c,
        checks_crc32c=capabilities.checks_crc32c,
        keeps_crc32c=capabilities.keeps_crc32c,
        multipart=str(capabilities.multipart),
        takes_bare_parts=capabilities.takes_bare_parts,
        takes_stray_crc32c=capabilities.takes_stray_crc32c,
        keeps_objects=capabilities.keeps_objects,
        lists_multiparts=capabilities.lists_multiparts,
    )
    return capabilities


class _WrongChecksumBody(BytesBody):
    """Body that declares a wrong CRC32C."""

    @property
    def crc32c(self) -> int:
        return super().crc32c ^ 1


class _Probe:
    def __init__(self, calls: S3Calls, bucket: str, key: str) -> None:
        self._calls = calls
        self._location: dict[str, Any] = {"Bucket": bucket, "Key": key}
        self._body = BytesBody(_CONTENT)

    async def run(self) -> Capabilities:
        await self._send("put_object", self._body, with_crc32c=False)
        can = Capabilities(
            takes_crc32c=False,
            checks_crc32c=False,
            keeps_crc32c=False,
            multipart=MultipartChecksum.NONE,
            takes_bare_parts=False,
            takes_stray_crc32c=False,
            keeps_objects=await self._keeps_objects(),
            lists_multiparts=await self._lists_multiparts(),
        )
        if not await self._accepts_crc32c():
            return can
        checks = await self._refuses_wrong("put_object")
        keeps = await self._stored_checksum() == StoredChecksum(self._body.crc32c, None)
        can = replace(
            can,
            takes_crc32c=True,
            keeps_crc32c=keeps,
            takes_stray_crc32c=await self._takes_parts(MultipartChecksum.NONE, with_crc32c=True),
        )
        for kind in (MultipartChecksum.FULL_OBJECT, MultipartChecksum.COMPOSITE):
            checks_parts = await self._checks_parts(kind)
            if checks_parts is not None:
                bare = await self._takes_parts(kind, with_crc32c=False)
                return replace(
                    can,
                    checks_crc32c=checks and checks_parts,
                    multipart=kind,
                    takes_bare_parts=bare,
                )
        return can

    async def _keeps_objects(self) -> bool:
        """Return whether the object, which is there, stays with `If-None-Match: *`."""
        try:
            await self._send("put_object", self._body, with_crc32c=False, IfNoneMatch="*")
        except FailedPrecondition as refused:
            # Stores that do not know the header on a PUT refuse it in other words.
            return refused.reason == "OBJECT_EXISTS"
        except _UNSUPPORTED:
            return False
        return False

    async def _accepts_crc32c(self) -> bool:
        try:
            await self._send("put_object", self._body)
        except _UNSUPPORTED:
            return False
        return True

    async def _refuses_wrong(self, operation: str, **parameters: Any) -> bool:
        try:
            await self._send(operation, _WrongChecksumBody(_CONTENT), **parameters)
        except DataLoss:
            return True
        return False

    async def _stored_checksum(self) -> StoredChecksum | None:
        response = await self._calls.run("head_object", ChecksumMode="ENABLED", **self._location)
        return decode_crc32c(response.get("ChecksumCRC32C"))

    async def _lists_multiparts(self) -> bool:
        try:
            opened = await self._open(MultipartChecksum.NONE)
        except _UNSUPPORTED:
            return False
        try:
            listing = await self._calls.run(
                "list_multipart_uploads",
                Bucket=self._location["Bucket"],
                Prefix=self._location["Key"],
            )
            return any(upload["UploadId"] == opened for upload in listing.get("Uploads", ()))
        except _UNSUPPORTED:
            return False
        finally:
            await self._abort(opened)

    async def _checks_parts(self, kind: MultipartChecksum) -> bool | None:
        """Return whether the store verifies parts of an object with a checksum of this kind.

        None if it cannot create such an object.
        """
        try:
            opened = await self._open(kind)
        except _UNSUPPORTED:
            return None
        try:
            checks = await self._refuses_wrong("upload_part", PartNumber=1, UploadId=opened)
            crc = self._body.crc32c
            await self._complete(opened, with_crc32c=True, listed=encode_crc32c(crc))
            full = kind is MultipartChecksum.FULL_OBJECT
            expected = StoredChecksum(crc, None) if full else composite_checksum([crc])
            return checks if await self._stored_checksum() == expected else None
        except _UNSUPPORTED:
            return None
        finally:
            await self._abort(opened)

    async def _takes_parts(self, kind: MultipartChecksum, *, with_crc32c: bool) -> bool:
        """Return whether such a part becomes an object with a checksum of this kind."""
        try:
            opened = await self._open(kind)
        except _UNSUPPORTED:
            return False
        try:
            await self._complete(opened, with_crc32c=with_crc32c, listed=None)
        except _UNSUPPORTED:
            return False
        finally:
            await self._abort(opened)
        return True

    async def _open(self, kind: MultipartChecksum) -> str:
        opened = await self._calls.run(
            "create_multipart_upload", **multipart_checksum(kind), **self._location
        )
        return str(opened["UploadId"])

    async def _complete(self, multipart_id: str, *, with_crc32c: bool, listed: str | None) -> None:
        """Put a part and complete the multipart of it, listed with this checksum."""
        sent = await self._send(
            "upload_part", self._body, with_crc32c=with_crc32c, PartNumber=1, UploadId=multipart_id
        )
        part: dict[str, Any] = {"PartNumber": 1, "ETag": sent["ETag"]}
        if listed is not None:
            part["ChecksumCRC32C"] = listed
        await self._calls.run(
            "complete_multipart_upload",
            MultipartUpload={"Parts": [part]},
            UploadId=multipart_id,
            **self._location,
        )

    async def _send(
        self, operation: str, body: BytesBody, *, with_crc32c: bool = True, **parameters: Any
    ) -> Response:
        return await self._calls.send(
            operation, body, with_crc32c=with_crc32c, verify=False, **self._location, **parameters
        )

    async def _abort(self, multipart_id: str) -> None:
        try:
            await self._calls.run("abort_multipart_upload", UploadId=multipart_id, **self._location)
        except NotFound:
            return  # it was completed
