"""Tests of conversions to and from S3: checksums, attributes, errors, options."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import (  # type: ignore[import-untyped]
    ClientError,
    EndpointConnectionError,
    NoCredentialsError,
)
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from sluice_backends.s3.attributes import to_parameters
from sluice_backends.s3.checksums import (
    StoredChecksum,
    composite_checksum,
    decode_crc32c,
    encode_crc32c,
)
from sluice_backends.s3.conversions import expected_object
from sluice_backends.s3.errors import to_store_error
from sluice_backends.s3.options import S3Options
from sluice_core.configuration import ConfigurationError
from sluice_core.errors import InvalidArgument
from sluice_core.ports.object_store import ObjectAttributes, PartTag
from sluice_core.uploads.checksums import crc32c
from sluice_core.uploads.model import ObjectRef

REF = ObjectRef("sluice", "a/b")


@given(st.integers(0, 2**32 - 1))
def test_checksum_text_round_trips(crc: int) -> None:
    assert decode_crc32c(encode_crc32c(crc)) == StoredChecksum(crc, None)
    assert decode_crc32c(f"{encode_crc32c(crc)}-7") == StoredChecksum(crc, 7)


def test_checksum_text_matches_s3() -> None:
    """RFC 3720, B.4: 32 bytes of zeroes."""
    assert encode_crc32c(crc32c(bytes(32))) == "ipE2qg=="


@pytest.mark.parametrize("text", [None, "", "nonsense", "AAAA", "AAAAAA==-", "AAAAAA==-x", "é"])
def test_invalid_checksum_text_is_none(text: str | None) -> None:
    assert decode_crc32c(text) is None


def test_composite_covers_checksums_of_parts() -> None:
    crcs = [crc32c(b"one"), crc32c(b"two")]
    expected = crc32c(b"".join(crc.to_bytes(4, "big") for crc in crcs))
    assert composite_checksum(crcs) == StoredChecksum(expected, 2)


def test_object_checksum_needs_all_part_checksums() -> None:
    parts = [PartTag(1, "a", 3, crc32c(b"one")), PartTag(2, "b", 3, crc32c(b"two"))]
    assert expected_object(REF, "e", parts).crc32c == crc32c(b"onetwo")
    unknown = [parts[0], PartTag(2, "b", 3, None)]
    assert expected_object(REF, "e", unknown).crc32c is None
    assert expected_object(REF, "e", unknown).size == 6


@pytest.mark.parametrize(
    ("encryption", "expected"),
    [
        ("", {}),
        ("AES256", {"ServerSideEncryption": "AES256"}),
        ("aws:kms", {"ServerSideEncryption": "aws:kms"}),
        ("aws:kms:dsse", {"ServerSideEncryption": "aws:kms:dsse"}),
        ("aws:kms:1234-ab", {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "1234-ab"}),
        (
            "aws:kms:arn:aws:kms:eu-west-1:1:key/ab",
            {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "arn:aws:kms:eu-west-1:1:key/ab"},
        ),
    ],
)
def test_encryption_maps_to_s3_parameters(encryption: str, expected: dict[str, str]) -> None:
    parameters = to_parameters(ObjectAttributes("a/b", "GLACIER_IR", encryption))
    assert parameters == {"ContentType": "a/b", "StorageClass": "GLACIER_IR", **expected}


@pytest.mark.parametrize("encryption", ["aes256", "aws:kms:", "AES256:key", "aws:kms:a b", "x"])
def test_unknown_encryption_is_rejected(encryption: str) -> None:
    with pytest.raises(InvalidArgument, match="BAD_ENCRYPTION"):
        to_parameters(ObjectAttributes(encryption=encryption))


def client_error(code: str, status: int, **headers: str) -> Any:
    response = {
        "Error": {"Code": code, "Message": "the secret is hunter2"},
        "ResponseMetadata": {"HTTPStatusCode": status, "HTTPHeaders": headers},
    }
    return ClientError(response, "PutObject")


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (client_error("NoSuchKey", 404), "NotFound", "OBJECT_NOT_FOUND"),
        (client_error("404", 404), "NotFound", "OBJECT_NOT_FOUND"),
        (client_error("NoSuchBucket", 404), "NotFound", "BUCKET_NOT_FOUND"),
        (client_error("NoSuchUpload", 404), "NotFound", "MULTIPART_NOT_FOUND"),
        (client_error("InvalidPart", 400), "FailedPrecondition", "INVALID_PART"),
        (client_error("InvalidPartOrder", 400), "FailedPrecondition", "INVALID_PART"),
        (client_error("EntityTooSmall", 400), "FailedPrecondition", "PART_TOO_SMALL"),
        (client_error("BadDigest", 400), "DataLoss", "CHECKSUM_MISMATCH"),
        (client_error("XAmzContentChecksumMismatch", 400), "DataLoss", "CHECKSUM_MISMATCH"),
        (client_error("AccessDenied", 403), "PermissionDenied", "STORE_DENIED"),
        (client_error("SignatureDoesNotMatch", 403), "PermissionDenied", "STORE_DENIED"),
        (client_error("RequestTimeTooSkewed", 403), "Unavailable", "STORE_UNAVAILABLE"),
        (client_error("ExpiredToken", 400), "Unavailable", "STORE_UNAVAILABLE"),
        (client_error("SlowDown", 503), "Unavailable", "STORE_UNAVAILABLE"),
        (client_error("XMinioStorageFull", 507), "Unavailable", "STORE_UNAVAILABLE"),
        (client_error("NotImplemented", 501), "Unimplemented", "STORE_LACKS_CALL"),
        (client_error("InvalidStorageClass", 400), "InvalidArgument", "BAD_STORAGE_CLASS"),
        (client_error("SomethingNew", 400), "FailedPrecondition", "STORE_REFUSED"),
        (NoCredentialsError(), "PermissionDenied", "STORE_DENIED"),
        (EndpointConnectionError(endpoint_url="x"), "Unavailable", "STORE_UNAVAILABLE"),
        (ConnectionResetError(), "Unavailable", "STORE_UNAVAILABLE"),
        (TimeoutError(), "Unavailable", "STORE_UNAVAILABLE"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_vendor_errors_map_to_port_errors(error: Exception, kind: str, reason: str) -> None:
    translated = to_store_error(error, "photos")
    assert (type(translated).__name__, translated.reason) == (kind, reason)
    assert "hunter2" not in str(translated)


def test_retry_after_header_is_kept() -> None:
    assert (
        to_store_error(client_error("x", 503, **{"retry-after": "7"}), "b").retry_after_seconds == 7
    )
    date = "Wed, 21 Oct 2015 07:28:00 GMT"
    assert (
        to_store_error(client_error("x", 503, **{"retry-after": date}), "b").retry_after_seconds
        is None
    )


def test_custom_endpoint_uses_path_style() -> None:
    assert S3Options().addressing_style == "virtual"
    assert S3Options(endpoint_url="http://minio:9000").addressing_style == "path"
    assert S3Options(endpoint_url="https://x.test", path_style=False).addressing_style == "virtual"


@pytest.mark.parametrize(
    "changes",
    [
        {"endpoint_url": "minio:9000"},
        {"endpoint_url": "ftp://minio"},
        {"endpoint_url": "http://user:hunter2@minio"},
        {"public_endpoint_url": "photos.example.org"},
        {"access_key": SecretStr("hunter2")},
        {"secret_key": SecretStr("hunter2")},
        {"max_reads": 0},
        {"stall_timeout_seconds": 0.0},
    ],
)
def test_invalid_options_are_rejected_in_one_line(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError) as refused:
        S3Options(**changes)
    assert "hunter2" not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_secrets_are_not_shown() -> None:
    options = S3Options(access_key=SecretStr("a"), secret_key=SecretStr("hunter2"))
    assert "hunter2" not in repr(options)
