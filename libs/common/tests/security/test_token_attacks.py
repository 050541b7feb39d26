"""Known attacks on tokens: each is refused, and reveals nothing but that the token is bad."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sluice_common.security.keys.key_ring import key_set, secret_key
from sluice_common.security.tokens import MAX_TOKEN_BYTES
from sluice_core.errors import Unauthenticated
from support import tokens
from support.jwt_authenticator import Server, refused_as
from support.tokens import claims, compact, encode

SECRET = b"a secret of thirty-two bytes ..."


# -- the signature


@pytest.mark.parametrize("algorithm", ["none", "None", "NONE", "nOnE"])
async def test_algorithm_none_is_refused(server: Server, algorithm: str) -> None:
    await refused_as(server, compact({"alg": algorithm}, claims(), lambda _: b""), "algorithm")
    signed = tokens.rsa_key().token(claims()).split(".")
    header = encode(json.dumps({"alg": algorithm, "kid": "rsa-1"}).encode())
    await refused_as(server, ".".join([header, *signed[1:]]), "algorithm")


@pytest.mark.parametrize("encoding", ["pem", "pem without its last line break", "der", "modulus"])
@pytest.mark.parametrize("algorithm", ["HS256", "HS384", "HS512"])
async def test_public_key_is_no_secret(server: Server, encoding: str, algorithm: str) -> None:
    """HS256 with the public key as its secret: the algorithm is the key's, not the token's."""
    key = tokens.rsa_key()
    public = key.private.public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    secret = {
        "pem": pem,
        "pem without its last line break": pem.rstrip(),
        "der": public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        "modulus": key.members["n"].encode(),
    }[encoding]
    forged = tokens.hmac_key(secret, algorithm, "rsa-1")
    await refused_as(server, forged.token(claims()), "algorithm")


async def test_algorithm_of_another_key_type_is_refused(server: Server) -> None:
    await refused_as(server, tokens.ec_key("rsa-1").token(claims()), "algorithm")
    await refused_as(server, tokens.rsa_key("ec-1").token(claims()), "algorithm")


async def test_public_algorithm_is_refused_for_a_secret() -> None:
    server = Server(secret_key(SECRET), issuer=None)
    assert (await server.accept(tokens.hmac_key(SECRET).token(claims()))).subject == "ann"
    await refused_as(server, tokens.rsa_key().token(claims()), "algorithm")
    for algorithm in ("HS384", "HS512"):
        await refused_as(server, tokens.hmac_key(SECRET, algorithm).token(claims()), "algorithm")


async def test_algorithm_that_its_key_excludes_is_refused() -> None:
    """A key with `alg` verifies that algorithm only."""
    key = tokens.rsa_key("rsa-1", "RS512")
    entry = {**key.jwk, "alg": "RS256"}
    server = Server(json.dumps({"keys": [entry]}).encode())
    await refused_as(server, key.token(claims()), "algorithm")


async def test_foreign_signature_is_refused(server: Server) -> None:
    stranger = tokens.rsa_key("stranger")
    await refused_as(server, stranger.token(claims(), kid="rsa-1"), "signature")
    await refused_as(server, tokens.rsa_key().token(claims())[:-4], "signature")


async def test_changed_claims_are_refused(server: Server) -> None:
    header, _, signature = tokens.rsa_key().token(claims()).split(".")
    changed = encode(json.dumps(claims(tenant="other")).encode())
    await refused_as(server, f"{header}.{changed}.{signature}", "signature")


@pytest.mark.parametrize(
    "key_id",
    [
        "../../../../etc/passwd",
        "/dev/null",
        "rsa-1' OR '1'='1",
        "rsa-1; DROP TABLE drives",
        "rsa-1\x00",
        "rsa-1\n",
        "RSA-1",
        "https://evil.example/keys",
        "",
        "x" * 256,
    ],
)
async def test_key_id_only_selects_a_key(server: Server, key_id: str) -> None:
    """An id with a path, SQL or an address is just unknown, even with the right signature."""
    await refused_as(server, tokens.rsa_key().token(claims(), kid=key_id), "key")


@pytest.mark.parametrize("key_id", [7, ["rsa-1"], {"kid": "rsa-1"}, True, "x" * 257])
async def test_malformed_key_id_is_refused(server: Server, key_id: object) -> None:
    await refused_as(server, tokens.rsa_key().token(claims(), kid=key_id), "form")


@pytest.fixture
def foreign_keys() -> Iterator[tuple[str, list[str]]]:
    """A server with the attacker's keys: its address and the requests that it got."""
    requests: list[str] = []
    document = tokens.key_set(tokens.rsa_key("stranger"))

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requests.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(document)

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{listening.server_port}/jwks.json", requests
        listening.shutdown()
        thread.join()


@pytest.mark.parametrize("member", ["jku", "x5u", "jwk", "x5c"])
@pytest.mark.parametrize("key_id", ["rsa-1", "stranger", None])
async def test_keys_of_a_header_are_never_used(
    server: Server, foreign_keys: tuple[str, list[str]], member: str, key_id: str | None
) -> None:
    address, requests = foreign_keys
    stranger = tokens.rsa_key("stranger")
    value: Any = {"jwk": dict(stranger.members), "x5c": ["AAAA"]}.get(member, address)
    token = stranger.token(
        claims(), **{member: value, "kid": key_id} if key_id else {member: value}
    )
    assert await server.refusal(token) == "BAD_TOKEN"
    assert requests == []


