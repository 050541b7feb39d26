"""Signed URLs of a store in files: HMAC-SHA256 over everything that a request may do."""

from __future__ import annotations

import hmac
import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias
from urllib.parse import parse_qsl, quote, urlencode

from sluice_core.errors import InvalidArgument, PermissionDenied
from sluice_core.objects.keys import check_key
from sluice_core.objects.parts import check_part_number
from sluice_core.objects.presigning import check_signed_attributes
from sluice_core.ports.object_store import ObjectAttributes, PresignedPut
from sluice_core.uploads.model import ObjectRef

MAX_LIFETIME_SECONDS: Final = 7 * 24 * 3600
"""Longest life of a URL: that of SigV4, and the time for which a replaced key is kept."""

_MAX_QUERY_BYTES: Final = 8 * 1024
_MAX_PARAMETERS: Final = 100
_VERSION: Final = "sluice-url-1"
"""First part of the signed text: a later format cannot be taken for this one."""
_METADATA_PREFIX: Final = "x-amz-meta-"


@dataclass(frozen=True, slots=True)
class UrlKey:
    """Secret key, and the id under which URLs name it."""

    key_id: str
    secret: bytes = field(repr=False)


class UrlKeys(Protocol):
    """Keys of URLs. The newest one signs; a replaced one verifies until its last URL expires."""

    async def signing_key(self) -> UrlKey:
        """Return the key for new URLs."""
        ...

    def find(self, key_id: str) -> UrlKey | None:
        """Return the key of this id; None if it is unknown or retired."""
        ...


@dataclass(frozen=True, slots=True)
class PutGrant:
    """Permission to put an object of exactly this size with these attributes."""

    ref: ObjectRef
    size: int
    attributes: ObjectAttributes
    crc32c: int | None = None


@dataclass(frozen=True, slots=True)
class PartGrant:
    """Permission to put one part of exactly this size."""

    ref: ObjectRef
    size: int
    multipart_id: str
    number: int
    crc32c: int | None = None


@dataclass(frozen=True, slots=True)
class GetGrant:
    """Permission to read an object, which the client saves under this name."""

    ref: ObjectRef
    filename: str


Grant: TypeAlias = PutGrant | PartGrant | GetGrant


class SignedUrls:
    """Signs URLs and verifies them.

    A URL carries all of its grant, so that a request need send no header of ours:

        {base_url}/{bucket}/{key}?op=put&expires=…&length=…&type=…&kid=…&signature=…

    The signature covers bucket, key and all parameters as decoded, in a form without ambiguity;
    a proxy that escapes more or fewer characters does not break it.

    Args:
        base_url: address of the listener's `/objects`, as clients reach it.
        clock: Unix seconds.
    """

    def __init__(
        self, keys: UrlKeys, base_url: str, clock: Callable[[], float] = time.time
    ) -> None:
        self._keys = keys
        self._base_url = base_url.rstrip("/")
        self._clock = clock

    async def put(
        self,
        ref: ObjectRef,
        lifetime_seconds: int,
        size: int,
        attributes: ObjectAttributes,
        crc32c: int | None = None,
    ) -> PresignedPut:
        """Return a request for one object. Raise the errors of `ObjectStore.presign_put`."""
        check_signed_attributes(attributes.content_type, attributes.metadata)
        url = await self._sign(PutGrant(ref, size, attributes, crc32c), lifetime_seconds)
        return PresignedPut(url, {"content-type": attributes.content_type})

    async def part(
        self,
        ref: ObjectRef,
        multipart_id: str,
        number: int,
        lifetime_seconds: int,
        size: int,
        crc32c: int | None = None,
    ) -> PresignedPut:
        """Return a request for one part. Raise the errors of `ObjectStore.presign_part`."""
        check_part_number(number)
        grant = PartGrant(ref, size, multipart_id, number, crc32c)
        return PresignedPut(await self._sign(grant, lifetime_seconds), {})

    async def get(self, ref: ObjectRef, lifetime_seconds: int, filename: str) -> str:
        """Return the URL of a download."""
        return await self._sign(GetGrant(ref, filename), lifetime_seconds)

    def verify(self, ref: ObjectRef, query: str) -> Grant:
        """Return what a URL allows.

        Args:
            ref: bucket and key of the URL's path, decoded.
            query: its query, as received.

        Raise `PermissionDenied` URL_SIGNATURE_INVALID for every URL that no key of ours signed
        exactly like this, URL_EXPIRED.
        """
        parameters = _parse(query)
        signature = parameters.pop("signature", "")
        key = self._keys.find(parameters.get("kid", ""))
        if key is None:
            raise _invalid_signature()
        # Compared as bytes: `compare_digest` takes no other characters than ASCII in strings.
        if not hmac.compare_digest(_signature(key, ref, parameters).encode(), signature.encode()):
            raise _invalid_signature()
        try:
            is_expired = self._clock() >= int(parameters["expires"])
            grant = _to_grant(ref, parameters)
        except (KeyError, ValueError):  # signed by another release
            raise _invalid_signature() from None
        if is_expired:
            raise PermissionDenied("URL_EXPIRED", "The URL has expired; ask for a new one.")
        return grant

    async def _sign(self, grant: Grant, lifetime_seconds: int) -> str:
        check_key(grant.ref.key)
        if not 1 <= lifetime_seconds <= MAX_LIFETIME_SECONDS:
            raise InvalidArgument(
                "BAD_LIFETIME",
                f"A signed URL lives 1 to {MAX_LIFETIME_SECONDS} seconds; change lifetime.",
                field="lifetime",
            )
        key = await self._keys.signing_key()
        parameters = {
            **_to_parameters(grant),
            "expires": str(int(self._clock()) + lifetime_seconds),
            "kid": key.key_id,
        }
        signature = _signature(key, grant.ref, parameters)
        query = urlencode({**parameters, "signature": signature}, quote_via=quote, safe="")
        path = f"{quote(grant.ref.bucket, safe='')}/{quote(grant.ref.key, safe='/')}"
        return f"{self._base_url}/{path}?{query}"


