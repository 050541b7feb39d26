"""The audit log of sessions: who logged in and out, and who was refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sluice_core.ports.audit import AuditFilter
from sluice_gateway.auth.first_user import link_for_first_user
from sluice_gateway.http.audited_refusals import AUDITED_ROUTES
from support.gateway import ANN, BOB, Gateway, running_gateway
from support.waiting import until

Entries = list[tuple[str, str]]


@pytest.fixture
async def keyed(tmp_path: Path) -> AsyncIterator[Gateway]:
    """A gateway that requires tokens."""
    async with running_gateway(
        tmp_path,
        change=lambda options: replace(options, is_keyless=False, loopback_names_only=False),
    ) as running:
        yield running


async def entries_of(gateway: Gateway, user_id: str) -> Entries:
    """Return action and outcome of a user's entries, oldest first."""
    page = await gateway.catalogue.list_audit(user_id, 50, None, AuditFilter())
    assert {entry.subject for entry in page.entries} == {user_id}
    return [(each.action, each.outcome) for each in reversed(page.entries)]


async def refreshed(gateway: Gateway, session: Any) -> Any:
    return await gateway.post("/api/auth/refresh", {"refreshToken": session["refreshToken"]})


async def test_sessions_are_in_the_audit_log(gateway: Gateway) -> None:
    """A second log-out ends nothing and leaves no entry, nor does a refresh."""
    user_id = (await gateway.register())["user"]["userId"]
    session = (await gateway.post("/api/auth/login", ANN)).json()
    session = (await refreshed(gateway, session)).json()
    body = {"refreshToken": session["refreshToken"]}
    for _ in range(2):
        assert (await gateway.post("/api/auth/logout", body)).status == 204
    assert await entries_of(gateway, user_id) == [
        ("CreateDrive", "OK"), ("Register", "OK"), ("LogIn", "OK"), ("LogOut", "OK"),
    ]  # fmt: skip


async def test_entry_of_a_login_says_where_from(gateway: Gateway) -> None:
    user_id = (await gateway.register())["user"]["userId"]
    reply = await gateway.post("/api/auth/login", ANN)
    page = await gateway.catalogue.list_audit(user_id, 1, None, AuditFilter())
    [entry] = page.entries
    assert entry.action == "LogIn"
    assert entry.request_id == reply.headers["x-request-id"]
    assert entry.peer == "127.0.0.1"


async def test_reused_refresh_token_is_in_the_audit_log(gateway: Gateway) -> None:
    """Once: what comes later meets a session that has ended."""
    session = await gateway.register()
    following = (await refreshed(gateway, session)).json()
    assert (await refreshed(gateway, following)).status == 200
    for _ in range(2):
        assert (await refreshed(gateway, session)).reason == "SESSION_ENDED"
    found = await entries_of(gateway, session["user"]["userId"])
    assert found[2:] == [("RefreshSession", "REFRESH_TOKEN_REUSED")]


async def test_login_by_link_is_in_the_audit_log(gateway: Gateway) -> None:
    assert gateway.deps.accounts is not None
    link = await link_for_first_user(gateway.deps.accounts)
    session = (await gateway.post("/api/auth/link", {"link": link})).json()
    found = await entries_of(gateway, session["user"]["userId"])
    assert found == [("CreateDrive", "OK"), ("LogInByLink", "OK")]


@pytest.mark.parametrize(
    ("path", "body", "action", "outcome"),
    [
        ("login", BOB, "LogIn", "WRONG_CREDENTIALS"),
        ("login", {**ANN, "password": "wrong horse"}, "LogIn", "WRONG_CREDENTIALS"),
        ("link", {"link": "slk_made-up"}, "LogInByLink", "LINK_ENDED"),
        ("refresh", {"refreshToken": "srt_made-up"}, "RefreshSession", "SESSION_ENDED"),
    ],
)
async def test_refused_sessions_go_to_the_audit_log(
    gateway: Gateway, path: str, body: dict[str, str], action: str, outcome: str
) -> None:
    """Without tenant and subject, as the email is somebody's, and nothing else is known."""
    await gateway.register()
    reply = await gateway.post(f"/api/auth/{path}", body)
    assert reply.status == 401
    [entry] = gateway.refusals
    assert (entry.tenant, entry.subject, entry.object) == ("", "", "")
    assert (entry.action, entry.outcome, entry.peer) == (action, outcome, "127.0.0.1")
    assert entry.request_id == reply.headers["x-request-id"]


