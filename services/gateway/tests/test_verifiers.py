"""gRPC services that have the gateway as their issuer: discovery, keys, rotation."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sluice_backends.instruments import Registry
from sluice_common.security.authentication import Authenticator
from sluice_common.security.compact import parse_compact
from sluice_common.security.opening import open_authenticator
from sluice_common.settings import load_settings
from sluice_common.settings.security import Auth, AuthMode
from sluice_core.errors import Unauthenticated, Unavailable
from sluice_gateway.auth.key_file import KeyFile
from sluice_gateway.auth.signing_keys import SigningKey, to_bytes
from sluice_gateway.settings import keys_file, rotation_policy
from support.gateway import Gateway, running_gateway

DAY = 24 * 3600.0


@dataclass
class Verified:
    """A gateway, what a gRPC service verifies its tokens with, and the file of its keys."""

    gateway: Gateway
    verifier: Authenticator
    file: KeyFile
    path: Path

    async def subject_of(self, token: str) -> str:
        return (await self.verifier.authenticate(f"Bearer {token}")).subject

    async def read_keys(self) -> None:
        """Let the gateway read its file, as it does every five seconds."""
        assert self.gateway.deps.keys is not None
        await self.gateway.deps.keys.find_unknown()


@pytest.fixture
async def verified(tmp_path: Path) -> AsyncIterator[Verified]:
    settings = load_settings(data_dir=tmp_path)
    path = keys_file(settings)
    file = KeyFile(path, rotation_policy(settings))
    async with running_gateway(tmp_path, settings=settings) as gateway:
        auth = Auth(mode=AuthMode.JWT, issuer=gateway.url, audience="sluice")
        async with open_authenticator(auth, Registry()) as verifier:
            yield Verified(gateway, verifier, file, path)


def signed(key: SigningKey, like: str, **changes: Any) -> str:
    """Return a token of this key with the claims of another token, and these changes."""
    return key.sign({**parse_compact(like.encode()).claims(), **changes})


async def test_service_accepts_a_token_of_the_gateway(verified: Verified) -> None:
    session = await verified.gateway.register()
    principal = await verified.verifier.authenticate(f"Bearer {session['token']}")
    assert principal.tenant == principal.subject == session["user"]["userId"]
    assert "photos:write" in principal.scopes


async def test_service_keeps_up_with_a_rotation(verified: Verified) -> None:
    """Tokens of the old key and of the new one are accepted, without a restart."""
    token = (await verified.gateway.register())["token"]
    user_id = await verified.subject_of(token)
    old, new = verified.file.rotate(time.time() + 31 * DAY)
    await verified.read_keys()
    assert await verified.subject_of(signed(new, token)) == user_id
    assert await verified.subject_of(signed(old, token, jti="another")) == user_id


async def test_withdrawn_key_is_refused(verified: Verified) -> None:
    """An operator removes a stolen key from the file."""
    token = (await verified.gateway.register())["token"]
    _, new = verified.file.rotate(time.time() + 31 * DAY)
    verified.path.write_bytes(to_bytes([new]))
    await verified.read_keys()
    reply = await verified.gateway.get("/api/auth/me", token)
    assert reply.reason == "BAD_TOKEN"
    # The first token of the new key makes the service fetch the keys; else it does so in time.
    await verified.subject_of(signed(new, token))
    # Not BAD_TOKEN: a second search for an unknown key has to wait for half a minute.
    with pytest.raises(Unavailable, match="AUTH_KEYS_UNAVAILABLE"):
        await verified.subject_of(token)


async def test_imitated_token_is_refused(verified: Verified) -> None:
    await verified.gateway.register()
    known = {"email": "ann@example.com", "password": "another password"}
    token = (await verified.gateway.register(known))["token"]
    with pytest.raises(Unauthenticated, match="BAD_TOKEN"):
        await verified.subject_of(token)


async def test_key_set_may_be_kept_for_less_than_a_publication(verified: Verified) -> None:
    """So every verifier has a new key before it signs."""
    reply = await verified.gateway.get("/.well-known/jwks.json")
    assert reply.headers["cache-control"] == "public, max-age=300"
    assert reply.headers["content-type"] == "application/jwk-set+json"
    publish = rotation_policy(load_settings()).publish_seconds
    assert publish >= 2 * 300
    discovery = (await verified.gateway.get("/.well-known/openid-configuration")).json()
    assert discovery["issuer"] == verified.gateway.url
    assert discovery["jwks_uri"] == f"{verified.gateway.url}/.well-known/jwks.json"