def _signature(key: UrlKey, ref: ObjectRef, parameters: Mapping[str, str]) -> str:
    # JSON delimits its strings, so that no two different requests have the same text.
    signed = json.dumps([_VERSION, ref.bucket, ref.key, sorted(parameters.items())])
    return hmac.digest(key.secret, signed.encode(), "sha256").hex()


def _parse(query: str) -> dict[str, str]:
    """Return the parameters. A repeated one is refused: which of them counts is ambiguous."""
    try:
        if len(query) > _MAX_QUERY_BYTES:
            raise _invalid_signature()
        pairs = parse_qsl(
            query,
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=_MAX_PARAMETERS,
        )
    except ValueError:
        raise _invalid_signature() from None
    parameters = dict(pairs)
    if len(parameters) != len(pairs):
        raise _invalid_signature()
    return parameters


def _to_parameters(grant: Grant) -> dict[str, str]:
    match grant:
        case GetGrant():
            return {"op": "get", "filename": grant.filename}
        case PartGrant():
            parameters = {
                "op": "part",
                "uploadId": grant.multipart_id,
                "partNumber": str(grant.number),
            }
        case PutGrant():
            attributes = grant.attributes
            parameters = {
                "op": "put",
                "type": attributes.content_type,
                "storageClass": attributes.storage_class,
                "encryption": attributes.encryption,
                **{f"{_METADATA_PREFIX}{name}": v for name, v in attributes.metadata.items()},
            }
    checksum = "" if grant.crc32c is None else f"{grant.crc32c:08x}"
    parameters |= {"length": str(grant.size), "crc32c": checksum}
    optional = ("storageClass", "encryption", "crc32c")
    return {name: value for name, value in parameters.items() if value or name not in optional}


def _to_grant(ref: ObjectRef, parameters: Mapping[str, str]) -> Grant:
    """Return the inverse of `_to_parameters`; raise `KeyError`, `ValueError` for others."""
    checksum = parameters.get("crc32c")
    crc32c = None if checksum is None else int(checksum, 16)
    match parameters["op"]:
        case "get":
            return GetGrant(ref, parameters.get("filename", ""))
        case "part":
            number = int(parameters["partNumber"])
            return PartGrant(ref, int(parameters["length"]), parameters["uploadId"], number, crc32c)
        case "put":
            attributes = ObjectAttributes(
                parameters["type"],
                parameters.get("storageClass", ""),
                parameters.get("encryption", ""),
                {
                    name.removeprefix(_METADATA_PREFIX): value
                    for name, value in parameters.items()
                    if name.startswith(_METADATA_PREFIX)
                },
            )
            return PutGrant(ref, int(parameters["length"]), attributes, crc32c)
    raise ValueError(parameters["op"])


def _invalid_signature() -> PermissionDenied:
    return PermissionDenied(
        "URL_SIGNATURE_INVALID",
        "The URL was changed, or was not issued by this server; use it exactly as issued, or ask "
        "for a new one.",
    )
