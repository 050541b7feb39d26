"""Presigned URLs: direct access of browsers to objects."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from sluice_backends.s3.addressing import Addressing
from sluice_backends.s3.attributes import to_parameters
from sluice_backends.s3.checksums import encode_crc32c
from sluice_backends.s3.credentials import CredentialSource
from sluice_backends.s3.sigv4 import UrlSigner
from sluice_core.objects.presigning import DOWNLOAD_TYPE, attachment, check_signed_attributes
from sluice_core.ports.object_store import ObjectAttributes, PresignedPut
from sluice_core.uploads.model import ObjectRef

_HEADERS = {
    "ContentType": "content-type",
    "StorageClass": "x-amz-storage-class",
    "ServerSideEncryption": "x-amz-server-side-encryption",
    "SSEKMSKeyId": "x-amz-server-side-encryption-aws-kms-key-id",
}


class Presigner:
    """Signer of URLs; sends no request.

    It signs by itself, because botocore takes ten times as long, and a job of a hundred photos
    needs a hundred URLs at once.

    Args:
        addressing: of the endpoint that browsers use, because the host is signed, too.
        clock: Unix seconds.
    """

    def __init__(
        self,
        addressing: Addressing,
        region: str,
        credentials: CredentialSource,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._addressing = addressing
        self._signer = UrlSigner(region)
        self._credentials = credentials
        self._clock = clock

    async def get(self, ref: ObjectRef, lifetime_seconds: int, filename: str) -> str:
        query = {
            "response-content-disposition": attachment(filename),
            "response-content-type": DOWNLOAD_TYPE,
        }
        return await self._sign("GET", ref, lifetime_seconds, query, {})

    async def put(
        self,
        ref: ObjectRef,
        lifetime_seconds: int,
        size: int,
        attributes: ObjectAttributes,
        crc32c: int | None,
        *,
        once: bool,
    ) -> PresignedPut:
        """Return a request for one object.

        Args:
            once: the store is to refuse it (412) when the object is there.
        """
        check_signed_attributes(attributes.content_type, attributes.metadata)
        parameters = to_parameters(attributes)
        headers = {
            **{f"x-amz-meta-{name}": value for name, value in attributes.metadata.items()},
            **{header: parameters[name] for name, header in _HEADERS.items() if name in parameters},
            **_checksum_header(crc32c),
            **({"if-none-match": "*"} if once else {}),
        }
        return await self._put(ref, lifetime_seconds, size, {}, headers)

    async def part(
        self,
        ref: ObjectRef,
        multipart_id: str,
        number: int,
        lifetime_seconds: int,
        size: int,
        crc32c: int | None,
    ) -> PresignedPut:
        query = {"partNumber": str(number), "uploadId": multipart_id}
        return await self._put(ref, lifetime_seconds, size, query, _checksum_header(crc32c))

    async def _put(
        self,
        ref: ObjectRef,
        lifetime_seconds: int,
        size: int,
        query: Mapping[str, str],
        headers: Mapping[str, str],
    ) -> PresignedPut:
        signed = {**headers, "content-length": str(size)}
        return PresignedPut(
            await self._sign("PUT", ref, lifetime_seconds, query, signed), dict(headers)
        )

    async def _sign(
        self,
        method: str,
        ref: ObjectRef,
        lifetime_seconds: int,
        query: Mapping[str, str],
        headers: Mapping[str, str],
    ) -> str:
        return self._signer.sign(
            method,
            self._addressing.target(ref),
            await self._credentials.current(ref.bucket),
            query=query,
            headers=headers,
            lifetime_seconds=lifetime_seconds,
            now=self._clock(),
        )


def _checksum_header(crc32c: int | None) -> dict[str, str]:
    return {} if crc32c is None else {"x-amz-checksum-crc32c": encode_crc32c(crc32c)}
