"""`sluice-gateway user` beside a gateway that serves the same catalogue."""

from __future__ import annotations

import asyncio
import os
import pty
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from sluice_core.ports.audit import AuditFilter
from support.environment import process_environment
from support.gateway import ANN, Gateway

COMMAND_SECONDS = 60.0
NEW = {**ANN, "password": "another horse"}


async def run_user(
    folder: Path,
    *arguments: str,
    stdin: bytes = b"",
    settings: Mapping[str, str] = MappingProxyType({}),
) -> tuple[int, str]:
    """Run the command; return its exit code, and what it printed."""
    ended = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "sluice_gateway", "user", *arguments],
        env=process_environment({"SLUICE_DATA_DIR": str(folder), **settings}),
        capture_output=True,
        timeout=COMMAND_SECONDS,
        check=False,
        input=stdin,
    )
    printed = (ended.stdout + ended.stderr).decode()
    assert "Traceback" not in printed, printed
    return ended.returncode, printed


def on_terminal(folder: Path, answers: Sequence[str]) -> int:
    """Set a password on a terminal, one answer for each question; return the exit code."""
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "sluice_gateway", "user", "password", "ann@example.com"],
            env=process_environment({"SLUICE_DATA_DIR": str(folder)}),
            stdin=theirs,
            stderr=theirs,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # without the terminal of whoever runs the tests
        )
        shown = b""
        for number, answer in enumerate(answers, start=1):
            while shown.count(b": ") < number:
                shown += os.read(ours, 1024)
            os.write(ours, f"{answer}\n".encode())
        code = process.wait(COMMAND_SECONDS)
        assert b"horse" not in shown, "the terminal shows no password"
        return code
    finally:
        os.close(ours)
        os.close(theirs)


async def is_refreshed(gateway: Gateway, session: Any) -> bool:
    reply = await gateway.post("/api/auth/refresh", {"refreshToken": session["refreshToken"]})
    assert reply.status == 200 or reply.reason == "SESSION_ENDED"
    return reply.status == 200


async def test_disabled_user_loses_sessions_and_log_ins(gateway: Gateway, tmp_path: Path) -> None:
    session = await gateway.register()
    user_id = session["user"]["userId"]
    done = await run_user(tmp_path, "disable", "Ann@Example.com")
    assert done == (0, f"ann@example.com ({user_id}): disabled, all sessions have ended\n")
    assert not await is_refreshed(gateway, session)
    assert (await gateway.post("/api/auth/login", ANN)).reason == "WRONG_CREDENTIALS"
    assert (await run_user(tmp_path, "enable", "ann@example.com"))[0] == 0
    assert not await is_refreshed(gateway, session)
    assert (await gateway.post("/api/auth/login", ANN)).status == 200
    page = await gateway.catalogue.list_audit(user_id, 10, None, AuditFilter())
    found = [(each.action, each.subject, each.object) for each in reversed(page.entries)]
    by_operator = [(name, "", f"user/{user_id}") for name in ("DisableUser", "EnableUser")]
    assert found[2:4] == by_operator


async def test_sessions_of_a_user_are_ended(gateway: Gateway, tmp_path: Path) -> None:
    session = await gateway.register()
    assert (await run_user(tmp_path, "end-sessions", "ann@example.com"))[0] == 0
    assert not await is_refreshed(gateway, session)
    assert (await gateway.post("/api/auth/login", ANN)).status == 200


async def test_password_is_read_from_standard_input(gateway: Gateway, tmp_path: Path) -> None:
    session = await gateway.register()
    code, printed = await run_user(
        tmp_path, "password", "ann@example.com", stdin=b"another horse\n"
    )
    assert (code, "another horse" in printed) == (0, False)
    assert not await is_refreshed(gateway, session)
    assert (await gateway.post("/api/auth/login", ANN)).reason == "WRONG_CREDENTIALS"
    assert (await gateway.post("/api/auth/login", NEW)).status == 200


@pytest.mark.parametrize(
    ("second", "code", "reason"),
    [("another horse", 0, ""), ("other horse", 2, "WRONG_CREDENTIALS")],
)
async def test_password_is_asked_twice_on_a_terminal(
    gateway: Gateway, tmp_path: Path, second: str, code: int, reason: str
) -> None:
    await gateway.register()
    assert await asyncio.to_thread(on_terminal, tmp_path, ["another horse", second]) == code
    reply = await gateway.post("/api/auth/login", NEW)
    assert (reply.reason if reply.status >= 400 else "") == reason


@pytest.mark.parametrize(
    ("arguments", "stdin", "code", "said"),
    [
        (("disable", "bob@example.com"), b"", 1, "No user has this email address"),
        (("disable", "bob"), b"", 2, "This is no email address"),
        (("password", "ann@example.com"), b"short\n", 2, "A password has at least 8"),
        (("password", "ann@example.com"), b"", 2, "standard input has no password"),
        (("forget", "ann@example.com"), b"", 2, "invalid choice"),
    ],
)
async def test_user_command_that_cannot_be_done_says_why(
    gateway: Gateway,
    tmp_path: Path,
    arguments: tuple[str, ...],
    stdin: bytes,
    code: int,
    said: str,
) -> None:
    session = await gateway.register()
    ended, printed = await run_user(tmp_path, *arguments, stdin=stdin)
    assert (ended, said in printed) == (code, True), printed
    assert await is_refreshed(gateway, session), "nothing was done"


async def test_users_of_another_issuer_are_not_here(gateway: Gateway, tmp_path: Path) -> None:
    foreign = {
        "SLUICE_AUTH__MODE": "jwt",
        "SLUICE_AUTH__ISSUER": "https://id.example.com",
        "SLUICE_AUTH__AUDIENCE": "sluice",
    }
    ended, printed = await run_user(tmp_path, "disable", "ann@example.com", settings=foreign)
    assert (ended, "SLUICE_AUTH__ISSUER" in printed) == (78, True), printed