async def test_imitated_registration_is_a_refused_login(gateway: Gateway) -> None:
    """Its answer is 201: only the log says that somebody guessed the password of an account."""
    await gateway.register()
    reply = await gateway.post("/api/auth/register", {**ANN, "password": "wrong horse"})
    assert reply.status == 201
    [entry] = gateway.refusals
    assert (entry.tenant, entry.subject) == ("", "")
    assert (entry.action, entry.outcome) == ("LogIn", "WRONG_CREDENTIALS")


@pytest.mark.parametrize(
    "path", ["/api/auth/me", "/queries/photos", "/queries/upload-jobs/j/events"]
)
async def test_refused_tokens_go_to_the_audit_log(keyed: Gateway, path: str) -> None:
    for token, reason in ((None, "NO_CREDENTIALS"), ("made-up", "BAD_TOKEN")):
        assert (await keyed.get(path, token)).status == 401
        entry = keyed.refusals.pop()
        assert (entry.tenant, entry.action, entry.outcome) == ("", "Authenticate", reason)
    assert not keyed.refusals


async def test_refused_token_of_stomp_goes_to_the_audit_log(gateway: Gateway) -> None:
    async with gateway.http.ws_connect(f"{gateway.url}/ws") as socket:
        await socket.send_str("CONNECT\naccept-version:1.2\nhost:x\nauthorization:Bearer no\n\n\0")
        assert "BAD_TOKEN" in await socket.receive_str()
        await socket.close()
    await until(lambda: bool(gateway.refusals), 5, "the refusal is recorded")
    [entry] = gateway.refusals
    assert (entry.action, entry.outcome, entry.peer) == ("Authenticate", "BAD_TOKEN", "127.0.0.1")


async def test_refused_commands_go_to_the_audit_log(gateway: Gateway) -> None:
    """With the verified caller, whose administrator sees them, and the photo in the path."""
    session = await gateway.register()
    user_id, photo = session["user"]["userId"], "0" * 32
    bearer = f"Bearer {session['token']}"
    reply = await gateway.post(f"/commands/upload/{photo}/renew", {}, authorization=bearer)
    assert reply.reason == "PHOTO_NOT_FOUND"
    [entry] = gateway.refusals
    assert (entry.tenant, entry.subject) == (user_id, user_id)
    assert (entry.action, entry.outcome) == ("RenewUploadUrl", "PHOTO_NOT_FOUND")
    assert entry.object == f"photo/{photo}"
    assert entry.request_id == reply.headers["x-request-id"]


async def test_refused_commands_name_no_invalid_photo(gateway: Gateway) -> None:
    """What a stranger puts into the path is no text for the log."""
    session = await gateway.register()
    bearer = f"Bearer {session['token']}"
    reply = await gateway.post("/commands/upload/ann@example.com/cancel", {}, authorization=bearer)
    assert reply.reason == "BAD_PHOTO_ID"
    [entry] = gateway.refusals
    assert (entry.action, entry.object) == ("CancelPhoto", "")


async def test_audited_routes_exist(gateway: Gateway) -> None:
    """A renamed route would leave the log without anybody noticing."""
    paths = (await gateway.get("/openapi.json")).json()["paths"]
    for method, path in AUDITED_ROUTES:
        assert method.lower() in paths[path]


async def test_other_errors_are_not_in_the_audit_log(gateway: Gateway) -> None:
    session = await gateway.register()
    assert (await gateway.get("/queries/photos/none", session["token"])).status in (404, 422)
    assert (await gateway.post("/api/auth/login", {})).reason == "INVALID_REQUEST"
    assert not gateway.refusals
