"""Validation of names, ids and claims from clients."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sized

from sluice_core.errors import InvalidArgument
from sluice_core.uploads.model import MAX_CHUNKS

# A valid value is safe as a segment of an object key, in a log line and in a Redis key. Each check
# returns the value to use, or raises `InvalidArgument` with a stable reason and the request field
# at fault. The message never repeats the refused value, because it may contain anything.

MAX_PATH_BYTES = 1024
MAX_METADATA_ENTRIES = 64
MAX_METADATA_BYTES = 8 * 1024
SHA256_BYTES = 32

_MAX_UNNORMALIZED_CHARACTERS = 4 * MAX_PATH_BYTES
"""NFC shortens text by a factor below four, so that longer text cannot fit: skip normalizing it."""

_DRIVE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_IDENTIFIER = re.compile(r"[A-Za-z0-9_-]{1,128}")
_REQUEST_ID = re.compile(r"[ -~]{0,128}")
_TOKEN = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
_CONTENT_TYPE = re.compile(
    rf"{_TOKEN}/{_TOKEN}(?: *; *{_TOKEN}=(?:{_TOKEN}|\"[ !#-\[\]-~]*\"))*"  # RFC 9110, 8.3.1
)
_MAX_CONTENT_TYPE_CHARACTERS = 255
_MAX_SUBJECT_CHARACTERS = 255

_FORBIDDEN_CATEGORIES = frozenset({"Cc", "Cs", "Zl", "Zp"})
"""Control characters, unpaired surrogates, and the separators that split a log line."""


def check_drive_name(name: str, field: str = "drive") -> str:
    """Check for 1 to 63 letters, digits, `.`, `_`, `-`, first a letter or digit. BAD_DRIVE_NAME."""
    if not _DRIVE_NAME.fullmatch(name):
        raise InvalidArgument(
            "BAD_DRIVE_NAME",
            "A drive name has 1 to 63 letters, digits, '.', '_' or '-' and begins with a letter"
            " or digit.",
            field=field,
        )
    return name


def check_tenant_name(name: str, field: str = "tenant") -> str:
    """Check for the form of a drive name. BAD_TENANT_NAME."""
    if not _DRIVE_NAME.fullmatch(name):
        raise InvalidArgument(
            "BAD_TENANT_NAME",
            "A tenant name has 1 to 63 letters, digits, '.', '_' or '-' and begins with a letter"
            " or digit.",
            field=field,
        )
    return name


def check_subject(subject: str, field: str = "subject") -> str:
    """Check for 1 to 255 characters (OpenID Connect Core, 2), no control ones. BAD_SUBJECT."""
    if not 0 < len(subject) <= _MAX_SUBJECT_CHARACTERS or _has_forbidden_character(subject):
        raise InvalidArgument(
            "BAD_SUBJECT",
            f"A subject has 1 to {_MAX_SUBJECT_CHARACTERS} characters and no control characters.",
            field=field,
        )
    return subject


def normalize_path(path: str, field: str = "path") -> str:
    """Return the path in NFC: relative, `/` between segments, at most 1,024 bytes. BAD_PATH."""
    text = _normalized_text(path, field)
    if not text:
        raise _bad_path("The path is empty; name the node.", field)
    for segment in text.split("/"):
        if segment == "":
            raise _bad_path(
                "A path has no empty segment: remove leading, trailing and doubled '/'.", field
            )
        if segment in (".", ".."):
            raise _bad_path("A path has no '.' or '..' segment: send it resolved.", field)
    return text


def check_path_prefix(prefix: str, field: str = "path_prefix") -> str:
    """Return the prefix in NFC; unlike a path it may be empty or end anywhere. BAD_PATH."""
    return _normalized_text(prefix, field)


def check_metadata(metadata: Mapping[str, str], field: str = "metadata") -> dict[str, str]:
    """Check for at most 64 entries and 8 KiB of UTF-8, no control characters, no empty key.

    Reasons: TOO_MANY_METADATA_ENTRIES, METADATA_TOO_LARGE, BAD_METADATA.
    """
    check_metadata_count(metadata, field)
    # Count characters first, which is cheap: UTF-8 never has fewer bytes than characters.
    if sum(len(key) + len(value) for key, value in metadata.items()) > MAX_METADATA_BYTES:
        raise _metadata_too_large(field)
    for key, value in metadata.items():
        if not key:
            raise InvalidArgument("BAD_METADATA", "A metadata key is empty.", field=field)
        if _has_forbidden_character(key) or _has_forbidden_character(value):
            raise InvalidArgument(
                "BAD_METADATA",
                "Metadata holds no control characters or unpaired surrogates.",
                field=field,
            )
    size = sum(len(key.encode()) + len(value.encode()) for key, value in metadata.items())
    if size > MAX_METADATA_BYTES:
        raise _metadata_too_large(field)
    return dict(metadata)


def check_metadata_count(metadata: Sized, field: str = "metadata") -> None:
    """Check for at most 64 entries, before they are copied. TOO_MANY_METADATA_ENTRIES."""
    if len(metadata) > MAX_METADATA_ENTRIES:
        raise InvalidArgument(
            "TOO_MANY_METADATA_ENTRIES",
            f"At most {MAX_METADATA_ENTRIES} metadata entries are kept; send fewer.",
            field=field,
        )


def check_content_type(content_type: str, field: str = "content_type") -> str:
    """Check for a MIME type in the form of RFC 9110, or an empty string. BAD_CONTENT_TYPE."""
    if content_type == "":
        return content_type
    if len(content_type) > _MAX_CONTENT_TYPE_CHARACTERS or not _CONTENT_TYPE.fullmatch(
        content_type
    ):
        raise InvalidArgument(
            "BAD_CONTENT_TYPE",
            "The content type is invalid; send one like 'image/jpeg', of at most 255 characters.",
            field=field,
        )
    return content_type


def check_upload_id(upload_id: str, field: str = "upload_id") -> str:
    """Check the form of an upload id, not whether it exists. BAD_UPLOAD_ID."""
    return _check_identifier(upload_id, field, "BAD_UPLOAD_ID", "an upload")


def check_node_id(node_id: str, field: str = "node_id") -> str:
    """Check the form of a node id. BAD_NODE_ID."""
    return _check_identifier(node_id, field, "BAD_NODE_ID", "a node")


def check_request_id(request_id: str, field: str = "request_id") -> str:
    """Check for at most 128 printable ASCII characters; empty means none. BAD_REQUEST_ID."""
    if not _REQUEST_ID.fullmatch(request_id):
        raise InvalidArgument(
            "BAD_REQUEST_ID",
            "A request id has at most 128 printable ASCII characters; send a UUID, for example.",
            field=field,
        )
    return request_id


def check_chunk_number(number: int, field: str = "number") -> int:
    """Check for 0 to 999,999 (rule 3). BAD_CHUNK_NUMBER."""
    if not 0 <= number < MAX_CHUNKS:
        raise InvalidArgument(
            "BAD_CHUNK_NUMBER",
            f"Chunks are numbered from 0 to {MAX_CHUNKS - 1}; send larger chunks.",
            field=field,
        )
    return number


def check_sha256(sha256: bytes, field: str = "sha256") -> bytes:
    """Check for 32 raw bytes. BAD_SHA256."""
    if len(sha256) != SHA256_BYTES:
        raise InvalidArgument(
            "BAD_SHA256", "A SHA-256 is 32 raw bytes, neither hexadecimal nor Base64.", field=field
        )
    return sha256


def _normalized_text(text: str, field: str) -> str:
    if len(text) > _MAX_UNNORMALIZED_CHARACTERS:
        raise _path_too_long(field)
    # Before NFC: unpaired surrogates have no normal form.
    if _has_forbidden_character(text):
        raise _bad_path("A path has no control characters or unpaired surrogates.", field)
    normalized = unicodedata.normalize("NFC", text)
    if len(normalized.encode()) > MAX_PATH_BYTES:
        raise _path_too_long(field)
    return normalized


def _has_forbidden_character(text: str) -> bool:
    if text.isascii() and text.isprintable():
        return False
    return any(unicodedata.category(character) in _FORBIDDEN_CATEGORIES for character in text)


def _check_identifier(value: str, field: str, reason: str, kind: str) -> str:
    if not _IDENTIFIER.fullmatch(value):
        raise InvalidArgument(
            reason,
            f"This cannot be the id of {kind}: send the one that the server gave.",
            field=field,
        )
    return value


def _bad_path(message: str, field: str) -> InvalidArgument:
    return InvalidArgument("BAD_PATH", message, field=field)


def _path_too_long(field: str) -> InvalidArgument:
    return _bad_path(f"A path has at most {MAX_PATH_BYTES} bytes of UTF-8 in NFC.", field)


def _metadata_too_large(field: str) -> InvalidArgument:
    return InvalidArgument(
        "METADATA_TOO_LARGE",
        f"Metadata has at most {MAX_METADATA_BYTES} bytes of UTF-8, keys and values together.",
        field=field,
    )
