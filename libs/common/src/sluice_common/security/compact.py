"""Signed tokens in compact form (RFC 7515, 7.1): split and decoded, nothing trusted yet."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sluice_common.security.refusals import Check, TokenRefused

_COMPACT: Final = re.compile(rb"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]*)")
_TYPES: Final = frozenset({"jwt", "at+jwt", "application/jwt", "application/at+jwt"})
"""Types of an access token (RFC 9068, 2.1): others, such as logout+jwt, are not for us."""
_MAX_KEY_ID_CHARS: Final = 256


class MalformedJson(ValueError):
    """Bytes that are not one JSON object."""


@dataclass(frozen=True, slots=True)
class CompactToken:
    """A token whose signature is not verified yet. `payload` is still encoded."""

    algorithm: str
    key_id: str | None
    signed: bytes
    payload: bytes
    signature: bytes

    def claims(self) -> Mapping[str, Any]:
        """Return the claims; call this only after the signature was verified."""
        return _object_of(self.payload)


def parse_compact(token: bytes) -> CompactToken:
    """Split a token and read its header.

    The keys that a header carries or refers to (`jwk`, `jku`, `x5c`, `x5u`) are ignored: whoever
    makes a token can put any there. Extensions that must be understood (`crit`, RFC 7515, 4.1.11)
    are refused, because none is.

    Raise `TokenRefused` for a token that is malformed, or of another type.
    """
    parts = _COMPACT.fullmatch(token)
    if parts is None:
        raise TokenRefused(Check.FORM)
    header = _object_of(parts[1])
    algorithm, key_id, kind = header.get("alg"), header.get("kid"), header.get("typ", "JWT")
    if not isinstance(algorithm, str) or "crit" in header or "b64" in header:
        raise TokenRefused(Check.FORM)
    if key_id is not None and not (isinstance(key_id, str) and len(key_id) <= _MAX_KEY_ID_CHARS):
        raise TokenRefused(Check.FORM)
    if not isinstance(kind, str) or kind.lower() not in _TYPES:
        raise TokenRefused(Check.TYPE)
    signed = token[: parts.end(2)]
    return CompactToken(algorithm, key_id, signed, parts[2], _decoded(parts[3]))


def parse_json_object(text: bytes) -> dict[str, Any]:
    """Return the JSON object of a text. Raise `MalformedJson` for anything else."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):  # ValueError: also invalid UTF-8 and endless numbers
        raise MalformedJson("not valid JSON") from None
    if not isinstance(value, dict):
        raise MalformedJson("not a JSON object")
    return value


def _object_of(segment: bytes) -> dict[str, Any]:
    try:
        return parse_json_object(_decoded(segment))
    except MalformedJson:
        raise TokenRefused(Check.FORM) from None


def _decoded(segment: bytes) -> bytes:
    # The alphabet was checked before; a length of 4n + 1 is the only error left.
    try:
        return base64.urlsafe_b64decode(segment + b"=" * (-len(segment) % 4))
    except ValueError:
        raise TokenRefused(Check.FORM) from None