async def test_keys_in_the_header_of_a_good_token_are_ignored(
    server: Server, foreign_keys: tuple[str, list[str]]
) -> None:
    """Some issuers always send `jku`."""
    address, requests = foreign_keys
    assert (await server.accept(tokens.rsa_key().token(claims(), jku=address))).subject == "ann"
    assert requests == []


@pytest.mark.parametrize("header", [{"crit": ["b64"], "b64": False}, {"crit": ["exp"], "exp": 1}])
async def test_critical_extensions_are_refused(server: Server, header: dict[str, Any]) -> None:
    await refused_as(server, tokens.rsa_key().token(claims(), **header), "form")


@pytest.mark.parametrize("kind", ["logout+jwt", "dpop+jwt", "secevent+jwt", 7])
async def test_token_of_another_type_is_refused(server: Server, kind: object) -> None:
    await refused_as(server, tokens.rsa_key().token(claims(), typ=kind), "type")


# -- the header


async def test_oversized_token_is_refused_unread(server: Server) -> None:
    """A million bytes are neither decoded nor hashed."""
    for size in (1_000_000, MAX_TOKEN_BYTES + 1):
        await refused_as(server, "A" * size, "size")
    large = tokens.rsa_key().token(claims(padding="x" * 8_000))
    assert (await server.accept(large)).subject == "ann"


async def test_missing_credentials_say_so(server: Server) -> None:
    for header in (None, ""):
        with pytest.raises(Unauthenticated) as caught:
            await server.authenticator.authenticate(header)
        assert caught.value.reason == "NO_CREDENTIALS"


async def test_other_schemes_are_refused(server: Server) -> None:
    token = tokens.rsa_key().token(claims())
    for scheme in ("Basic ", "", "Token ", "Bearer", "Bearer\t"):
        assert await server.refusal(token, scheme) == "BAD_TOKEN"
    assert (await server.authenticator.authenticate(f"bearer {token}")).subject == "ann"


@pytest.mark.parametrize(
    "token",
    ["", ".", "..", "a.b", "a.b.c", "....", "e30.e30.", "é.é.é", "[" * 9000, "e30.e30.e30.e30"],
)
async def test_malformed_token_is_refused(server: Server, token: str) -> None:
    assert await server.refusal(token) == "BAD_TOKEN"


async def test_deeply_nested_token_is_refused(server: Server) -> None:
    """Python's JSON parser fails on it by RecursionError, not ValueError."""
    key = tokens.rsa_key()
    deep = b"[" * 3000 + b"]" * 3000
    assert await server.refusal(f"{encode(deep)}.e30.e30") == "BAD_TOKEN"
    await refused_as(server, compact({"alg": "RS256", "kid": key.key_id}, deep, key.sign), "form")


# -- rotation and the cache


async def test_token_is_refused_once_its_key_is_withdrawn(server: Server) -> None:
    """Although it was verified before and is in the cache."""
    token = tokens.rsa_key().token(claims())
    await server.accept(token)
    server.source.keys = key_set(tokens.key_set(tokens.rsa_key("rsa-2"), tokens.ec_key()))
    await refused_as(server, token, "key")


async def test_reused_key_id_does_not_keep_old_tokens(server: Server) -> None:
    token = tokens.rsa_key().token(claims())
    await server.accept(token)
    renamed = {**tokens.rsa_key("rsa-2").jwk, "kid": "rsa-1"}
    server.source.keys = key_set(json.dumps({"keys": [renamed]}).encode())
    await refused_as(server, token, "signature")


async def test_repeated_token_is_verified_once(server: Server) -> None:
    token = tokens.ec_key().token(claims())
    first = await server.accept(token)
    for _ in range(5):
        assert await server.accept(token) is first
    assert server.registry.get_sample_value("sluice_auth_verified_total") == 1
    server.source.keys = key_set(tokens.key_set(tokens.ec_key(), tokens.rsa_key("rsa-3")))
    assert await server.accept(token) is first, "its key is still there"


async def test_known_key_causes_no_search(server: Server) -> None:
    """A bad signature under a known id must not make the server fetch keys."""
    await server.refusal(tokens.rsa_key("stranger").token(claims(), kid="rsa-1"))
    await server.refusal(compact({"alg": "none", "kid": "rsa-1"}, claims(), lambda _: b""))
    assert server.source.searches == 0
    await server.refusal(tokens.rsa_key("stranger").token(claims()))
    assert server.source.searches == 1


@pytest.mark.parametrize(
    "key",
    [
        *(
            tokens.rsa_key("k", f"{kind}{bits}")
            for kind in ("RS", "PS")
            for bits in (256, 384, 512)
        ),
        *(tokens.ec_key("k", f"ES{bits}") for bits in (256, 384, 512)),
        tokens.ed25519_key("k", "EdDSA"),
        tokens.ed25519_key("k", "Ed25519"),
        tokens.rsa_key(None),
    ],
    ids=lambda key: f"{key.algorithm}-{key.key_id}",
)
async def test_every_listed_algorithm_verifies(key: tokens.SigningKey) -> None:
    server = Server(tokens.key_set(key))
    assert (await server.accept(key.token(claims()))).subject == "ann"
    broken = key.token(claims())[:-8] + "AAAAAAAA"
    assert await server.refusal(broken) == "BAD_TOKEN"
