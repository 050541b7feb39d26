"""Tokens and TLS of the command: options, settings, exit codes, and what is never printed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from typer.testing import CliRunner

from sluice_client.cli.app import app
from sluice_client.cli.exits import ConfigurationError
from sluice_client.cli.security import SecurityArguments
from sluice_client.cli.security_settings import find_security
from support.certificates import DAY, Authority, TlsPaths, write_tls
from support.command import Command
from support.fake_intake import FakeIntake
from support.fake_repository import FakeRepository, serving_both
from support.token_table import TokenTable

SECRET = "eyJhbGciOiJIUzI1NiJ9.c2VjcmV0.c2lnbmF0dXJl"


@dataclass(frozen=True, slots=True)
class Secured:
    """The command, and a server with mTLS that knows the token `SECRET`."""

    command: Command
    target: str
    paths: TlsPaths
    table: TokenTable
    token_file: Path


@pytest.fixture
async def secured(
    intake: FakeIntake, repository: FakeRepository, tmp_path: Path, _interrupts: None
) -> AsyncIterator[Secured]:
    authority = Authority()
    paths = write_tls(tmp_path / "tls", authority, authority.issue())
    issued = authority.issue()
    credentials = grpc.ssl_server_credentials(
        [(issued.key, issued.cert)], root_certificates=authority.pem, require_client_auth=True
    )
    table = TokenTable(SECRET)
    token_file = tmp_path / "token"
    token_file.write_text(f"{SECRET}\n")
    async with serving_both(
        intake, repository, credentials=credentials, interceptors=[table]
    ) as address:
        target = f"https://{address}"
        yield Secured(Command(target, tmp_path), target, paths, table, token_file)


def options(paths: TlsPaths) -> list[str]:
    return ["--ca", str(paths.ca), "--cert", str(paths.cert), "--key", str(paths.key)]


def settings(paths: TlsPaths) -> dict[str, Any]:
    return {
        "SLUICE_CA_FILE": str(paths.ca),
        "SLUICE_CERT_FILE": str(paths.cert),
        "SLUICE_KEY_FILE": str(paths.key),
    }


async def test_options_secure_the_connection(secured: Secured, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 300_000)
    where = [*options(secured.paths), "--token-file", str(secured.token_file)]
    outcome = await secured.command("upload", tmp_path / "file", "--drive", "d", *where)
    assert outcome.code == 0, outcome.err
    outcome = await secured.command(*where, "drive", "list")
    assert (outcome.code, outcome.err) == (0, "")
    assert {token for _, token in secured.table.calls} == {SECRET}


async def test_settings_secure_the_connection(secured: Secured) -> None:
    outcome = await secured.command(
        "drive",
        "list",
        **settings(secured.paths),
        SLUICE_TOKEN_FILE=str(secured.token_file),
    )
    assert (outcome.code, outcome.err) == (0, "")
    outcome = await secured.command(
        "drive", "list", **settings(secured.paths), SLUICE_TOKEN=f"{SECRET}\n"
    )
    assert (outcome.code, outcome.err) == (0, "")


async def test_upload_goes_on_with_a_rewritten_token_file(
    secured: Secured, intake: FakeIntake, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(b"x" * 500_000)

    def rotate() -> None:
        secured.token_file.write_text("next")
        secured.table.valid = {"next"}

    secured.table.on_expiry = rotate
    secured.table.expire_at["UploadStream"] = 2
    outcome = await secured.command(
        "upload",
        tmp_path / "file",
        "--drive",
        "d",
        "--token-file",
        secured.token_file,
        **settings(secured.paths),
    )
    assert outcome.code == 0, outcome.err
    assert intake.completed[0].data == b"x" * 500_000
    assert intake.resent == []


@pytest.mark.parametrize("reason", ["BAD_TOKEN", "TOKEN_EXPIRED"])
async def test_refused_token_exits_77_and_is_not_printed(secured: Secured, reason: str) -> None:
    if reason == "TOKEN_EXPIRED":
        secured.table.expire()
    secured.table.valid.clear()
    outcome = await secured.command(
        "ls", "d:", "--json", SLUICE_TOKEN=SECRET, **settings(secured.paths)
    )
    assert outcome.code == 77
    assert f"[{reason}]" in outcome.err
    assert outcome.lines[-1]["reason"] == reason
    assert SECRET not in outcome.err + outcome.out.decode()
    assert secured.table.calls["ListNodes", SECRET] == 1


@pytest.mark.parametrize(
    ("kind", "code", "reason"),
    [
        ("system ca", 78, "SERVER_NOT_TRUSTED"),
        ("plain address", 78, "TLS_REQUIRED"),
        ("no certificate", 77, "CLIENT_CERTIFICATE_REFUSED"),
    ],
)
async def test_failure_of_tls_is_one_line(
    secured: Secured, kind: str, code: int, reason: str
) -> None:
    environment: dict[str, Any] = {"SLUICE_CA_FILE": str(secured.paths.ca)}
    if kind == "system ca":
        environment = {}
    if kind == "plain address":
        environment = {"SLUICE_SERVER": secured.target.removeprefix("https://")}
    outcome = await secured.command("drive", "list", SLUICE_TOKEN=SECRET, **environment)
    assert outcome.code == code
    assert outcome.err.count("\n") == 1
    assert f"[{reason}]" in outcome.err


@pytest.mark.usefixtures("_interrupts")
async def test_expired_server_certificate_exits_69(
    intake: FakeIntake, repository: FakeRepository, tmp_path: Path
) -> None:
    authority = Authority()
    issued = authority.issue(begins=-2 * DAY, ends=-DAY)
    paths = write_tls(tmp_path / "tls", authority, issued)
    credentials = grpc.ssl_server_credentials([(issued.key, issued.cert)])
    async with serving_both(intake, repository, credentials=credentials) as address:
        command = Command(f"https://{address}", tmp_path)
        outcome = await command("drive", "list", "--ca", paths.ca)
    assert outcome.code == 69
    assert "[SERVER_CERTIFICATE_EXPIRED]" in outcome.err


async def test_skipped_verification_warns(secured: Secured) -> None:
    arguments = options(secured.paths)[2:]
    outcome = await secured.command(
        "drive", "list", "--insecure-skip-verify", *arguments, SLUICE_TOKEN=SECRET
    )
    assert outcome.code == 0, outcome.err
    assert "not verified" in outcome.err
    outcome = await secured.command("drive", "list", *arguments, SLUICE_TOKEN=SECRET)
    assert outcome.code == 78, "never without the option"


async def test_token_in_plain_text_exits_78(sluice: Command) -> None:
    outcome = await sluice("drive", "list", SLUICE_TOKEN=SECRET, SLUICE_SERVER="192.0.2.1:50051")
    assert outcome.code == 78
    assert "[INSECURE_TOKEN]" in outcome.err
    assert SECRET not in outcome.err


@pytest.mark.parametrize("before", [True, False])
def test_options_of_tls_need_an_https_address(tmp_path: Path, before: bool) -> None:
    (tmp_path / "ca").write_bytes(b"")
    where = ["--server", "127.0.0.1:1", "--ca", str(tmp_path / "ca")]
    arguments = [*where, "drive", "list"] if before else ["drive", "list", *where]
    outcome = CliRunner().invoke(app, arguments)
    assert outcome.exit_code == 78
    assert "https://127.0.0.1:1" in outcome.output


def test_token_is_no_argument() -> None:
    """Other users of a machine can read the arguments of a process."""
    outcome = CliRunner().invoke(app, ["drive", "list", "--token", SECRET])
    assert outcome.exit_code == 2
    assert SECRET not in outcome.output


def test_missing_file_is_named_by_its_option(tmp_path: Path) -> None:
    """Its value is not printed: some will give the token in place of a file."""
    for arguments, environment, name in (
        (SecurityArguments(ca="none"), {}, "--ca"),
        (SecurityArguments(cert="none", key="none"), {}, "--cert"),
        (SecurityArguments(), {"SLUICE_CA_FILE": "none"}, "SLUICE_CA_FILE"),
        (SecurityArguments(), {"SLUICE_TOKEN_FILE": SECRET}, "SLUICE_TOKEN_FILE"),
        (SecurityArguments(), {"SLUICE_TOKEN_FILE": "x" * 5000}, "SLUICE_TOKEN_FILE"),
        (SecurityArguments(), {"SLUICE_TOKEN_FILE": str(tmp_path)}, "SLUICE_TOKEN_FILE"),
    ):
        with pytest.raises(ConfigurationError, match=name) as caught:
            find_security(arguments, None, environment)
        assert SECRET not in str(caught.value)
    with pytest.raises(ConfigurationError, match="--token-file"):
        find_security(SecurityArguments(), SECRET, {})


@pytest.mark.parametrize(
    ("arguments", "environment", "text"),
    [
        (SecurityArguments(), {"SLUICE_TOKEN": "Bearer x"}, "SLUICE_TOKEN begins"),
        (SecurityArguments(), {"SLUICE_TOKEN": "x", "SLUICE_TOKEN_FILE": "y"}, "exclude"),
        (SecurityArguments(ca=__file__, insecure_skip_verify=True), {}, "exclude"),
        (SecurityArguments(cert=__file__), {}, "belong together"),
        (SecurityArguments(), {"SLUICE_KEY_FILE": __file__}, "belong together"),
        (SecurityArguments(), {"SLUICE_ALLOW_INSECURE": "maybe"}, "SLUICE_ALLOW_INSECURE"),
    ],
)
def test_contradictory_settings_are_refused(
    arguments: SecurityArguments, environment: dict[str, str], text: str
) -> None:
    with pytest.raises(ConfigurationError, match=text):
        find_security(arguments, None, environment)


def test_option_overrides_the_settings(tmp_path: Path) -> None:
    for name in ("option", "setting"):
        (tmp_path / name).write_text("x")
    named = str(tmp_path / "option")
    environment = {
        "SLUICE_TOKEN": "x",
        "SLUICE_TOKEN_FILE": str(tmp_path / "setting"),
        "SLUICE_CA_FILE": str(tmp_path / "setting"),
    }
    found = find_security(SecurityArguments(ca=named), named, environment)
    assert (found.token, found.tls.ca_file) == (Path(named), Path(named))
    found = find_security(SecurityArguments(insecure_skip_verify=True), named, environment)
    assert (found.tls.ca_file, found.tls.skip_verification) == (None, True)


@pytest.mark.parametrize(("value", "allowed"), [("", False), ("false", False), ("TRUE", True)])
def test_plain_text_is_allowed_by_a_setting(value: str, allowed: bool) -> None:
    found = find_security(SecurityArguments(), None, {"SLUICE_ALLOW_INSECURE": value})
    assert found.allow_insecure is allowed


def test_repr_has_no_token() -> None:
    found = find_security(SecurityArguments(), None, {"SLUICE_TOKEN": SECRET})
    assert found.token == SECRET
    assert SECRET not in repr(found)
