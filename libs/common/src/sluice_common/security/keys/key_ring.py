"""Keys that verify tokens, each with the algorithms that its type allows."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from joserfc.errors import JoseError
from joserfc.jwk import Key, OctKey, import_key
from joserfc.jws import JWSRegistry

from sluice_common.security.compact import CompactToken, MalformedJson, parse_json_object
from sluice_common.security.refusals import Check, TokenRefused
from sluice_common.settings.secret_strength import key_weakness

MIN_SECRET_BYTES: Final = 32
"""HS256 needs a key as long as its hash (RFC 7518, 3.2)."""
MAX_KEYS: Final = 32
MAX_TRIES: Final = 2
"""Verifications that a token without a key id may cost: the old and the new key of a rotation.

A slow one takes half a millisecond of the event loop, and anybody can send bad tokens. A provider
with more keys has to name the one in use (OpenID Connect Core, 10.1).
"""

_RSA_ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
_CURVE_ALGORITHMS: Final[Mapping[str, tuple[str, ...]]] = {
    "P-256": ("ES256",),
    "P-384": ("ES384",),
    "P-521": ("ES512",),
    "Ed25519": ("EdDSA", "Ed25519"),
}
_PUBLIC_MEMBERS: Final = ("kty", "n", "e", "crv", "x", "y")
_MIN_RSA_BITS, _MAX_RSA_BITS = 2048, 8192


class UnusableKeys(ValueError):
    """A source holds no usable keys. The text says why, without any key material."""


class _Algorithm(Protocol):
    def verify(self, msg: bytes, sig: bytes, key: Any) -> bool: ...


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A key, and its algorithms by name: those of its type, never one that a token asks for."""

    key_id: str | None
    thumbprint: str
    key: Key
    algorithms: Mapping[str, _Algorithm]


class KeyRing:
    """The keys of one source at one time; immutable."""

    def __init__(self, keys: Iterable[VerificationKey]) -> None:
        self._keys = tuple(keys)
        self._thumbprints = frozenset(key.thumbprint for key in self._keys)
        self._key_ids = frozenset(key.key_id for key in self._keys if key.key_id is not None)

    def __len__(self) -> int:
        return len(self._keys)

    def only_key(self) -> Key:
        """Return the key of a ring with one, such as that of a secret."""
        (key,) = self._keys
        return key.key

    def holds(self, thumbprint: str) -> bool:
        """Return whether this key is (still) one of them."""
        return thumbprint in self._thumbprints

    def knows(self, key_id: str | None) -> bool:
        """Return whether a key has exactly this id."""
        return key_id in self._key_ids

    def verify(self, token: CompactToken) -> VerificationKey | None:
        """Return the key that signed the token; None if none of them did.

        A key without an id may have signed any token, and a token without an id may be signed by
        any key, of which the first `MAX_TRIES` are tried. The id only selects among our keys: it
        never becomes part of a path or a query.

        Raise `TokenRefused` when no key in question has the algorithm.
        """
        known = self.knows(token.key_id)
        in_question = [
            key
            for key in self._keys
            if token.key_id is None or key.key_id == token.key_id or (not known and not key.key_id)
        ]
        able = [key for key in in_question if token.algorithm in key.algorithms]
        if in_question and not able:
            raise TokenRefused(Check.ALGORITHM)
        for key in able[:MAX_TRIES]:
            if key.algorithms[token.algorithm].verify(token.signed, token.signature, key.key):
                return key
        return None


