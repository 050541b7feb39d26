"""The claims of a token: each is checked, and becomes a part of the principal."""

from __future__ import annotations

import json

import pytest

from sluice_backends.instruments import Registry
from sluice_common.security.claims import LEEWAY_SECONDS, ClaimRules
from sluice_common.security.metrics import TokenMetrics
from sluice_common.security.tokens import JwtAuthenticator
from sluice_core.access.principal import Principal
from support import tokens
from support.jwt_authenticator import Server, refused_as
from support.tokens import ISSUER, NOW, claims, compact


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


@pytest.mark.parametrize("group", ["\ud800", "", "a\x00b", "a\n", "g" * 256])
async def test_group_without_the_form_of_a_subject_is_refused(server: Server, group: str) -> None:
    """A surrogate in a signed token made ListDrives fail in the database."""
    token = tokens.rsa_key().token(claims(groups=["staff", group]))
    await refused_as(server, token, "groups")


async def test_subject_is_checked_before_the_tenant(server: Server) -> None:
    token = tokens.rsa_key().token(claims(sub="", tenant=""))
    await refused_as(server, token, "subject")
