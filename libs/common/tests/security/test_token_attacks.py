"""Known attacks on tokens: each is refused, and reveals nothing but that the token is bad."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sluice_backends.instruments import Registry
from sluice_common.security.claims import LEEWAY_SECONDS, ClaimRules
from sluice_common.security.keys.key_ring import KeyRing, key_set, secret_key
from sluice_common.security.metrics import TokenMetrics
from sluice_common.security.tokens import MAX_TOKEN_BYTES, JwtAuthenticator
from sluice_core.access.principal import Principal
from sluice_core.errors import Unauthenticated
from support import tokens
from support.jwt_authenticator import FixedKeys
from support.tokens import NOW, DrivenClock, claims, compact, encode

ISSUER = "https://id.example"
SECRET = b"a secret of thirty-two bytes ..."


class Server:
    """An authenticator with a driven clock."""

    def __init__(self, keys: bytes | KeyRing, *, issuer: str | None = ISSUER) -> None:
        self.source = FixedKeys(key_set(keys) if isinstance(keys, bytes) else keys)
        self.registry = Registry()
        self.clock = DrivenClock()
        self.authenticator = JwtAuthenticator(
            self.source,
            ClaimRules(tokens.AUDIENCE, issuer),
            TokenMetrics(self.registry),
            clock=self.clock,
        )

    async def accept(self, token: str) -> Principal:
        return await self.authenticator.authenticate(f"Bearer {token}")

    async def refusal(self, token: str, scheme: str = "Bearer ") -> str:
        """Return the reason of a refusal."""
        with pytest.raises(Unauthenticated) as caught:
            await self.authenticator.authenticate(f"{scheme}{token}")
        assert len(token) < 16 or token[:16] not in str(caught.value)
        return caught.value.reason

    def failed(self, check: str) -> float:
        return (
            self.registry.get_sample_value("sluice_auth_failed_checks_total", {"check": check}) or 0
        )


@pytest.fixture
def server() -> Server:
    return Server(tokens.key_set(tokens.rsa_key(), tokens.ec_key()))


async def refused_as(server: Server, token: str, check: str) -> None:
    """Require BAD_TOKEN for callers, and the failed check for operators."""
    before = server.failed(check)
    assert await server.refusal(token) == "BAD_TOKEN"
    assert server.failed(check) == before + 1


async def test_valid_token_becomes_its_principal(server: Server) -> None:
    principal = await server.accept(
        tokens.rsa_key().token(claims(groups=["staff"], drives=["photos", "raw-*"]))
    )
    assert principal == Principal(
        "acme",
        "ann",
        frozenset({"uploads:write", "uploads:read"}),
        ("photos", "raw-*"),
        frozenset({"staff"}),
        NOW + 3600,
    )


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


# -- the claims


@pytest.mark.parametrize(
    "audience",
    [
        ["sluice-test", "other"],
        ["other", "sluice-test"],
        ["other"],
        "other",
        "sluice-test other",
        "Sluice-Test",
        [],
        [["sluice-test"]],
        {"sluice-test": 1},
        None,
    ],
)
async def test_other_or_further_audience_is_refused(server: Server, audience: object) -> None:
    """Each service of a token for two can send it to the other one."""
    await refused_as(server, tokens.rsa_key().token(claims(aud=audience)), "audience")


async def test_only_audience_of_a_list_is_accepted(server: Server) -> None:
    await server.accept(tokens.rsa_key().token(claims(aud=[tokens.AUDIENCE])))


@pytest.mark.parametrize("issuer", ["https://id.example/", "https://evil.example", 7, None])
async def test_other_issuer_is_refused(server: Server, issuer: object) -> None:
    await refused_as(server, tokens.rsa_key().token(claims(iss=issuer)), "issuer")


@pytest.mark.parametrize("value", [None, "9999999999", True, [], -1, 1e308, 10**400])
async def test_missing_or_malformed_expiry_is_refused(server: Server, value: object) -> None:
    await refused_as(server, tokens.rsa_key().token(claims(exp=value)), "expiry")


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e400", "9" * 5000])
async def test_endless_expiry_is_refused(server: Server, value: str) -> None:
    content = json.dumps(claims()).replace(str(int(NOW) + 3600), value).encode()
    key = tokens.rsa_key()
    token = compact({"alg": "RS256", "kid": key.key_id}, content, key.sign)
    assert await server.refusal(token) == "BAD_TOKEN"


async def test_expired_token_says_so(server: Server) -> None:
    """The only refusal that a client can act on; a leeway of 30 s covers clocks that differ."""
    token = tokens.rsa_key().token(claims(exp=NOW))
    server.clock.now = NOW + LEEWAY_SECONDS - 1
    await server.accept(token)
    server.clock.now = NOW + LEEWAY_SECONDS
    assert await server.refusal(token) == "TOKEN_EXPIRED"
    assert await server.refusal(token) == "TOKEN_EXPIRED", "also when it is cached no more"


async def test_expired_forgery_is_only_bad(server: Server) -> None:
    forged = tokens.rsa_key("stranger").token(claims(exp=1), kid="rsa-1")
    await refused_as(server, forged, "signature")


@pytest.mark.parametrize(("claim", "check"), [("iat", "issued_at"), ("nbf", "not_before")])
async def test_token_from_the_future_is_refused(server: Server, claim: str, check: str) -> None:
    key = tokens.rsa_key()
    await server.accept(key.token(claims(**{claim: NOW + LEEWAY_SECONDS})))
    await refused_as(server, key.token(claims(**{claim: NOW + LEEWAY_SECONDS + 1})), check)
    await refused_as(server, key.token(claims(**{claim: 10**11, "exp": 10**11 + 60})), check)
    await refused_as(server, key.token(claims(**{claim: "0"})), check)


@pytest.mark.parametrize("subject", [None, "", 7, "a\nb", "a\x1b[31m", "\ud800", "x" * 256])
async def test_missing_or_malformed_subject_is_refused(server: Server, subject: object) -> None:
    await refused_as(server, tokens.rsa_key().token(claims(sub=subject)), "subject")


@pytest.mark.parametrize(
    "tenant", [None, "", "a/b", "..", ".a", "{acme}", "a b", "ä", "x" * 64, 7, ["acme"]]
)
async def test_missing_or_malformed_tenant_is_refused(server: Server, tenant: object) -> None:
    """A tenant becomes part of keys and log lines, so that it has the form of a name."""
    await refused_as(server, tokens.rsa_key().token(claims(tenant=tenant)), "tenant")


@pytest.mark.parametrize("drives", [[], "photos", ["photos", 7], ["a/b"], ["*a"], ["a**"], {}])
async def test_malformed_limit_to_drives_is_refused(server: Server, drives: object) -> None:
    """An empty one too: it must not mean every drive."""
    await refused_as(server, tokens.rsa_key().token(claims(drives=drives)), "drives")


async def test_scopes_come_from_scope_or_scp(server: Server) -> None:
    key = tokens.rsa_key()
    for changes in (
        {"scope": None, "scp": "nodes:read drives:read"},
        {"scope": None, "scp": ["nodes:read", "drives:read"]},
        {"scope": "nodes:read  drives:read ", "scp": "tenant:admin"},
    ):
        principal = await server.accept(key.token(claims(**changes)))
        assert principal.scopes == {"nodes:read", "drives:read"}
    assert (await server.accept(key.token(claims(scope=None)))).scopes == frozenset()
    await refused_as(server, key.token(claims(scope=7)), "scopes")
    await refused_as(server, key.token(claims(groups="staff")), "groups")


async def test_tenant_comes_from_the_configured_claim() -> None:
    server = Server(tokens.key_set(tokens.rsa_key()))
    rules = ClaimRules(tokens.AUDIENCE, ISSUER, "https://example.com/org")
    authenticator = JwtAuthenticator(
        server.source, rules, TokenMetrics(Registry()), clock=server.clock
    )
    token = tokens.rsa_key().token(claims(**{"https://example.com/org": "globex"}))
    assert (await authenticator.authenticate(f"Bearer {token}")).tenant == "globex"


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
