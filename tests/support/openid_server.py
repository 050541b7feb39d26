"""An OpenID Connect provider made of Authlib and Flask: discovery, keys and a token endpoint."""

from __future__ import annotations

import base64
import json
import threading
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

import flask
from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2.rfc6749 import ClientMixin, grants
from authlib.oauth2.rfc9068 import JWTBearerTokenGenerator
from joserfc.jwk import ECKey, KeySet, RSAKey
from werkzeug.serving import make_server


@dataclass(frozen=True)
class OpenIdClient(ClientMixin):  # type: ignore[misc]  # Authlib has no types
    """A registered program: what it may ask for, and the tenant that its tokens name."""

    client_id: str
    secret: str
    tenant: str
    scopes: frozenset[str]

    def get_client_id(self) -> str:
        return self.client_id

    def get_allowed_scope(self, scope: str) -> str:
        return " ".join(each for each in (scope or "").split() if each in self.scopes)

    def check_client_secret(self, client_secret: str) -> bool:
        return client_secret == self.secret

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return method == "client_secret_basic"

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type == "client_credentials"


class _AccessTokens(JWTBearerTokenGenerator):  # type: ignore[misc]  # see above
    """Access tokens as RFC 9068 defines them, with the tenant as a claim of its own."""

    def __init__(self, provider: OpenIdServer, audience: str) -> None:
        super().__init__(provider.issuer, alg=provider.algorithm)
        self._provider = provider
        self._audience = audience

    def get_jwks(self) -> KeySet:
        return self._provider.keys

    def get_audiences(self, client: OpenIdClient, user: object, scope: str) -> str:
        return self._audience

    def get_extra_claims(
        self, client: OpenIdClient, grant_type: str, user: object, scope: str
    ) -> dict[str, Any]:
        return {"tenant": client.tenant}


class OpenIdServer:
    """The state of the provider."""

    def __init__(self, issuer: str) -> None:
        self.issuer = issuer
        self.algorithm = "RS256"
        self.keys = self._new_keys()

    def rotate(self) -> None:
        """Replace the keys: tokens that the old ones signed are worth nothing from now on."""
        self.keys = self._new_keys()

    def token(self, client: OpenIdClient, scope: str) -> str:
        """Return an access token as a program gets it: by its credentials."""
        form = urllib.parse.urlencode({"grant_type": "client_credentials", "scope": scope})
        credentials = base64.b64encode(f"{client.client_id}:{client.secret}".encode()).decode()
        request = urllib.request.Request(
            f"{self.issuer}/token",
            form.encode(),
            {"authorization": f"Basic {credentials}"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return str(json.load(answer)["access_token"])

    @staticmethod
    def _new_keys() -> KeySet:
        return KeySet([RSAKey.generate_key(2048, {"use": "sig", "alg": "RS256"}, auto_kid=True)])

    def published(self) -> dict[str, Any]:
        """Return the key set; providers list keys of other algorithms and uses beside."""
        others = KeySet(
            [
                RSAKey.generate_key(2048, {"use": "enc", "alg": "RSA-OAEP"}, auto_kid=True),
                ECKey.generate_key("P-256", {"use": "sig", "alg": "ES256"}, auto_kid=True),
            ]
        )
        return {"keys": [*self.keys.as_dict()["keys"], *others.as_dict()["keys"]]}


@contextmanager
def openid_server(audience: str, *clients: OpenIdClient) -> Iterator[OpenIdServer]:
    """Serve on a loopback address inside the block."""
    app = flask.Flask(__name__)
    listening = make_server("127.0.0.1", 0, app, threaded=True)
    provider = OpenIdServer(f"http://127.0.0.1:{listening.server_port}")
    by_id = {client.client_id: client for client in clients}
    tokens = AuthorizationServer(app, by_id.get, lambda _token, _request: None)
    tokens.register_grant(grants.ClientCredentialsGrant)
    tokens.register_token_generator("default", _AccessTokens(provider, audience))
    published = provider.published

    @app.get("/.well-known/openid-configuration")
    def discovery() -> dict[str, Any]:
        return {
            "issuer": provider.issuer,
            "jwks_uri": f"{provider.issuer}/jwks",
            "token_endpoint": f"{provider.issuer}/token",
            "authorization_endpoint": f"{provider.issuer}/authorize",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [provider.algorithm],
        }

    @app.get("/jwks")
    def jwks() -> dict[str, Any]:
        return published()

    @app.post("/token")
    def token() -> flask.Response:
        return cast("flask.Response", tokens.create_token_response())

    thread = threading.Thread(target=listening.serve_forever)
    thread.start()
    try:
        yield provider
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()
