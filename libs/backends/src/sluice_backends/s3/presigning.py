"""Presigned URLs: direct access of browsers to objects."""

from __future__ import annotations

from urllib.parse import quote

from sluice_backends.s3.attributes import to_parameters
from sluice_backends.s3.client import S3Client
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

    Args:
        client: client of the endpoint that browsers use, because the host is signed, too.
    """

    def __init__(self, client: S3Client) -> None:
        self._client = client

    async def get(self, ref: ObjectRef, lifetime_seconds: int, filename: str) -> str:
        url: str = await self._client.generate_presigned_url(
            "get_object",
            Params={
                "Bucket": ref.bucket,
                "Key": ref.key,
                "ResponseContentDisposition": _attachment(filename),
            },
            ExpiresIn=lifetime_seconds,
        )
        return url

    async def put(
        self, ref: ObjectRef, lifetime_seconds: int, size: int, attributes: ObjectAttributes
    ) -> PresignedPut:
        parameters = to_parameters(attributes)
        url: str = await self._client.generate_presigned_url(
            "put_object",
            Params={"Bucket": ref.bucket, "Key": ref.key, "ContentLength": size, **parameters},
            ExpiresIn=lifetime_seconds,
        )
        headers = {
            **{f"x-amz-meta-{name}": value for name, value in attributes.metadata.items()},
            **{header: parameters[name] for name, header in _HEADERS.items() if name in parameters},
        }
        return PresignedPut(url, {**headers, "content-length": str(size)})


def _attachment(filename: str) -> str:
    """Return a Content-Disposition (RFC 6266) that forces a download under any UTF-8 name."""
    return f"attachment; filename*=UTF-8''{quote(filename, safe='')}"
