"""Tokens and keys of an issuer, made with `cryptography` alone: not with the verifier's library."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

AUDIENCE = "sluice-test"
NOW = 1_800_000_000.0
"""A time for driven clocks."""

Sign = Callable[[bytes], bytes]


@dataclass(frozen=True)
class SigningKey:
    """A private key of an issuer; `members` is its public half as a JWK."""

    algorithm: str
    key_id: str | None
    members: Mapping[str, Any]
    sign: Sign
    private: Any = None

    @property
    def jwk(self) -> dict[str, Any]:
        named = {} if self.key_id is None else {"kid": self.key_id}
        return {**self.members, **named, "use": "sig"}

    def token(self, claims: Mapping[str, Any], **header: Any) -> str:
        """Return a signed token; `header` adds to its header, and replaces what is there."""
        named = {} if self.key_id is None else {"kid": self.key_id}
        return compact({"alg": self.algorithm, "typ": "JWT", **named, **header}, claims, self.sign)


def key_set(*keys: SigningKey, more: tuple[Mapping[str, Any], ...] = ()) -> bytes:
    """Return a JSON Web Key Set."""
    return json.dumps({"keys": [*(key.jwk for key in keys), *more]}).encode()


@cache
def rsa_key(key_id: str | None = "rsa-1", algorithm: str = "RS256", bits: int = 2048) -> SigningKey:
    private = rsa.generate_private_key(65537, bits)
    numbers = private.public_key().public_numbers()
    length = int(algorithm[2:])
    digest: hashes.HashAlgorithm = {
        256: hashes.SHA256(),
        384: hashes.SHA384(),
        512: hashes.SHA512(),
    }[length]
    scheme: padding.AsymmetricPadding = padding.PKCS1v15()
    if algorithm.startswith("PS"):
        scheme = padding.PSS(padding.MGF1(digest), digest.digest_size)
    members = {"kty": "RSA", "n": number(numbers.n), "e": number(numbers.e)}
    return SigningKey(
        algorithm, key_id, members, lambda text: private.sign(text, scheme, digest), private
    )


@cache
def ec_key(key_id: str | None = "ec-1", algorithm: str = "ES256") -> SigningKey:
    curve, digest = {
        "ES256": (ec.SECP256R1(), hashes.SHA256()),
        "ES384": (ec.SECP384R1(), hashes.SHA384()),
        "ES512": (ec.SECP521R1(), hashes.SHA512()),
    }[algorithm]
    name = {"ES256": "P-256", "ES384": "P-384", "ES512": "P-521"}[algorithm]
    private = ec.generate_private_key(curve)
    size = (curve.key_size + 7) // 8
    point = private.public_key().public_numbers()

    def sign(text: bytes) -> bytes:
        r, s = decode_dss_signature(private.sign(text, ec.ECDSA(digest)))
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")

    members = {
        "kty": "EC",
        "crv": name,
        "x": encode(point.x.to_bytes(size, "big")),
        "y": encode(point.y.to_bytes(size, "big")),
    }
    return SigningKey(algorithm, key_id, members, sign, private)


@cache
def ed25519_key(key_id: str | None = "ed-1", algorithm: str = "EdDSA") -> SigningKey:
    private = ed25519.Ed25519PrivateKey.generate()
    members = {"kty": "OKP", "crv": "Ed25519", "x": encode(private.public_key().public_bytes_raw())}
    return SigningKey(algorithm, key_id, members, private.sign, private)


def hmac_key(secret: bytes, algorithm: str = "HS256", key_id: str | None = None) -> SigningKey:
    digest = getattr(hashlib, f"sha{algorithm[2:]}")
    members = {"kty": "oct", "k": encode(secret)}
    return SigningKey(
        algorithm, key_id, members, lambda text: hmac.new(secret, text, digest).digest()
    )


def claims(now: float = NOW, /, **changes: Any) -> dict[str, Any]:
    """Return valid claims; a change to None removes a claim."""
    valid = {
        "iss": "https://id.example",
        "aud": AUDIENCE,
        "sub": "ann",
        "tenant": "acme",
        "scope": "uploads:write uploads:read",
        "iat": int(now),
        "exp": int(now) + 3600,
    }
    merged = {**valid, **changes}
    return {name: value for name, value in merged.items() if value is not None}


def compact(header: Mapping[str, Any], content: Mapping[str, Any] | bytes, sign: Sign) -> str:
    """Return a token with exactly this header and content."""
    payload = content if isinstance(content, bytes) else json.dumps(content).encode()
    signed = f"{encode(json.dumps(header).encode())}.{encode(payload)}"
    return f"{signed}.{encode(sign(signed.encode()))}"


def encode(data: bytes) -> str:
    """Return Base64url without padding (RFC 7515, 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value: int) -> str:
    return encode(value.to_bytes((value.bit_length() + 7) // 8, "big"))


class DrivenClock:
    """A clock that the test moves."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now
