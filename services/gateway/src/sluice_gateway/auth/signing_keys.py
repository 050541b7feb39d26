"""Keys that sign access tokens: when they are made, used and withdrawn. Pure."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise
from typing import Any, Final

from joserfc.errors import JoseError
from joserfc.jwk import Key, OKPKey, RSAKey
from joserfc.jws import JWSRegistry

from sluice_common.security.claims import LEEWAY_SECONDS
from sluice_common.security.compact import MalformedJson, parse_json_object
from sluice_common.security.keys.key_ring import MAX_KEYS, KeyRing, UnusableKeys, key_set

_RSA_BITS: Final = 2048
_CREATED: Final = "iat"
"""Member of a stored key: its creation, Unix seconds."""


class Algorithm(StrEnum):
    """Algorithms of new keys. RS256 is verified six times as fast, EdDSA has short tokens."""

    EDDSA = "EdDSA"
    RS256 = "RS256"


_KINDS: Final[Mapping[Algorithm, type[OKPKey] | type[RSAKey]]] = {
    Algorithm.EDDSA: OKPKey,
    Algorithm.RS256: RSAKey,
}


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key. `created_at`: Unix seconds."""

    key_id: str
    algorithm: Algorithm
    created_at: float
    # Not compared: a key that is read again is another object.
    key: Key = field(repr=False, compare=False)

    def sign(self, claims: Mapping[str, Any]) -> str:
        """Return an access token (RFC 9068) with these claims."""
        header = {"alg": self.algorithm.value, "kid": self.key_id, "typ": "at+jwt"}
        signed = b".".join(_encoded(json.dumps(each).encode()) for each in (header, claims))
        signature = JWSRegistry.algorithms[self.algorithm].sign(signed, self.key)
        return b".".join((signed, _encoded(signature))).decode("ascii")

    def public(self) -> dict[str, Any]:
        """Return the public half as a JSON Web Key."""
        members = self.key.as_dict(private=False)
        named = {"kid": self.key_id, "alg": self.algorithm.value, "use": "sig"}
        return {**members, **named}

    def private(self) -> dict[str, Any]:
        """Return the whole key as it is stored."""
        members = self.key.as_dict(private=True)
        named = {"kid": self.key_id, "alg": self.algorithm.value, _CREATED: self.created_at}
        return {**members, **named}


@dataclass(frozen=True, slots=True)
class RotationPolicy:
    """When keys change.

    rotation_seconds: age at which a key gets a successor.
    publish_seconds: time between the publication of a key and its first signature. Verifiers have
        it by then, and so do other replicas.
    token_seconds: longest life of a token.
    """

    algorithm: Algorithm
    rotation_seconds: float
    publish_seconds: float
    token_seconds: float

    def __post_init__(self) -> None:
        # More keys at once than a verifier takes, or a successor before its predecessor signs.
        if self.rotation_seconds < self.publish_seconds + self.token_seconds:
            raise ValueError("keys must sign for longer than their publication and a token take")


def new_key(algorithm: Algorithm, now: float) -> SigningKey:
    """Return a new key. RSA takes some tenths of a second."""
    key: Key
    if algorithm is Algorithm.RS256:
        key = RSAKey.generate_key(_RSA_BITS)
    else:
        key = OKPKey.generate_key("Ed25519")
    return SigningKey(secrets.token_urlsafe(12), algorithm, now, key)


def signing_key(keys: Sequence[SigningKey], policy: RotationPolicy, now: float) -> SigningKey:
    """Return the key for a new token: the newest one that has been published for long enough.

    Without one the oldest, which nothing precedes.
    """
    by_age = sorted(keys, key=_age)
    published = [key for key in by_age if key.created_at + policy.publish_seconds <= now]
    return published[-1] if published else by_age[0]


def rotated(
    keys: Sequence[SigningKey], policy: RotationPolicy, now: float
) -> tuple[SigningKey, ...]:
    """Return the keys as they should be now, oldest first; the same ones if nothing is due.

    A key is withdrawn when the last token that it can have signed has expired for every clock.
    """
    kept = _kept(keys, policy, now)
    if _needs_key(kept, policy, now):
        kept.append(new_key(policy.algorithm, now))
    return tuple(kept)


def is_rotation_due(keys: Sequence[SigningKey], policy: RotationPolicy, now: float) -> bool:
    """Return whether `rotated` would return other keys; unlike it, make none."""
    kept = _kept(keys, policy, now)
    return len(kept) < len(keys) or _needs_key(kept, policy, now)


def _kept(keys: Sequence[SigningKey], policy: RotationPolicy, now: float) -> list[SigningKey]:
    by_age = sorted(keys, key=_age)
    kept = [key for key, successor in pairwise(by_age) if now < withdrawn_at(successor, policy)]
    return kept + by_age[-1:]


def _needs_key(kept: Sequence[SigningKey], policy: RotationPolicy, now: float) -> bool:
    return not kept or kept[-1].created_at + policy.rotation_seconds <= now


def withdrawn_at(successor: SigningKey, policy: RotationPolicy) -> float:
    """Return when the last token of the key before `successor` has expired."""
    last_signature = successor.created_at + policy.publish_seconds
    # Twice: replicas and verifiers may each be off by the leeway.
    return last_signature + policy.token_seconds + 2 * LEEWAY_SECONDS


def public_keys(keys: Sequence[SigningKey]) -> bytes:
    """Return the JSON Web Key Set (RFC 7517, 5) that verifiers fetch."""
    return json.dumps({"keys": [key.public() for key in keys]}).encode()


def key_ring(keys: Sequence[SigningKey]) -> KeyRing:
    """Return what verifies tokens of these keys."""
    return key_set(public_keys(keys))


def to_bytes(keys: Sequence[SigningKey]) -> bytes:
    """Return the keys as they are stored; the text is a secret."""
    return json.dumps({"keys": [key.private() for key in keys]}).encode()


def from_bytes(content: bytes) -> tuple[SigningKey, ...]:
    """Return stored keys. Raise `UnusableKeys` without any of their text."""
    try:
        entries = parse_json_object(content)["keys"]
    except (MalformedJson, KeyError):
        raise UnusableKeys("it holds no JSON Web Key Set") from None
    if not isinstance(entries, list) or not entries or len(entries) > MAX_KEYS:
        raise UnusableKeys(f"it holds no keys, or more than {MAX_KEYS}")
    return tuple(sorted(map(_stored_key, entries), key=_age))


def _stored_key(entry: object) -> SigningKey:
    try:
        assert isinstance(entry, dict)
        members = dict(entry)
        algorithm, created_at = Algorithm(members.pop("alg")), float(members.pop(_CREATED))
        key_id, kind = str(members.pop("kid")), _KINDS[algorithm]
        if members["kty"] != kind.key_type:
            raise ValueError("a key of another algorithm")
        key = kind.import_key(members)
        if not key.is_private:
            raise ValueError("a public key")
        return SigningKey(key_id, algorithm, created_at, key)
    except (AssertionError, JoseError, KeyError, TypeError, ValueError):
        raise UnusableKeys("one of its keys is no private key with kid, alg and iat") from None


def _age(key: SigningKey) -> tuple[float, str]:
    return key.created_at, key.key_id


def _encoded(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
