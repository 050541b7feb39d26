"""The authenticator of the settings: keys of a file, a secret or a provider, and their rotation."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from sluice_backends.instruments import Registry
from sluice_common.security.authentication import Authenticator, LocalAuthenticator
from sluice_common.security.keys import refreshing
from sluice_common.security.keys.files import MAX_KEY_BYTES, FileKeys
from sluice_common.security.keys.issuer import IssuerKeys
from sluice_common.security.keys.refreshing import LoadedKeys
from sluice_common.security.opening import open_authenticator
from sluice_common.settings.security import Auth, AuthMode
from sluice_core.access.principal import LOCAL_PRINCIPAL
from sluice_core.configuration import ConfigurationError
from sluice_core.errors import SluiceError, Unavailable
from support import tokens
from support.identity_provider import DISCOVERY, JWKS, identity_provider
from support.tokens import NOW, DrivenClock, claims
from support.waiting import until

RSA, NEXT = tokens.rsa_key(), tokens.rsa_key("rsa-2")
SECRET = b"a secret of thirty-two bytes ..."


@asynccontextmanager
async def opened(
    clock: Callable[[], float] | None = None,
    registry: Registry | None = None,
    **auth: Any,
) -> AsyncIterator[Authenticator]:
    settings = Auth(mode=AuthMode.JWT, audience=tokens.AUDIENCE, **auth)
    async with open_authenticator(
        settings, registry or Registry(), clock=clock or DrivenClock()
    ) as authenticator:
        yield authenticator


async def outcome(authenticator: Authenticator, token: str) -> str:
    """Return the subject of a token, or the reason of its refusal."""
    try:
        return (await authenticator.authenticate(f"Bearer {token}")).subject
    except SluiceError as error:
        return error.reason


async def refused(**auth: Any) -> str:
    """Return the line with which a start fails."""
    with pytest.raises(ConfigurationError) as caught:
        async with opened(**auth):
            pass
    assert "\n" not in str(caught.value)
    return str(caught.value)


async def test_without_keys_everybody_is_the_local_principal() -> None:
    async with open_authenticator(Auth(), Registry()) as authenticator:
        assert isinstance(authenticator, LocalAuthenticator)
        assert await authenticator.authenticate(None) is LOCAL_PRINCIPAL


# -- files


@pytest.fixture
def fast_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FileKeys, "poll_seconds", 0.01)
    monkeypatch.setattr(FileKeys, "retry_seconds", 0.01)


async def test_key_file_is_read_again_when_it_changes(tmp_path: Path, fast_polls: None) -> None:
    """Replaced through a link, as Kubernetes does; the withdrawn key is refused from then on."""
    for name, key in (("first", RSA), ("second", NEXT)):
        (tmp_path / name).write_bytes(tokens.key_set(key))
    link = tmp_path / "keys.json"
    link.symlink_to("first")
    async with opened(jwks_file=link) as authenticator:
        old, new = RSA.token(claims()), NEXT.token(claims())
        assert await outcome(authenticator, old) == "ann"
        draft = tmp_path / "draft"
        draft.symlink_to("second")
        draft.replace(link)

        async def is_withdrawn() -> bool:
            return await outcome(authenticator, old) == "BAD_TOKEN"

        await until(is_withdrawn, what="the old key is withdrawn")
        assert await outcome(authenticator, new) == "ann"


async def test_new_key_of_a_file_counts_at_once(tmp_path: Path) -> None:
    """A token with an unknown key has the file read before the next poll."""
    file = tmp_path / "keys.json"
    file.write_bytes(tokens.key_set(RSA))
    async with opened(jwks_file=file) as authenticator:
        file.write_bytes(tokens.key_set(RSA, NEXT))
        assert await outcome(authenticator, NEXT.token(claims())) == "ann"


@pytest.mark.parametrize("content", [b"", b"{", b'{"keys": []}', b" " * (MAX_KEY_BYTES + 1), None])
async def test_bad_new_content_keeps_the_last_good_keys(
    tmp_path: Path, fast_polls: None, content: bytes | None
) -> None:
    file = tmp_path / "keys.json"
    file.write_bytes(tokens.key_set(RSA))
    registry = Registry()
    with capture_logs() as logs:
        async with opened(registry=registry, jwks_file=file) as authenticator:
            assert await outcome(authenticator, RSA.token(claims())) == "ann"
            if content is None:
                file.unlink()
            else:
                file.write_bytes(content)
            await until(
                lambda: (
                    (registry.get_sample_value("sluice_auth_keys_refresh_failures_total") or 0) > 2
                )
            )
            assert await outcome(authenticator, RSA.token(claims(sub="bob"))) == "bob"
    assert [line["event"] for line in logs] == ["auth_keys.refresh_failed"]
    assert str(file) in logs[0]["detail"]


@pytest.mark.parametrize("content", [None, b"", b"{}", b'{"keys": []}'])
async def test_start_without_a_usable_key_file_fails(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "keys.json"
    if content is not None:
        file.write_bytes(content)
    assert "SLUICE_AUTH__JWKS_FILE" in await refused(jwks_file=file)


async def test_file_that_blocks_its_reader_costs_one_thread(
    tmp_path: Path, fast_polls: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a network that hangs; here a pipe that nobody writes to."""
    file, reads = tmp_path / "keys.json", 0
    file.write_bytes(tokens.key_set(RSA))
    registry = Registry()

    def failures() -> float:
        return registry.get_sample_value("sluice_auth_keys_refresh_failures_total") or 0

    read = FileKeys._load

    def counted(self: FileKeys) -> LoadedKeys:
        nonlocal reads
        reads += 1
        return read(self)

    async with opened(registry=registry, jwks_file=file) as authenticator:
        monkeypatch.setattr(refreshing, "LOAD_SECONDS", 0.02)  # The start has to be given time.
        pipe, link, regular = (tmp_path / name for name in ("pipe", "link", "regular"))
        os.mkfifo(pipe)
        link.hardlink_to(pipe)
        link.replace(file)
        await until(lambda: failures() > 0)
        monkeypatch.setattr(FileKeys, "_load", counted)
        await until(lambda: failures() > 5)
        assert reads == 0, "the first reader still waits"
        assert await outcome(authenticator, RSA.token(claims())) == "ann"
        # Only then: no other reader may open the pipe.
        regular.write_bytes(tokens.key_set(NEXT))
        regular.replace(file)
        await asyncio.to_thread(pipe.write_bytes, tokens.key_set(NEXT))

        async def is_new() -> bool:
            return await outcome(authenticator, NEXT.token(claims())) == "ann"

        await until(is_new, what="the waiting reader has read the new keys")


