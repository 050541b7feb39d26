"""`sluice serve --auth` and `sluice token create`: a key and tokens in the data directory."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc.aio
import pytest

from sluice.upload.v1 import upload_pb2 as pb
from sluice.upload.v1.upload_pb2_grpc import IntakeServiceStub
from sluice_backends.instruments import Registry
from sluice_common.rpc.errors import from_rpc_error
from sluice_common.security.opening import open_authenticator
from sluice_common.settings import load_settings
from sluice_core.access.principal import Principal
from sluice_core.configuration import ConfigurationError
from sluice_standalone.data_dir import open_data_dir, write_secret
from sluice_standalone.own_keys import with_own_keys
from sluice_standalone.token_command import parse_lifetime, token
from support.jwt_authenticator import bearer
from support.server import StandaloneServer
from support.tokens import NOW

DAY = 24 * 3600.0


def made(root: Path, now: float) -> tuple[str, str]:
    """Make what is missing; return the secret and the first token."""
    with open_data_dir(root) as data_dir:
        with_own_keys(load_settings(data_dir=root), data_dir, now)
        return data_dir.auth_secret.read_text(), data_dir.admin_token.read_text()


async def principal_of(root: Path, text: str, now: float) -> Principal:
    with open_data_dir(root) as data_dir:
        settings = with_own_keys(load_settings(data_dir=root), data_dir, now)
    async with open_authenticator(settings.auth, Registry(), clock=lambda: now) as authenticator:
        return await authenticator.authenticate(f"Bearer {text.strip()}")


async def test_first_token_is_an_administrators(tmp_path: Path) -> None:
    _, first = made(tmp_path, NOW)
    principal = await principal_of(tmp_path, first, NOW)
    assert principal == Principal(
        "default", "admin", frozenset({"tenant:admin"}), expires_at=NOW + 365 * DAY
    )


def test_key_and_token_are_private_and_kept(tmp_path: Path) -> None:
    """Whatever the umask of the process is."""
    before = os.umask(0)
    try:
        first = made(tmp_path, NOW)
    finally:
        os.umask(before)
    files = sorted((tmp_path / "auth").iterdir())
    assert [file.name for file in files] == ["admin.token", "secret"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert stat.S_IMODE((tmp_path / "auth").stat().st_mode) == 0o700
    assert made(tmp_path, NOW + 300 * DAY) == first


@pytest.mark.parametrize("name", ["secret", "admin.token"])
@pytest.mark.parametrize("mode", [0o644, 0o602])
def test_file_that_others_can_use_is_refused(tmp_path: Path, name: str, mode: int) -> None:
    first, file = made(tmp_path, NOW), tmp_path / "auth" / name
    file.chmod(mode)
    with pytest.raises(ConfigurationError, match="0600"):
        made(tmp_path, NOW)
    file.chmod(0o660)
    assert made(tmp_path, NOW) == first


def test_token_near_its_end_is_replaced(tmp_path: Path) -> None:
    secret, first = made(tmp_path, NOW)
    again, second = made(tmp_path, NOW + 340 * DAY)
    assert again == secret
    assert second != first


@pytest.mark.parametrize("content", ["", "rubbish", "a.b.c", "\x00"])
def test_damaged_token_is_replaced(tmp_path: Path, content: str) -> None:
    made(tmp_path, NOW)
    (tmp_path / "auth" / "admin.token").write_text(content)
    _, token = made(tmp_path, NOW)
    assert token.count(".") == 2


def test_new_secret_replaces_the_token(tmp_path: Path) -> None:
    secret, first = made(tmp_path, NOW)
    (tmp_path / "auth" / "secret").unlink()
    again, second = made(tmp_path, NOW)
    assert again != secret
    assert second != first


def test_unusable_secret_is_refused_and_kept(tmp_path: Path) -> None:
    """A new one would make every token that was handed out worthless."""
    made(tmp_path, NOW)
    (tmp_path / "auth" / "secret").write_text("hunter2")
    with pytest.raises(ConfigurationError, match="32 bytes") as caught:
        made(tmp_path, NOW)
    assert "hunter2" not in str(caught.value)
    assert (tmp_path / "auth" / "secret").read_text() == "hunter2"


def test_rest_of_a_killed_start_does_no_harm(tmp_path: Path) -> None:
    """It may have any content and mode."""
    (tmp_path / "auth").mkdir(parents=True)
    draft = tmp_path / "auth" / "secret.new"
    draft.write_text("half")
    draft.chmod(0o666)
    write_secret(tmp_path / "auth" / "secret", "whole")
    assert (tmp_path / "auth" / "secret").read_text() == "whole"
    assert stat.S_IMODE((tmp_path / "auth" / "secret").stat().st_mode) == 0o600
    assert not draft.exists()


def test_configured_keys_and_own_ones_exclude_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLUICE_AUTH__MODE", "jwt")
    monkeypatch.setenv("SLUICE_AUTH__AUDIENCE", "sluice")
    monkeypatch.setenv("SLUICE_AUTH__SECRET_FILE", str(tmp_path / "secret"))
    with pytest.raises(ConfigurationError, match="--auth"):
        made(tmp_path, NOW)
    assert not (tmp_path / "auth").exists()


# -- sluice token create


async def test_created_token_says_what_was_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    now = time.time()
    made(tmp_path, now)
    arguments = "--tenant acme --subject ann --scope uploads:write --scope nodes:read"
    more = "--lifetime 15m --drive photos --drive raw-* --group staff"
    parts = ["create", "--data-dir", str(tmp_path), *arguments.split(), *more.split()]
    assert token(parts) == 0
    principal = await principal_of(tmp_path, capsys.readouterr().out, now)
    assert principal.expires_at == pytest.approx(now + 900, abs=60)
    assert principal == Principal(
        "acme",
        "ann",
        frozenset({"uploads:write", "nodes:read"}),
        ("photos", "raw-*"),
        frozenset({"staff"}),
        principal.expires_at,
    )


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        (["--tenant", "a/b"], "tenant"),
        (["--subject", "a\nb"], "subject"),
        (["--drive", ""], "drive"),
    ],
)
def test_token_that_the_server_would_refuse_is_not_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changes: list[str], part: str
) -> None:
    made(tmp_path, time.time())
    given = ["--data-dir", str(tmp_path), "--subject", "ann", "--scope", "nodes:read"]
    assert token(["create", *given, *changes]) == 78
    captured = capsys.readouterr()
    assert part in captured.err
    assert captured.out == ""


def test_token_without_a_key_says_how_to_make_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["--data-dir", str(tmp_path), "--subject", "ann", "--scope", "nodes:read"]
    assert token(["create", *given]) == 78
    assert "sluice serve --auth" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("15m", 900), ("12h", 43200), ("30d", 2592000)]
)
def test_lifetimes_have_units(text: str, seconds: float) -> None:
    assert parse_lifetime(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "-1", "1w", "1.5h", "3651d", "1h30m", "٣"])
def test_other_lifetimes_are_refused(text: str) -> None:
    with pytest.raises(Exception, match="lifetime"):
        parse_lifetime(text)


# -- the process


@contextmanager
def served(data_dir: Path) -> Iterator[StandaloneServer]:
    server = StandaloneServer(data_dir, arguments=("--auth",))
    server.start()
    try:
        yield server
    finally:
        server.close()


def created_token(data_dir: Path) -> str:
    """Return a token that the installed command makes."""
    return subprocess.run(
        [
            *(sys.executable, "-m", "sluice_client.cli", "token", "create"),
            *("--data-dir", str(data_dir), "--subject", "ann", "--scope", "uploads:read"),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout.strip()


async def limits(address: str, credentials: str | None) -> str:
    """Call the server; return the reason of its refusal, or an empty text."""
    async with grpc.aio.insecure_channel(address) as channel:
        try:
            await IntakeServiceStub(channel).GetLimits(
                pb.GetLimitsRequest(), metadata=bearer(credentials) if credentials else ()
            )
        except grpc.aio.AioRpcError as error:
            return from_rpc_error(error).reason
    return ""


@pytest.mark.slow
async def test_served_with_keys_it_requires_their_tokens(tmp_path: Path) -> None:
    """Over a restart, by the printed token, and by one that the command makes."""
    data_dir = tmp_path / "data"
    with served(data_dir) as server:
        first = (data_dir / "auth" / "admin.token").read_text().strip()
        assert str(data_dir / "auth" / "admin.token") in server.log_tail()
        assert first not in server.log_tail()
        assert await limits(server.address, None) == "NO_CREDENTIALS"
        assert await limits(server.repository_address, first) == ""
        assert await limits(server.address, first[:-4]) == "BAD_TOKEN"
    with served(data_dir) as server:
        assert await limits(server.address, first) == ""
        made_token = created_token(data_dir)
        assert await limits(server.address, made_token) == ""
        assert made_token not in server.log_tail()