def secret_key(content: bytes, *, require_strong: bool = False) -> KeyRing:
    """Return the HS256 key of a secret file; a final line break is not part of the secret.

    Args:
        require_strong: refuse a secret that is easy to guess, whatever its length.

    Raise `UnusableKeys` for a secret that is too short or weak, or holds public keys.
    """
    secret = content.removesuffix(b"\n").removesuffix(b"\r")
    if len(secret) < MIN_SECRET_BYTES:
        raise UnusableKeys(f"a secret needs at least {MIN_SECRET_BYTES} bytes")
    try:
        key = OctKey.import_key(secret)
    except (JoseError, ValueError):
        raise UnusableKeys("it holds a public key; use SLUICE_AUTH__JWKS_FILE for it") from None
    if _is_json_web_key(secret):
        raise UnusableKeys("it holds a JSON Web Key Set; use SLUICE_AUTH__JWKS_FILE for it")
    if require_strong and (why := key_weakness(secret)):
        raise UnusableKeys(f"the secret {why}; use a random one: openssl rand -base64 32")
    thumbprint = hashlib.sha256(secret).hexdigest()
    return KeyRing([VerificationKey(None, thumbprint, key, _algorithms("HS256"))])


def key_set(content: bytes) -> KeyRing:
    """Return the signature keys of a JSON Web Key Set (RFC 7517, 5).

    Keys for other purposes, of unknown types and symmetric ones are skipped: a secret in a
    published document is none. Of a private key only the public half is used.

    Raise `UnusableKeys` when none is left.
    """
    try:
        entries = parse_json_object(content).get("keys")
    except MalformedJson as error:
        raise UnusableKeys(f"it is {error}") from None
    if not isinstance(entries, list):
        raise UnusableKeys('it is no JSON Web Key Set: the member "keys" is missing')
    keys = [key for entry in entries if (key := _public_key(entry)) is not None]
    if not keys:
        raise UnusableKeys(f"none of its {len(entries)} keys can verify signatures")
    if len(keys) > MAX_KEYS:
        raise UnusableKeys(f"it holds more than {MAX_KEYS} keys for signatures")
    return KeyRing(keys)


def _is_json_web_key(secret: bytes) -> bool:
    """Return whether a secret is a published document (RFC 7517, 4 and 5)."""
    try:
        return not {"keys", "kty"}.isdisjoint(parse_json_object(secret))
    except MalformedJson:
        return False


def _public_key(entry: object) -> VerificationKey | None:
    """Return the key of one entry; None if it cannot verify signatures."""
    if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
        return None
    operations, key_id = entry.get("key_ops", ["verify"]), entry.get("kid")
    # A private key may be listed with "sign" only.
    if not isinstance(operations, list) or not {"verify", "sign"} & {*map(str, operations)}:
        return None
    if key_id is not None and not isinstance(key_id, str):
        return None
    names = _allowed_algorithms(entry)
    if "alg" in entry:
        names = tuple(name for name in names if name == entry["alg"])
    if not names:
        return None
    try:
        key = import_key({name: entry[name] for name in _PUBLIC_MEMBERS if name in entry})
        return VerificationKey(key_id, key.thumbprint(), key, _algorithms(*names))
    except (JoseError, ValueError):
        return None


def _allowed_algorithms(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the algorithms of a key by its type; none for one that is unknown or weak."""
    kind, curve, modulus = entry.get("kty"), entry.get("crv"), entry.get("n")
    if kind == "RSA" and isinstance(modulus, str):
        # Checked before the import, which only warns of a short key.
        is_strong = _MIN_RSA_BITS <= _bit_length(modulus) <= _MAX_RSA_BITS
        return _RSA_ALGORITHMS if is_strong else ()
    if kind in ("EC", "OKP") and isinstance(curve, str) and (kind == "OKP") == (curve == "Ed25519"):
        return _CURVE_ALGORITHMS.get(curve, ())
    return ()


def _bit_length(modulus: str) -> int:
    """Return the bits of a number in Base64url; 0 for any other text."""
    try:
        number = base64.urlsafe_b64decode(modulus + "=" * (-len(modulus) % 4))
    except ValueError:
        return 0
    return int.from_bytes(number, "big").bit_length()


def _algorithms(*names: str) -> Mapping[str, _Algorithm]:
    # Not `JWSRegistry.get_alg`: its policy is per call, ours is per key.
    return {name: JWSRegistry.algorithms[name] for name in names}
