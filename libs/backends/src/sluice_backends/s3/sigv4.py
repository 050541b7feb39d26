"""Presigned URLs of AWS Signature Version 4 for S3, signed without any request. Pure.

Source: "Authenticating Requests: Using Query Parameters" of the S3 API reference.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote

_ALGORITHM: Final = "AWS4-HMAC-SHA256"
_SERVICE: Final = "s3"
_TERMINATION: Final = "aws4_request"
_UNSIGNED_PAYLOAD: Final = "UNSIGNED-PAYLOAD"
"""S3 alone takes this word instead of the payload's SHA-256, which a signer cannot know."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """Keys of an account. Temporary ones come with a session token."""

    access_key: str
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Target:
    """Address of an object.

    Args:
        origin: `scheme://host[:port]` as it appears in the URL.
        host: value of the Host header, which clients send without the scheme's default port.
        path: percent-encoded path.
    """

    origin: str
    host: str
    path: str


class UrlSigner:
    """Signer of URLs in one region. The signing key of the day is kept: 4 of 5 HMACs are its."""

    def __init__(self, region: str) -> None:
        self._region = region
        self._day: tuple[str, str] = ("", "")
        """Secret key and date (YYYYMMDD) of the signing key."""
        self._signing_key = b""

    def sign(
        self,
        method: str,
        target: Target,
        credentials: Credentials,
        *,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        lifetime_seconds: int,
        now: float,
    ) -> str:
        """Return the URL.

        Args:
            query: parameters of the operation, not yet encoded; none begins with `X-Amz-`.
            headers: headers besides Host that the request has to send with exactly these values.
                Names in lower case. Runs of spaces in a value count as one (Trimall).
            now: Unix seconds. S3 allows clocks that differ by up to 15 minutes.
        """
        signed_at = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
        scope = f"{signed_at[:8]}/{self._region}/{_SERVICE}/{_TERMINATION}"
        all_headers = sorted([("host", target.host), *headers.items()])
        signed_headers = ";".join([name for name, _ in all_headers])
        parameters = {
            **query,
            "X-Amz-Algorithm": _ALGORITHM,
            "X-Amz-Credential": f"{credentials.access_key}/{scope}",
            "X-Amz-Date": signed_at,
            "X-Amz-Expires": str(lifetime_seconds),
            "X-Amz-SignedHeaders": signed_headers,
        }
        if credentials.session_token is not None:
            parameters["X-Amz-Security-Token"] = credentials.session_token
        # Sorted as encoded. The pieces are no key=value strings: "a=" sorts after "a-".
        encoded = sorted([(percent_encode(k), percent_encode(v)) for k, v in parameters.items()])
        canonical_query = "&".join([f"{name}={value}" for name, value in encoded])
        canonical_headers = "".join([f"{name}:{' '.join(v.split())}\n" for name, v in all_headers])
        canonical_request = (
            f"{method}\n{target.path}\n{canonical_query}\n{canonical_headers}\n{signed_headers}\n"
            f"{_UNSIGNED_PAYLOAD}"
        )
        digest = hashlib.sha256(canonical_request.encode()).hexdigest()
        signature = hmac.digest(
            self._key(credentials.secret_key, signed_at[:8]),
            f"{_ALGORITHM}\n{signed_at}\n{scope}\n{digest}".encode(),
            "sha256",
        ).hex()
        return f"{target.origin}{target.path}?{canonical_query}&X-Amz-Signature={signature}"

    def _key(self, secret_key: str, date: str) -> bytes:
        if self._day != (secret_key, date):
            key = b"AWS4" + secret_key.encode()
            for part in (date, self._region, _SERVICE, _TERMINATION):
                key = hmac.digest(key, part.encode(), "sha256")
            self._day, self._signing_key = (secret_key, date), key
        return self._signing_key


def percent_encode(text: str) -> str:
    """Return the UTF-8 of a text with every byte escaped but `A-Z a-z 0-9 - . _ ~` (RFC 3986)."""
    return quote(text, safe="")
