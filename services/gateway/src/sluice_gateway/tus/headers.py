"""Headers of tus requests. Pure."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from sluice_gateway.tus import refusals

VERSION: Final = "1.0.0"
EXTENSIONS: Final = "creation,creation-with-upload,checksum,expiration,termination,concatenation"
BODY_TYPE: Final = "application/offset+octet-stream"
PREFIX: Final = "/files"
MAX_PARTIALS: Final = 100
"""Their paths are kept with the final upload, whose metadata has 8 KiB."""

_HASHES: Final[Mapping[str, Callable[[], Any]]] = MappingProxyType(
    {
        "sha1": lambda: hashlib.sha1(usedforsecurity=False),
        "sha256": hashlib.sha256,
        "md5": lambda: hashlib.md5(usedforsecurity=False),
    }
)
ALGORITHMS: Final = ",".join(_HASHES)

_NUMBER: Final = re.compile(r"[0-9]{1,19}")
_KEY: Final = re.compile(r"[!-+\--~]+")
"""Printable ASCII without spaces and commas."""
_UPLOAD_PATH: Final = re.compile(rf"{PREFIX}/([A-Za-z0-9_-]{{1,128}})")


@dataclass(frozen=True, slots=True)
class Checksum:
    """`Upload-Checksum`: what the body must hash to."""

    new_hash: Callable[[], Any]
    digest: bytes


@dataclass(frozen=True, slots=True)
class Concat:
    """`Upload-Concat`. `parts`: upload ids of a final upload, in order; empty for a partial one."""

    parts: tuple[str, ...] = ()

    @property
    def is_final(self) -> bool:
        return bool(self.parts)

    def __str__(self) -> str:
        if not self.parts:
            return "partial"
        return "final;" + " ".join(f"{PREFIX}/{part}" for part in self.parts)


def check_version(headers: Headers) -> None:
    """Raise `FailedPrecondition` TUS_VERSION_UNSUPPORTED unless the client speaks this version."""
    if headers.getlist("tus-resumable") != [VERSION]:
        raise refusals.version_unsupported(VERSION)


def upload_offset(headers: Headers) -> int:
    """Return `Upload-Offset`. Raise `InvalidArgument` BAD_TUS_HEADER."""
    offset = _number(headers, "Upload-Offset")
    if offset is None:
        raise refusals.bad_header("Upload-Offset", "send the offset of the body in bytes")
    return offset


def upload_length(headers: Headers) -> int:
    """Return `Upload-Length`.

    Raise `InvalidArgument` BAD_TUS_HEADER, `Unimplemented` DEFERRED_LENGTH_UNSUPPORTED.
    """
    length = _number(headers, "Upload-Length")
    if length is None:
        if "upload-defer-length" in headers:
            raise refusals.length_cannot_be_deferred()
        raise refusals.bad_header("Upload-Length", "send the size of the upload in bytes")
    return length


def content_length(headers: Headers) -> int | None:
    """Return `Content-Length`, None for a body of unknown length; 0 without a body."""
    if "transfer-encoding" in headers:
        return None
    return _number(headers, "Content-Length") or 0


def check_body_type(headers: Headers) -> None:
    """Raise `InvalidArgument` UNSUPPORTED_MEDIA_TYPE unless the body is a part of an upload."""
    if headers.getlist("content-type") != [BODY_TYPE]:
        raise refusals.content_type_unsupported()
    if any(each.lower() != "identity" for each in headers.getlist("content-encoding")):
        raise refusals.content_type_unsupported()


def upload_checksum(headers: Headers) -> Checksum | None:
    """Return `Upload-Checksum`, None without one.

    Raise `InvalidArgument` BAD_TUS_HEADER, CHECKSUM_ALGORITHM_UNSUPPORTED.
    """
    text = _single(headers, "Upload-Checksum")
    if text is None:
        return None
    algorithm, _, encoded = text.partition(" ")
    if algorithm not in _HASHES:
        raise refusals.checksum_unsupported(ALGORITHMS)
    new_hash = _HASHES[algorithm]
    digest = _decode(encoded)
    if digest is None or len(digest) != new_hash().digest_size:
        raise refusals.bad_header("Upload-Checksum", "send the algorithm and the hash in Base64")
    return Checksum(new_hash, digest)


def upload_concat(headers: Headers) -> Concat | None:
    """Return `Upload-Concat`, None without one. Raise `InvalidArgument` BAD_TUS_HEADER."""
    text = _single(headers, "Upload-Concat")
    if text is None or text == "partial":
        return None if text is None else Concat()
    kind, _, urls = text.partition(";")
    # Of absolute URLs the path counts: a proxy may give this server other names.
    found = [_UPLOAD_PATH.fullmatch(_path_of(url)) for url in urls.split()]
    parts = tuple(match[1] for match in found if match is not None)
    if kind != "final" or not parts or len(parts) != len(found) or len(parts) > MAX_PARTIALS:
        raise refusals.bad_header(
            "Upload-Concat", f"send partial, or final; and the URLs of 1 to {MAX_PARTIALS} uploads"
        )
    return Concat(parts)


def upload_metadata(headers: Headers) -> dict[str, str]:
    """Return `Upload-Metadata`: unique keys, values in Base64 of UTF-8.

    Raise `InvalidArgument` BAD_TUS_HEADER.
    """
    text = _single(headers, "Upload-Metadata") or ""
    found: dict[str, str] = {}
    for pair in text.split(",") if text.strip() else ():
        key, _, encoded = pair.strip().partition(" ")
        value = _decode(encoded)
        if _KEY.fullmatch(key) is None or value is None or key in found:
            raise _bad_metadata()
        try:
            found[key] = value.decode("utf-8")
        except UnicodeDecodeError:
            raise _bad_metadata() from None
    return found


def encode_metadata(metadata: Mapping[str, str]) -> str:
    """Return `Upload-Metadata`, in the order of the keys."""
    pairs = (
        (key, base64.b64encode(value.encode("utf-8")).decode("ascii"))
        for key, value in sorted(metadata.items())
    )
    return ",".join(f"{key} {value}" if value else key for key, value in pairs)


def creation_headers(length: int, metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of a POST that creates an upload."""
    return {
        "tus-resumable": VERSION,
        "upload-length": str(length),
        "upload-metadata": encode_metadata(metadata),
    }


def _bad_metadata() -> Exception:
    return refusals.bad_header(
        "Upload-Metadata", "send pairs of a key and a value in Base64 of UTF-8, with commas between"
    )


def _single(headers: Headers, name: str) -> str | None:
    values = headers.getlist(name)
    if len(values) > 1:
        raise refusals.bad_header(name, "send it once")
    return values[0] if values else None


def _number(headers: Headers, name: str) -> int | None:
    text = _single(headers, name)
    if text is None:
        return None
    if _NUMBER.fullmatch(text) is None:
        raise refusals.bad_header(name, "send a number of bytes")
    return int(text)


def _decode(encoded: str) -> bytes | None:
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return None


def _path_of(url: str) -> str:
    try:
        return urlsplit(url).path
    except ValueError:
        return ""
