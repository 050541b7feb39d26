"""Registration, log-in, refresh and log-out over HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sluice_common.security.compact import parse_compact
from sluice_core.ports.audit import AuditFilter
from sluice_core.ports.users import UserStatus
from sluice_gateway.auth.access_tokens import USER_SCOPES
from support.gateway import ANN, BOB, Gateway


async def test_register_opens_a_session(gateway: Gateway) -> None:
    session = await gateway.register()
    user = session["user"]
    assert user["email"] == ANN["email"]
    assert user["tenant"] == user["userId"]
    assert session["expiresIn"] == 900
    drive = await gateway.catalogue.get_drive(user["userId"], "photos")
    assert (drive.bucket, drive.key_prefix) == ("sluice", "local/")
    me = await gateway.get("/api/auth/me", session["token"])
    assert me.status == 200
    assert me.json() == user


async def test_access_token_says_what_services_need(gateway: Gateway) -> None:
    session = await gateway.register()
    token = parse_compact(session["token"].encode())
    claims = token.claims()
    assert token.algorithm == "EdDSA"
    assert claims["iss"] == gateway.url
    assert claims["aud"] == "sluice"
    assert claims["sub"] == claims["tenant"] == session["user"]["userId"]
    assert claims["exp"] - claims["iat"] == 900
    assert set(claims["scope"].split()) == set(USER_SCOPES)
    assert "tenant:admin" not in claims["scope"]


async def test_login_opens_a_session_of_the_same_user(gateway: Gateway) -> None:
    registered = await gateway.register()
    shouted = {**ANN, "email": " ANN@Example.com "}
    for credentials in (ANN, shouted):
        reply = await gateway.post("/api/auth/login", credentials)
        assert reply.status == 200
        assert reply.json()["user"] == registered["user"]


@pytest.mark.parametrize(
    "credentials",
    [BOB, {**ANN, "password": "wrong horse"}, {**BOB, "password": ANN["password"]}],
    ids=["unknown-email", "wrong-password", "password-of-another"],
)
async def test_refused_login_does_not_tell_why(
    gateway: Gateway, credentials: dict[str, str]
) -> None:
    await gateway.register()
    reply = await gateway.post("/api/auth/login", credentials)
    assert (reply.status, reply.reason) == (401, "WRONG_CREDENTIALS")
    document = reply.json()
    varying = {"requestId", "traceId"}
    assert {key: value for key, value in document.items() if key not in varying} == {
        "type": "urn:sluice:reason:WRONG_CREDENTIALS",
        "title": "Unauthorized",
        "status": 401,
        "reason": "WRONG_CREDENTIALS",
        "detail": "Email or password is wrong; correct them, or register.",
    }


async def test_deactivated_user_has_no_access(gateway: Gateway) -> None:
    session = await gateway.register()
    await gateway.catalogue.set_user_status(session["user"]["userId"], UserStatus.DISABLED)
    assert (await gateway.post("/api/auth/login", ANN)).reason == "WRONG_CREDENTIALS"
    assert (await gateway.get("/api/auth/me", session["token"])).reason == "BAD_TOKEN"
    refreshed = await _refresh(gateway, session["refreshToken"])
    assert refreshed.reason == "SESSION_ENDED"


async def test_registration_repeated_is_a_login(gateway: Gateway) -> None:
    """A client whose answer was lost repeats its call."""
    first = await gateway.register()
    again = await gateway.register()
    assert again["user"] == first["user"]
    assert (await gateway.get("/api/auth/me", again["token"])).status == 200


async def test_registration_of_a_known_email_opens_nothing(gateway: Gateway) -> None:
    """The answer has the form of a real one, and no token in it works."""
    real = await gateway.register()
    fake = await gateway.register({**ANN, "password": "guessed password"})
    assert _form(fake) == _form(real)
    header, imitated = (parse_compact(each["token"].encode()) for each in (real, fake))
    assert header.key_id == imitated.key_id
    assert fake["user"]["userId"] != real["user"]["userId"]
    assert await gateway.catalogue.get_user(fake["user"]["userId"]) is None
    assert (await gateway.get("/api/auth/me", fake["token"])).reason == "BAD_TOKEN"
    assert (await _refresh(gateway, fake["refreshToken"])).reason == "SESSION_ENDED"
    assert (await gateway.post("/api/auth/login", ANN)).status == 200
    found = await gateway.catalogue.find_user(ANN["email"])
    assert found is not None
    assert found.user_id == real["user"]["userId"]


def _form(value: Any) -> Any:
    """Return the shape of an answer: its members, and the lengths of its texts."""
    if isinstance(value, dict):
        return {key: _form(inner) for key, inner in value.items()}
    return len(value) if isinstance(value, str) else type(value)


async def test_concurrent_registrations_make_one_user(gateway: Gateway) -> None:
    sessions = await asyncio.gather(*(gateway.register() for _ in range(8)))
    assert len({each["user"]["userId"] for each in sessions}) == 1
    for session in sessions:
        assert (await gateway.get("/api/auth/me", session["token"])).status == 200


async def test_refresh_rotates_both_tokens(gateway: Gateway) -> None:
    first = await gateway.register()
    second = (await _refresh(gateway, first["refreshToken"])).json()
    assert second["refreshToken"] != first["refreshToken"]
    assert second["token"] != first["token"]
    assert second["user"] == first["user"]
    assert (await _refresh(gateway, second["refreshToken"])).status == 200


async def test_refresh_whose_answer_was_lost_is_repeated(gateway: Gateway) -> None:
    """As by a page that is reloaded before it has stored its new tokens."""
    first = await gateway.register()
    lost = (await _refresh(gateway, first["refreshToken"])).json()
    again = (await _refresh(gateway, first["refreshToken"])).json()
    assert again["refreshToken"] != lost["refreshToken"]
    assert again["user"] == first["user"]
    assert (await gateway.get("/api/auth/me", again["token"])).status == 200
    assert (await _refresh(gateway, again["refreshToken"])).status == 200


async def test_reused_refresh_token_revokes_its_family(gateway: Gateway) -> None:
    first = await gateway.register()
    other = (await gateway.post("/api/auth/login", ANN)).json()
    second = (await _refresh(gateway, first["refreshToken"])).json()
    third = (await _refresh(gateway, second["refreshToken"])).json()
    reused = await _refresh(gateway, first["refreshToken"])
    assert (reused.status, reused.reason) == (401, "SESSION_ENDED")
    assert (await _refresh(gateway, third["refreshToken"])).reason == "SESSION_ENDED"
    assert (await _refresh(gateway, other["refreshToken"])).status == 200, "another family"


@pytest.mark.parametrize(
    "token", ["", "srt_short", "srt_" + "A" * 43, "ü" * 40, "srt_" + "A" * 43 + "\x00"]
)
async def test_unknown_refresh_token_is_refused(gateway: Gateway, token: str) -> None:
    assert (await _refresh(gateway, token)).reason == "SESSION_ENDED"


async def test_logout_ends_the_session(gateway: Gateway) -> None:
    first = await gateway.register()
    second = (await _refresh(gateway, first["refreshToken"])).json()
    for _ in range(2):
        reply = await gateway.post("/api/auth/logout", {"refreshToken": first["refreshToken"]})
        assert (reply.status, reply.content) == (204, b"")
    assert (await _refresh(gateway, second["refreshToken"])).reason == "SESSION_ENDED"
    unknown = await gateway.post("/api/auth/logout", {"refreshToken": "srt_" + "B" * 43})
    assert unknown.status == 204


async def test_catalogue_keeps_neither_password_nor_token(gateway: Gateway) -> None:
    session = await gateway.register()
    user = await gateway.catalogue.find_user(ANN["email"])
    assert user is not None
    assert user.password_hash.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    files = list(gateway.database.parent.glob(f"{gateway.database.name}*"))
    stored = b"".join(file.read_bytes() for file in files)
    assert user.password_hash.encode() in stored
    for secret in (session["refreshToken"], session["token"], ANN["password"]):
        assert secret.encode() not in stored


async def test_login_completes_an_interrupted_registration(gateway: Gateway) -> None:
    """A kill between user and drive leaves a user without a drive."""
    accounts = gateway.deps.accounts
    assert accounts is not None
    password_hash = await accounts.passwords.hash(ANN["password"].encode())
    assert await gateway.catalogue.add_user("usr_1", ANN["email"], password_hash)
    for path in ("/api/auth/login", "/api/auth/register"):
        assert (await gateway.post(path, ANN)).status in (200, 201)
        assert (await gateway.catalogue.get_drive("usr_1", "photos")).key_prefix == "local/"
        await gateway.catalogue.delete_drive("usr_1", "photos")


async def test_home_is_in_the_audit_log(gateway: Gateway) -> None:
    session = await gateway.register()
    user_id = session["user"]["userId"]
    page = await gateway.catalogue.list_audit(user_id, 10, None, AuditFilter())
    found = [(each.action, each.object) for each in page.entries]
    assert found == [("Register", ""), ("CreateDrive", "drive/photos")]


@pytest.mark.parametrize(
    ("body", "reason", "field"),
    [
        ({**ANN, "password": "1234567"}, "BAD_PASSWORD", "password"),
        ({**ANN, "password": "p" * 1025}, "INVALID_REQUEST", "password"),
        ({**ANN, "password": "ü" * 1000}, "BAD_PASSWORD", "password"),
        ({**ANN, "email": "nobody"}, "BAD_EMAIL", "email"),
        ({**ANN, "email": "a@b@c.example"}, "BAD_EMAIL", "email"),
        ({**ANN, "email": "a\x00@example.com"}, "BAD_EMAIL", "email"),
        ({**ANN, "email": "a\u202e@example.com"}, "BAD_EMAIL", "email"),
        ({**ANN, "email": f"{'a' * 250}@example.com"}, "BAD_EMAIL", "email"),
        ({"email": ANN["email"]}, "INVALID_REQUEST", "password"),
        ({**ANN, "email": 7}, "INVALID_REQUEST", "email"),
        ({**ANN, "role": "admin"}, "INVALID_REQUEST", "role"),
        ([ANN], "INVALID_REQUEST", "body"),
    ],
)
async def test_invalid_credentials_are_named(
    gateway: Gateway, body: Any, reason: str, field: str
) -> None:
    for path in ("/api/auth/register", "/api/auth/login"):
        reply = await gateway.post(path, body)
        assert (reply.status, reply.reason) == (422, reason)
        assert [each["field"] for each in reply.json()["errors"]] == [field]
        assert "correct horse" not in reply.content.decode()


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("Basic YTpi", "BAD_TOKEN"),
        ("Bearer ", "BAD_TOKEN"),
        ("Bearer a.b.c", "BAD_TOKEN"),
        ("Bearer " + "a" * 13_000, "BAD_TOKEN"),
    ],
)
async def test_bad_token_is_refused(gateway: Gateway, header: str, reason: str) -> None:
    reply = await gateway.call("GET", "/api/auth/me", headers={"authorization": header})
    assert (reply.status, reply.reason) == (401, reason)
    assert reply.headers["www-authenticate"] == 'Bearer realm="sluice", error="invalid_token"'


async def test_two_authorization_headers_are_refused(gateway: Gateway) -> None:
    token = (await gateway.register())["token"]
    headers = [("authorization", f"Bearer {token}")] * 2
    reply = await gateway.call("GET", "/api/auth/me", headers=headers)
    assert (reply.status, reply.reason) == (401, "AMBIGUOUS_CREDENTIALS")


async def test_keyless_caller_is_the_local_principal(gateway: Gateway) -> None:
    reply = await gateway.get("/api/auth/me")
    assert reply.json()["userId"] == "local"
    assert reply.json()["email"] is None
    access = await gateway.get("/api/auth/access")
    assert access.json() == {"needsToken": False, "hasAccounts": True}


async def _refresh(gateway: Gateway, token: str) -> Any:
    return await gateway.post("/api/auth/refresh", {"refreshToken": token})