async def test_secret_file_verifies_and_is_rotated(tmp_path: Path, fast_polls: None) -> None:
    file = tmp_path / "secret"
    file.write_bytes(SECRET + b"\n")
    async with opened(secret_file=file) as authenticator:
        token = tokens.hmac_key(SECRET).token(claims())
        assert await outcome(authenticator, token) == "ann"
        file.write_bytes(SECRET[::-1])

        async def is_withdrawn() -> bool:
            return await outcome(authenticator, token) == "BAD_TOKEN"

        await until(is_withdrawn, what="the old secret is withdrawn")


async def test_start_with_a_short_secret_fails_without_showing_it(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_bytes(b"hunter2")
    line = await refused(secret_file=file)
    assert "SLUICE_AUTH__SECRET_FILE" in line
    assert "32 bytes" in line
    assert "hunter2" not in line


# -- a provider


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(IssuerKeys, "retry_seconds", 0.01)


async def test_provider_is_discovered_once_for_many_tokens() -> None:
    with identity_provider(RSA) as provider:
        async with opened(issuer=provider.issuer) as authenticator:
            for number in range(20):
                token = RSA.token(provider.claims(NOW, sub=f"user-{number}"))
                assert await outcome(authenticator, token) == f"user-{number}"
        assert provider.requests == [DISCOVERY, JWKS]


async def test_token_of_another_issuer_is_refused_with_its_key() -> None:
    with identity_provider(RSA) as provider:
        async with opened(issuer=provider.issuer) as authenticator:
            token = RSA.token(provider.claims(NOW, iss="https://id.example"))
            assert await outcome(authenticator, token) == "BAD_TOKEN"


async def test_rotation_is_noticed_by_the_first_token_of_a_new_key() -> None:
    with identity_provider(RSA) as provider:
        async with opened(issuer=provider.issuer) as authenticator:
            old = RSA.token(provider.claims(NOW))
            assert await outcome(authenticator, old) == "ann"
            provider.keys = (NEXT,)
            assert await outcome(authenticator, NEXT.token(provider.claims(NOW))) == "ann"
            assert await outcome(authenticator, old) == "AUTH_KEYS_UNAVAILABLE", "rotated out"


async def test_new_key_is_not_refused_after_an_invented_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The search is rationed: a correct token has to wait, and is not called bad."""
    monkeypatch.setattr(IssuerKeys, "unknown_key_seconds", 1000.0)
    with identity_provider(RSA) as provider:
        async with opened(issuer=provider.issuer) as authenticator:
            forged = NEXT.token(provider.claims(NOW), kid="invented")
            assert await outcome(authenticator, forged) == "BAD_TOKEN"
            provider.keys = (RSA, NEXT)
            token = NEXT.token(provider.claims(NOW))
            with pytest.raises(Unavailable) as caught:
                await authenticator.authenticate(f"Bearer {token}")
            assert caught.value.reason == "AUTH_KEYS_UNAVAILABLE"
            assert caught.value.retry_after_seconds == pytest.approx(1000.0, abs=60.0)
            monkeypatch.setattr(IssuerKeys, "unknown_key_seconds", 0.0)
            assert await outcome(authenticator, token) == "ann"


async def test_invented_key_ids_cause_one_request() -> None:
    with identity_provider(RSA) as provider:
        async with opened(issuer=provider.issuer) as authenticator:
            for number in range(50):
                forged = NEXT.token(provider.claims(NOW), kid=f"invented-{number}")
                expected = "AUTH_KEYS_UNAVAILABLE" if number else "BAD_TOKEN"
                assert await outcome(authenticator, forged) == expected
        assert provider.key_requests == 2


async def test_keys_serve_while_the_provider_is_down(no_pauses: None) -> None:
    with identity_provider(RSA) as provider:
        registry = Registry()
        async with opened(registry=registry, issuer=provider.issuer) as authenticator:
            provider.status = 503
            unknown = NEXT.token(provider.claims(NOW))
            assert await outcome(authenticator, unknown) == "AUTH_KEYS_UNAVAILABLE"
            assert await outcome(authenticator, RSA.token(provider.claims(NOW))) == "ann"
            refreshed = "sluice_auth_keys_refreshed_timestamp_seconds"
            assert registry.get_sample_value(refreshed) == NOW
            assert registry.get_sample_value("sluice_auth_keys_refresh_failures_total") != 0
            # Its next load succeeds.
            provider.status, provider.keys = 200, (NEXT,)

            async def is_back() -> bool:
                return await outcome(authenticator, NEXT.token(provider.claims(NOW))) == "ann"

            await until(is_back, what="the keys are refreshed")


async def test_start_without_the_provider_refuses_until_it_answers() -> None:
    """Its outage is none of this server: the calls may be retried, and the start succeeds."""
    with identity_provider(RSA) as provider:
        provider.status = 500
        async with opened(issuer=provider.issuer) as authenticator:
            token = RSA.token(provider.claims(NOW))
            assert await outcome(authenticator, token) == "AUTH_KEYS_UNAVAILABLE"
            assert await outcome(authenticator, "rubbish") == "BAD_TOKEN"
            provider.status = 200

            async def is_there() -> bool:
                return await outcome(authenticator, token) == "ann"

            await until(is_there, what="the first keys are there")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (DISCOVERY, b"<html>"),
        (DISCOVERY, b"[]"),
        (JWKS, b"{}"),
        (JWKS, b"x" * (MAX_KEY_BYTES + 1)),
        (JWKS, tokens.key_set(more=({"kty": "oct", "k": tokens.encode(SECRET)},))),
    ],
)
async def test_unusable_answers_of_a_provider_leave_it_unavailable(path: str, body: bytes) -> None:
    with identity_provider(RSA) as provider:
        provider.answers[path] = body
        async with opened(issuer=provider.issuer) as authenticator:
            token = RSA.token(provider.claims(NOW))
            assert await outcome(authenticator, token) == "AUTH_KEYS_UNAVAILABLE"


async def test_secret_of_a_provider_signs_nothing() -> None:
    """Its key set is public."""
    shared = {"kty": "oct", "k": tokens.encode(SECRET), "kid": "shared", "use": "sig"}
    with identity_provider(RSA) as provider:
        provider.answers[JWKS] = tokens.key_set(RSA, more=(shared,))
        async with opened(issuer=provider.issuer) as authenticator:
            forged = tokens.hmac_key(SECRET, key_id="shared").token(provider.claims(NOW))
            assert await outcome(authenticator, forged) == "BAD_TOKEN"
            assert await outcome(authenticator, RSA.token(provider.claims(NOW))) == "ann"


async def test_discovery_of_another_issuer_fails_the_start() -> None:
    with identity_provider(RSA) as provider:
        provider.document["issuer"] = f"{provider.issuer}/"
        assert "SLUICE_AUTH__ISSUER" in await refused(issuer=provider.issuer)


async def test_provider_redirects_nowhere() -> None:
    with identity_provider(RSA) as provider, identity_provider(NEXT) as other:
        provider.status = 302
        provider.headers = {"location": f"{other.issuer}{JWKS}"}
        async with opened(issuer=provider.issuer) as authenticator:
            token = NEXT.token(provider.claims(NOW))
            assert await outcome(authenticator, token) == "AUTH_KEYS_UNAVAILABLE"
        assert other.requests == []


@pytest.mark.parametrize("address", ["http://keys.example/", "file:///etc/passwd", "ftp://a/", "x"])
async def test_keys_come_over_https_only(address: str) -> None:
    """Who can change them on their way can sign everything. Loopback is excepted."""
    assert "https" in await refused(issuer=address)
    with identity_provider(RSA) as provider:
        provider.document["jwks_uri"] = address
        with capture_logs() as logs:
            async with opened(issuer=provider.issuer) as authenticator:
                token = RSA.token(provider.claims(NOW))
                assert await outcome(authenticator, token) == "AUTH_KEYS_UNAVAILABLE"
        assert "https" in logs[0]["detail"]


@pytest.mark.parametrize(
    ("cache_control", "seconds"),
    [
        ("", 3600),
        ("public, max-age=600", 600),
        ("max-age=5", 60),
        ("max-age=86400, must-revalidate", 3600),
        ("no-store", 3600),
        ("max-age=x", 3600),
    ],
)
async def test_provider_sets_the_lifetime_within_bounds(cache_control: str, seconds: float) -> None:
    import aiohttp

    with identity_provider(RSA) as provider:
        provider.cache_control = cache_control
        async with aiohttp.ClientSession() as session:
            loaded = await IssuerKeys(provider.issuer, session).load()
    assert loaded.fresh_seconds == seconds * 0.8


async def test_slow_provider_blocks_nobody_else() -> None:
    """A token with a known key is verified while a refresh waits for the provider."""
    release = threading.Event()
    with identity_provider(RSA) as provider:
        async with opened(issuer=provider.issuer) as authenticator:
            provider.hold = release.wait
            try:
                async with asyncio.TaskGroup() as group:
                    forged = NEXT.token(provider.claims(NOW))
                    waiting = group.create_task(outcome(authenticator, forged))
                    await until(lambda: len(provider.requests) == 3)
                    assert await outcome(authenticator, RSA.token(provider.claims(NOW))) == "ann"
                    assert not waiting.done()
                    release.set()
            finally:
                release.set()
            assert waiting.result() == "BAD_TOKEN"
