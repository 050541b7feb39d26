"""Arbitrary credentials never authenticate, and fail as `Unauthenticated` only."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sluice_backends.instruments import Registry
from sluice_common.security.claims import ClaimRules, principal_of
from sluice_common.security.keys.key_ring import key_set
from sluice_common.security.metrics import TokenMetrics
from sluice_common.security.refusals import TokenRefused
from sluice_common.security.tokens import JwtAuthenticator
from sluice_core.errors import Unauthenticated
from sluice_core.uploads.names import check_subject, check_tenant_name
from support import tokens
from support.tokens import NOW, DrivenClock, claims, compact

EXAMPLES = int(os.environ.get("SLUICE_FUZZ_INPUTS", "300"))
REASONS = {"BAD_TOKEN", "NO_CREDENTIALS", "TOKEN_EXPIRED"}
RULES = ClaimRules(tokens.AUDIENCE, "https://id.example")

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["RS256", "HS256", "none", "rsa-1", tokens.AUDIENCE, "acme"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=8,
)
header_names = st.sampled_from(["alg", "kid", "typ", "jku", "jwk", "x5u", "crit", "b64", "zip"])
claim_names = st.sampled_from(
    ["iss", "aud", "exp", "nbf", "iat", "sub", "tenant", "scope", "scp", "groups", "drives", "jti"]
)


class _Keys:
    keys = key_set(tokens.key_set(tokens.rsa_key(), tokens.ec_key(), tokens.ed25519_key(None)))

    async def find_unknown(self) -> float | None:
        return None


def authenticator() -> JwtAuthenticator:
    return JwtAuthenticator(_Keys(), RULES, TokenMetrics(Registry()), clock=DrivenClock())


def refusal(authorization: str) -> str:
    """Return the reason of the refusal that must follow. No part of it waits for anything."""
    call = authenticator().authenticate(authorization)
    try:
        call.send(None)
    except Unauthenticated as error:
        return error.reason
    except StopIteration:
        raise AssertionError("authenticated") from None
    raise AssertionError("waited")


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.text() | st.text(alphabet="abcXYZ019-_.= \t").map("Bearer {}".format))
def test_arbitrary_text_never_authenticates(authorization: str) -> None:
    assert refusal(authorization) in REASONS


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.binary(max_size=200), st.binary(max_size=200), st.binary(max_size=300))
def test_arbitrary_bytes_never_authenticate(header: bytes, payload: bytes, end: bytes) -> None:
    token = ".".join(map(tokens.encode, (header, payload, end)))
    assert refusal(f"Bearer {token}") in REASONS


@pytest.mark.no_cover
@settings(max_examples=EXAMPLES, deadline=None)
@given(
    st.dictionaries(header_names, json_values),
    st.sampled_from(["RS256", "ES256", "EdDSA", "HS256", "none", "PS512"]),
    st.binary(max_size=300),
)
def test_arbitrary_headers_never_authenticate(
    header: dict[str, Any], algorithm: str, signature: bytes
) -> None:
    token = compact({"alg": algorithm, **header}, claims(), lambda _: signature)
    assert refusal(f"Bearer {token}") in REASONS


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.data())
def test_no_changed_byte_of_a_token_authenticates(data: st.DataObject) -> None:
    """Except in bits that Base64 does not use: those change no byte of header, claims or proof."""
    token = tokens.rsa_key().token(claims())
    at = data.draw(st.integers(0, len(token) - 1))
    replaced = data.draw(st.sampled_from("ABCDxyz019-_.!"))
    changed = token[:at] + replaced + token[at + 1 :]
    if changed == token or at in (token.rindex(".") - 1, len(token) - 1):
        return
    assert refusal(f"Bearer {changed}") == "BAD_TOKEN"


@pytest.mark.no_cover
@settings(max_examples=EXAMPLES, deadline=None)
@given(st.dictionaries(claim_names, json_values))
def test_arbitrary_claims_give_valid_principals_or_none(changes: dict[str, Any]) -> None:
    """Signed ones: an issuer may send anything."""
    sent = json.loads(json.dumps({**claims(), **changes}))
    try:
        principal = principal_of(sent, RULES, NOW)
    except TokenRefused:
        return
    assert check_tenant_name(principal.tenant) == sent["tenant"]
    assert check_subject(principal.subject) == sent["sub"]
    assert sent["aud"] in (tokens.AUDIENCE, [tokens.AUDIENCE])
    assert principal.expires_at is not None
    assert principal.expires_at > NOW - 31
    assert bool(principal.drives) == ("drives" in sent)
