"""Keys of an OpenID Connect provider, found by discovery (OpenID Connect Discovery 1.0)."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

import aiohttp

from sluice_common.security.compact import MalformedJson, parse_json_object
from sluice_common.security.keys.files import MAX_KEY_BYTES
from sluice_common.security.keys.key_ring import UnusableKeys, key_set
from sluice_common.security.keys.refreshing import LoadedKeys
from sluice_core.addresses import Address

_DISCOVERY_PATH: Final = "/.well-known/openid-configuration"
_REQUEST_SECONDS: Final = 7.0
_DEFAULT_FRESH_SECONDS: Final = 3600.0
_MIN_FRESH_SECONDS, _MAX_FRESH_SECONDS = 60.0, 3600.0
"""Bounds of what a provider asks for: a withdrawn key is refused after an hour at the latest."""
_REFRESH_SHARE: Final = 0.8
"""Share of their lifetime after which keys are refreshed, so that they do not expire first."""
_MAX_AGE: Final = re.compile(r"(?:^|[,\s])max-age=(\d{1,9})(?:$|[,\s])", re.IGNORECASE)


class ForeignIssuer(UnusableKeys):
    """The document of discovery is another issuer's: a wrong setting, not an outage."""


class IssuerKeys:
    """Loader of the keys of a provider. Create it with `open_issuer`.

    Args:
        issuer: its identifier, exactly as in its tokens.
        allow_insecure: also use plain HTTP beyond loopback.
    """

    retry_seconds = 30.0
    unknown_key_seconds = 30.0

    def __init__(
        self, issuer: str, session: aiohttp.ClientSession, *, allow_insecure: bool = False
    ) -> None:
        self._issuer = issuer
        self._session = session
        self._allow_insecure = allow_insecure

    async def load(self) -> LoadedKeys:
        """Return the provider's keys. Raise `UnusableKeys`."""
        document, _ = await self._get(self._issuer.rstrip("/") + _DISCOVERY_PATH)
        try:
            found = parse_json_object(document)
        except MalformedJson as error:
            raise UnusableKeys(f"the issuer's discovery document is {error}") from None
        if found.get("issuer") != self._issuer:
            raise ForeignIssuer(
                "the discovery document names another issuer; set the value that it names, "
                "including a final slash"
            )
        address = found.get("jwks_uri")
        if not isinstance(address, str):
            raise UnusableKeys("the issuer's discovery document lacks jwks_uri")
        content, lifetime = await self._get(address)
        # A thread: importing many keys takes milliseconds.
        keys = await asyncio.to_thread(key_set, content)
        return LoadedKeys(keys, lifetime * _REFRESH_SHARE)

    async def _get(self, address: str) -> tuple[bytes, float]:
        """Return a document and its lifetime in seconds."""
        if not self._allow_insecure and not is_secure_url(address):
            raise UnusableKeys("the issuer's keys need an https:// address")
        try:
            # No redirects: the address of the keys is what the issuer states.
            async with self._session.get(address, allow_redirects=False) as answer:
                if answer.status != 200:
                    raise UnusableKeys(f"the issuer answers with status {answer.status}")
                content = b""
                async for piece in answer.content.iter_chunked(64 * 1024):
                    content += piece
                    if len(content) > MAX_KEY_BYTES:
                        raise UnusableKeys(
                            f"the issuer's answer is larger than {MAX_KEY_BYTES} bytes"
                        )
                return content, _lifetime_seconds(answer.headers.get("cache-control", ""))
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            if isinstance(error, UnusableKeys):
                raise
            # Only the kind: the text may hold an address with a password.
            raise UnusableKeys(f"the issuer does not answer ({type(error).__name__})") from None


@asynccontextmanager
async def open_issuer(issuer: str, *, allow_insecure: bool = False) -> AsyncIterator[IssuerKeys]:
    """Open a loader; close its connections at the end of the block."""
    limit = aiohttp.ClientTimeout(total=_REQUEST_SECONDS)
    # The server's certificate is checked against the system's CAs, or those of SSL_CERT_FILE.
    async with aiohttp.ClientSession(
        timeout=limit, headers={"accept": "application/json", "accept-encoding": "identity"}
    ) as session:
        yield IssuerKeys(issuer, session, allow_insecure=allow_insecure)


def is_secure_url(address: str) -> bool:
    """Return whether an address is HTTPS, or HTTP on loopback."""
    try:
        parts = urlsplit(address)
        host = parts.hostname or ""
    except ValueError:
        return False
    if parts.scheme == "https":
        return bool(host)
    return parts.scheme == "http" and Address(host, 0).is_loopback


def _lifetime_seconds(cache_control: str) -> float:
    found = _MAX_AGE.search(cache_control)
    seconds = float(found[1]) if found else _DEFAULT_FRESH_SECONDS
    return min(max(seconds, _MIN_FRESH_SECONDS), _MAX_FRESH_SECONDS)
