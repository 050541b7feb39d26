"""What an S3 store does with checksums, found out by trying: the stores differ, their versions too.

One probe per store and process, under a key of its own that is removed again.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import structlog

from sluice_backends.s3.calls import S3Calls
from sluice_backends.s3.checksums import StoredChecksum, composite, decoded, encoded
from sluice_backends.s3.convert import Answer
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
"""How a store refuses a parameter that it does not know."""


class MultipartChecksum(StrEnum):
    """What the CRC32C of an object in parts covers."""

    FULL_OBJECT = "FULL_OBJECT"
    COMPOSITE = "COMPOSITE"
    NONE = "NONE"


@dataclass(frozen=True, slots=True)
class Capabilities:
    """Attributes:
    takes_crc32c: it accepts a CRC32C with a body; then it is sent along.
    checks_crc32c: it refuses a body, and a part, of another CRC32C; else we look ourselves.
    keeps_crc32c: `head` reports the CRC32C of a whole object.
    multipart: what it keeps of an object in parts.
    lists_multiparts: it can name the multiparts that are open under a key.
    """

    takes_crc32c: bool
    checks_crc32c: bool
    keeps_crc32c: bool
    multipart: MultipartChecksum
    lists_multiparts: bool


async def probe(calls: S3Calls, bucket: str, prefix: str) -> Capabilities:
    """Try the store out in this bucket. Raises the port's errors when it cannot be used at all."""
    key = f"{prefix}/{new_token()}"
    try:
        capabilities = await _Probe(calls, bucket, key).run()
    finally:
        await calls.run("delete_object", Bucket=bucket, Key=key)
    _log.info(
        "object_store_probed",
        bucket=bucket,
        takes_crc32c=capabilities.takes_crc32c,
        checks_crc32c=capabilities.checks_crc32c,
        keeps_crc32c=capabilities.keeps_crc32c,
        multipart=str(capabilities.multipart),
        lists_multiparts=capabilities.lists_multiparts,
    )
    return capabilities


class _Wrong(BytesBody):
    """Claims a CRC32C that is not its own."""

    @property
    def crc32c(self) -> int:
        return super().crc32c ^ 1


class _Probe:
    def __init__(self, calls: S3Calls, bucket: str, key: str) -> None:
        self._calls = calls
        self._where: dict[str, Any] = {"Bucket": bucket, "Key": key}
        self._body = BytesBody(_CONTENT)

    async def run(self) -> Capabilities:
        await self._send("put_object", self._body, with_crc32c=False)
        lists = await self._lists()
        takes = await self._takes()
        if not takes:
            return Capabilities(False, False, False, MultipartChecksum.NONE, lists)
        checks = await self._refuses_wrong("put_object")
        keeps = await self._kept() == StoredChecksum(self._body.crc32c, None)
        for kind in (MultipartChecksum.FULL_OBJECT, MultipartChecksum.COMPOSITE):
            checks_parts = await self._makes(kind)
            if checks_parts is not None:
                return Capabilities(takes, checks and checks_parts, keeps, kind, lists)
        return Capabilities(takes, False, keeps, MultipartChecksum.NONE, lists)

    async def _takes(self) -> bool:
        try:
            await self._send("put_object", self._body)
        except _UNSUPPORTED:
            return False
        return True

    async def _refuses_wrong(self, operation: str, **parameters: Any) -> bool:
        try:
            await self._send(operation, _Wrong(_CONTENT), **parameters)
        except DataLoss:
            return True
        return False

    async def _kept(self) -> StoredChecksum | None:
        answer = await self._calls.run("head_object", ChecksumMode="ENABLED", **self._where)
        return decoded(answer.get("ChecksumCRC32C"))

    async def _lists(self) -> bool:
        opened = await self._calls.run("create_multipart_upload", **self._where)
        try:
            found = await self._calls.run(
                "list_multipart_uploads", Bucket=self._where["Bucket"], Prefix=self._where["Key"]
            )
            return any(
                upload["UploadId"] == opened["UploadId"] for upload in found.get("Uploads", ())
            )
        except _UNSUPPORTED:
            return False
        finally:
            await self._abort(opened["UploadId"])

    async def _makes(self, kind: MultipartChecksum) -> bool | None:
        """Whether it checks the parts of an object with a checksum of this kind; None if it cannot
        make one."""
        try:
            opened = await self._calls.run(
                "create_multipart_upload",
                ChecksumAlgorithm="CRC32C",
                ChecksumType=str(kind),
                **self._where,
            )
        except _UNSUPPORTED:
            return None
        multipart: dict[str, Any] = {"UploadId": opened["UploadId"]}
        try:
            checks = await self._refuses_wrong("upload_part", PartNumber=1, **multipart)
            part = await self._send("upload_part", self._body, PartNumber=1, **multipart)
            crc = self._body.crc32c
            await self._calls.run(
                "complete_multipart_upload",
                MultipartUpload={
                    "Parts": [
                        {"PartNumber": 1, "ETag": part["ETag"], "ChecksumCRC32C": encoded(crc)}
                    ]
                },
                **multipart,
                **self._where,
            )
            full = kind is MultipartChecksum.FULL_OBJECT
            expected = StoredChecksum(crc, None) if full else composite([crc])
            return checks if await self._kept() == expected else None
        except _UNSUPPORTED:
            return None
        finally:
            await self._abort(opened["UploadId"])

    async def _send(
        self, operation: str, body: BytesBody, *, with_crc32c: bool = True, **parameters: Any
    ) -> Answer:
        return await self._calls.send(
            operation, body, with_crc32c=with_crc32c, verify=False, **self._where, **parameters
        )

    async def _abort(self, multipart_id: str) -> None:
        try:
            await self._calls.run("abort_multipart_upload", UploadId=multipart_id, **self._where)
        except NotFound:
            return  # it was completed
