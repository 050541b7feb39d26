"""Documents by which other services verify the gateway's tokens."""

from __future__ import annotations

import json
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from sluice_gateway.auth.access_tokens import USER_SCOPES, TokenTerms
from sluice_gateway.auth.key_file import SigningKeys
from sluice_gateway.http.plain_routes import PlainRoute

KEYS_PATH: Final = "/.well-known/jwks.json"
DISCOVERY_PATH: Final = "/.well-known/openid-configuration"
FRESH_SECONDS: Final = 300
"""How long verifiers may keep the keys; less than a new key is published before it signs."""


def well_known_routes(keys: SigningKeys, terms: TokenTerms) -> list[PlainRoute]:
    """Return the routes of the key set and of OpenID Connect Discovery 1.0."""
    base = terms.issuer.rstrip("/")

    async def jwks(_: Request) -> Response:
        return _public(keys.published(), "application/jwk-set+json")

    async def discovery(_: Request) -> Response:
        document = {
            "issuer": terms.issuer,
            "jwks_uri": base + KEYS_PATH,
            "token_endpoint": f"{base}/api/auth/login",
            "response_types_supported": ["token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [keys.current().algorithm.value],
            "scopes_supported": list(USER_SCOPES),
            "claims_supported": ["iss", "aud", "sub", "scope", "iat", "exp", terms.tenant_claim],
        }
        return _public(json.dumps(document).encode(), "application/json")

    return [PlainRoute(KEYS_PATH, jwks), PlainRoute(DISCOVERY_PATH, discovery)]


def _public(content: bytes, media_type: str) -> Response:
    headers = {"cache-control": f"public, max-age={FRESH_SECONDS}"}
    return Response(content, headers=headers, media_type=media_type)
