"""Keys from documents: which are used, and which documents are refused."""

from __future__ import annotations

import base64
import json
import random
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc.jws import JWSRegistry

from sluice_common.security.compact import parse_compact
from sluice_common.security.keys.key_ring import (
    MAX_KEYS,
    MAX_TRIES,
    KeyRing,
    UnusableKeys,
    key_set,
    secret_key,
)
from support import tokens
from support.jwt_authenticator import Server
from support.tokens import claims

RSA = tokens.rsa_key()


def document(*entries: Any) -> bytes:
    return json.dumps({"keys": entries}).encode()


def verifies(keys: KeyRing, key: tokens.SigningKey = RSA) -> bool:
    return keys.verify(parse_compact(key.token(claims()).encode())) is not None


def test_private_key_verifies_like_its_public_half() -> None:
    numbers = RSA.private.private_numbers()
    private = {**RSA.jwk, "d": tokens.number(numbers.d), "key_ops": ["sign"]}
    keys = key_set(document(private))
    assert verifies(keys)
    assert keys.only_key().is_private is False


@pytest.mark.parametrize(
    "entry",
    [
        {**RSA.jwk, "use": "enc"},
        {**RSA.jwk, "use": None},
        {**RSA.jwk, "key_ops": ["encrypt"]},
        {**RSA.jwk, "key_ops": "verify"},
        {**RSA.jwk, "alg": "RSA-OAEP"},
        {**RSA.jwk, "alg": "none"},
        {**RSA.jwk, "alg": "HS256"},
        {**RSA.jwk, "kid": 7},
        {**RSA.jwk, "n": 7},
        {**RSA.jwk, "n": "é"},
        {**RSA.jwk, "e": "AA"},
        {**RSA.jwk, "kty": "rsa"},
        {"kty": "RSA", "kid": "x"},
        {"kty": "oct", "k": tokens.encode(b"x" * 32), "kid": "rsa-1"},
        {"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA"},
        {"kty": "EC", "crv": "Ed25519", "x": "AA"},
        {"kty": "OKP", "crv": "X25519", "x": tokens.encode(b"x" * 32)},
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
        {"kty": "LMS"},
        {},
        "key",
        None,
        7,
    ],
)
def test_unusable_key_is_skipped_beside_a_good_one(entry: object) -> None:
    """A key set may list keys of other uses, and of types that this release does not know."""
    with pytest.raises(UnusableKeys, match="none of its 1 keys"):
        key_set(document(entry))
    other = tokens.ec_key()
    keys = key_set(document(entry, other.jwk))
    assert len(keys) == 1
    assert verifies(keys, other)


def test_short_rsa_key_is_skipped() -> None:
    """Also if its modulus is padded to the length of a longer one."""
    short = tokens.rsa_key("short", "RS256", 1024)
    padded = tokens.encode(bytes(128) + short.private.public_key().public_numbers().n.to_bytes(128))
    for modulus in (short.members["n"], padded):
        with pytest.raises(UnusableKeys):
            key_set(document({**short.jwk, "n": modulus}))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"keys": {}}',
        b'{"keys": []}',
        b"<html>down for maintenance</html>",
        b"\xff\xfe",
        b"[" * 10_000,
        document(*({**RSA.jwk, "kid": str(number)} for number in range(MAX_KEYS + 1))),
    ],
)
def test_unusable_key_set_is_refused(content: bytes) -> None:
    with pytest.raises(UnusableKeys):
        key_set(content)


def test_keys_without_ids_verify_tokens_with_any() -> None:
    keys = key_set(document({name: value for name, value in RSA.jwk.items() if name != "kid"}))
    assert verifies(keys)
    assert verifies(keys, tokens.rsa_key("rsa-2")) is False


def test_token_without_an_id_costs_few_verifications() -> None:
    """Of a provider with many keys: it has to name the key."""
    strangers = [tokens.ec_key(f"ec-{number}") for number in range(MAX_TRIES)]
    other, signer = RSA, tokens.ec_key("signer")
    nameless = signer.token(claims(), kid=None)
    within = key_set(document(*(key.jwk for key in [other, *strangers[1:], signer])))
    assert within.verify(parse_compact(nameless.encode())) is not None
    beyond = key_set(document(*(key.jwk for key in [*strangers, signer])))
    assert beyond.verify(parse_compact(nameless.encode())) is None
    assert verifies(beyond, signer)


@pytest.mark.parametrize("key_id", [None, "invented"])
async def test_bad_token_costs_at_most_two_verifications(
    monkeypatch: pytest.MonkeyPatch, key_id: str | None
) -> None:
    """Anybody can send it, and each verification blocks the event loop."""
    tried = 0
    algorithm = type(JWSRegistry.algorithms["ES256"])
    verify = algorithm.verify

    def counted(self: Any, *arguments: Any) -> bool:
        nonlocal tried
        tried += 1
        return bool(verify(self, *arguments))

    monkeypatch.setattr(algorithm, "verify", counted)
    members = [dict(tokens.ec_key(f"ec-{number}").jwk, kid=None) for number in range(8)]
    anonymous = [{name: one[name] for name in one if name != "kid"} for one in members]
    server = Server(document(*anonymous))
    forged = tokens.ec_key("stranger").token(claims(), kid=key_id)
    assert await server.refusal(forged) == "BAD_TOKEN"
    assert 0 < tried <= 2


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_secret_file_ends_with_or_without_a_line_break(end: bytes) -> None:
    secret = b"0123456789abcdef0123456789abcdef"
    assert verifies(secret_key(secret + end), tokens.hmac_key(secret))


@pytest.mark.parametrize("content", [b"", b"\n", b"x" * 31, b"x" * 31 + b"\n"])
def test_short_secret_is_refused(content: bytes) -> None:
    with pytest.raises(UnusableKeys, match="32 bytes"):
        secret_key(content)


def test_public_key_as_a_secret_is_refused() -> None:
    """Everybody has a public key, and could sign with it."""
    pem = RSA.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(UnusableKeys, match="JWKS_FILE"):
        secret_key(pem)


@pytest.mark.parametrize(
    "secret",
    [
        *(b"a" * 32, bytes(32), b" " * 32, b"changeme" * 4, b"changeme-" * 4, b"0123456789" * 4),
        *(bytes(range(32)), b"abcdefghijklmnopqrstuvwxyz012345", b"0123456789abcdef" * 2),
        *(b"change-me-password-secret-admin-1234", b"Sluice-Secret-Sluice-Password-2024"),
    ],
)
def test_weak_secret_is_refused_outside_development(secret: bytes) -> None:
    assert len(secret_key(secret)) == 1
    with pytest.raises(UnusableKeys, match="the secret") as caught:
        secret_key(secret + b"\n", require_strong=True)
    assert secret.decode("latin-1") not in str(caught.value)


@pytest.mark.parametrize("seed", range(20))
def test_random_secret_is_strong(seed: int) -> None:
    """Bytes, and the usual texts of them."""
    random_bytes = random.Random(seed).randbytes(32)
    for secret in (random_bytes, random_bytes.hex().encode(), base64.b64encode(random_bytes)):
        assert len(secret_key(secret, require_strong=True)) == 1


@pytest.mark.parametrize("document", [tokens.key_set(tokens.rsa_key()), b'{"kty":"oct","k":"%s"}'])
def test_json_web_key_is_no_secret(document: bytes) -> None:
    """Everybody may read a published one. Without the requirement of strength too."""
    with pytest.raises(UnusableKeys, match="SLUICE_AUTH__JWKS_FILE"):
        secret_key(document.ljust(40))
