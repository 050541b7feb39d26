"""Encryption and storage class of a drive as S3 parameters."""

from __future__ import annotations

import re
from typing import Any

from sluice_core.errors import InvalidArgument
from sluice_core.ports.object_store import ObjectAttributes

_STORAGE_CLASS = re.compile(r"[A-Z][A-Z0-9_]{0,63}")
_ENCRYPTION = re.compile(r"AES256|(aws:kms(?::dsse)?)(?::([A-Za-z0-9:/_-]{1,2048}))?")


def to_parameters(attributes: ObjectAttributes) -> dict[str, Any]:
    """Return the parameters of PutObject and CreateMultipartUpload.

    `encryption` is "" (the bucket's default), "AES256", "aws:kms" or "aws:kms:KEY". KEY is the id,
    alias or ARN of a key. "aws:kms:dsse" takes a key in the same way.

    Raises `InvalidArgument` BAD_ENCRYPTION, BAD_STORAGE_CLASS.
    """
    parameters: dict[str, Any] = {"ContentType": attributes.content_type}
    if attributes.metadata:
        parameters["Metadata"] = dict(attributes.metadata)
    if attributes.storage_class:
        if _STORAGE_CLASS.fullmatch(attributes.storage_class) is None:
            raise bad_storage_class()
        parameters["StorageClass"] = attributes.storage_class
    if attributes.encryption:
        match = _ENCRYPTION.fullmatch(attributes.encryption)
        if match is None:
            raise bad_encryption()
        parameters["ServerSideEncryption"] = match[1] or "AES256"
        if match[2]:
            parameters["SSEKMSKeyId"] = match[2]
    return parameters


def bad_storage_class() -> InvalidArgument:
    return InvalidArgument(
        "BAD_STORAGE_CLASS",
        "The object store has no such storage class; correct the drive's storage_class.",
        field="storage_class",
    )


def bad_encryption() -> InvalidArgument:
    return InvalidArgument(
        "BAD_ENCRYPTION",
        "The object store cannot encrypt like that; the drive's encryption is empty, AES256, "
        "aws:kms or aws:kms:KEY.",
        field="encryption",
    )
