"""A server with an identity provider that is not ours: log in, upload, rotate, stay apart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.cli import Outcome, Sluice
from support.openid_server import OpenIdClient, OpenIdServer, openid_server
from support.server import StandaloneServer, standalone

AUDIENCE = "https://sluice.example"
SCOPE = "uploads:write uploads:read nodes:read drives:read drives:admin"
ACME = OpenIdClient("scanner", "s3cret", "acme", frozenset(SCOPE.split()))
GLOBEX = OpenIdClient("printer", "pa55", "globex", frozenset(SCOPE.split()))
DENIED = 77


@pytest.fixture
def provider() -> Iterator[OpenIdServer]:
    with openid_server(AUDIENCE, ACME, GLOBEX) as serving:
        yield serving


@pytest.fixture
def server(provider: OpenIdServer, tmp_path: Path) -> Iterator[StandaloneServer]:
    settings = {
        "SLUICE_AUTH__MODE": "jwt",
        "SLUICE_AUTH__ISSUER": provider.issuer,
        "SLUICE_AUTH__AUDIENCE": AUDIENCE,
    }
    with standalone(tmp_path / "data", settings) as running:
        yield running


def run(server: StandaloneServer, folder: Path, token: str | None, *arguments: str) -> Outcome:
    """Run the command with a token."""
    sluice = Sluice(server.address, folder / "state")
    environment = {k: v for k, v in sluice.environment.items() if k != "SLUICE_TOKEN"}
    sluice.environment = {**environment, **({"SLUICE_TOKEN": token} if token else {})}
    return sluice.run(*arguments)


@pytest.mark.slow
def test_tokens_of_a_provider_work_until_their_key_is_withdrawn(
    provider: OpenIdServer, server: StandaloneServer, tmp_path: Path
) -> None:
    """The new key counts with its first token, without a restart."""
    file = tmp_path / "letter.txt"
    file.write_text("Dear Sir or Madam")
    upload = ("upload", str(file), "--drive", "post")
    assert run(server, tmp_path, None, *upload).code == DENIED
    first = provider.token(ACME, SCOPE)
    stored = run(server, tmp_path, first, *upload)
    assert stored.code == 0, stored.err
    assert run(server, tmp_path, first, "get", "post:letter.txt", "-").out == file.read_text()

    provider.rotate()
    second = provider.token(ACME, SCOPE)
    assert run(server, tmp_path, second, "get", "post:letter.txt", "-").out == file.read_text()
    refused = run(server, tmp_path, first, "get", "post:letter.txt", "-")
    assert refused.code == DENIED
    assert first not in server.log_tail(1000)


@pytest.mark.slow
def test_tenants_of_a_provider_do_not_meet(
    provider: OpenIdServer, server: StandaloneServer, tmp_path: Path
) -> None:
    file = tmp_path / "letter.txt"
    file.write_text("Dear Sir or Madam")
    acme, globex = provider.token(ACME, SCOPE), provider.token(GLOBEX, SCOPE)
    stored = run(server, tmp_path, acme, "upload", str(file), "--drive", "post")
    assert stored.code == 0, stored.err
    assert run(server, tmp_path, globex, "get", "post:letter.txt", "-").code == 1
    assert "letter.txt" not in run(server, tmp_path, globex, "ls", "post:").out
    assert "letter.txt" in run(server, tmp_path, acme, "ls", "post:").out
