"""A gateway process beside `sluice serve`: log in, upload with its token, log out."""

from __future__ import annotations

import json
import secrets
import stat
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.cli import Outcome, Sluice
from support.processes import ServiceProcess
from support.server import StandaloneServer, standalone

PASSWORD = "correct horse"
DENIED, CONFIGURATION, UNAVAILABLE = 77, 78, 69


@dataclass
class Deployment:
    """A gateway that issues tokens, and a server that accepts them, on one catalogue."""

    gateway: ServiceProcess
    server: StandaloneServer
    sluice: Sluice
    login_file: Path
    email: str

    @property
    def url(self) -> str:
        return f"http://{self.gateway.address}"

    def post(self, path: str, body: dict[str, str]) -> Any:
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def log_in(self, *arguments: str) -> Outcome:
        """Log in; fail the test unless that succeeds."""
        outcome = self.sluice.run(
            "login", "--gateway", self.url, "--email", self.email, *arguments, typed=f"{PASSWORD}\n"
        )
        assert outcome.code == 0, outcome.err
        return outcome

    def end_gateway(self) -> None:
        """Stop the gateway. The server still has the catalogue open, so its log must stay."""
        assert self.gateway.stop() == 0
        log = self.server.data_dir / "catalogue.sqlite-wal"
        assert log.exists(), "the gateway took the log away that the server writes to"

    def stored(self) -> Any:
        return json.loads(self.login_file.read_text())

    def change_stored(self, **changes: Any) -> None:
        self.login_file.write_text(json.dumps({**self.stored(), **changes}))


@pytest.fixture(scope="module")
def services(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[ServiceProcess, StandaloneServer]]:
    """A gateway and a server on one data directory."""
    folder = tmp_path_factory.mktemp("services")
    data = folder / "data"
    gateway = ServiceProcess("sluice_gateway", folder, {"SLUICE_DATA_DIR": str(data)})
    url = f"http://{gateway.address}"
    auth = {
        "SLUICE_AUTH__MODE": "jwt",
        "SLUICE_AUTH__ISSUER": url,
        "SLUICE_AUTH__AUDIENCE": "sluice",
    }
    gateway.add_settings({**auth, "SLUICE_GATEWAY__PUBLIC_URL": url})
    with gateway, standalone(data, auth) as server:
        yield gateway, server


@pytest.fixture
def deployment(
    services: tuple[ServiceProcess, StandaloneServer], tmp_path: Path
) -> Iterator[Deployment]:
    """The services, and a user of the test's own, who has registered."""
    gateway, server = services
    sluice = Sluice(server.address, tmp_path / "state")
    hidden = {"SLUICE_TOKEN", "SLUICE_TOKEN_FILE", "SLUICE_GATEWAY"}
    sluice.environment = {
        **{name: text for name, text in sluice.environment.items() if name not in hidden},
        "SLUICE_REPOSITORY_SERVER": server.repository_address,
    }
    email = f"{secrets.token_hex(8)}@example.com"
    login_file = tmp_path / "state" / "config" / "login.json"
    found = Deployment(gateway, server, sluice, login_file, email)
    found.post("/api/auth/register", {"email": email, "password": PASSWORD})
    yield found
    # pytest shows it of a failed test only.
    sys.stderr.write(f"gateway:\n{gateway.log_tail()}\nserver:\n{server.log_tail()}\n")
    if not gateway.is_running:
        gateway.start()


def test_services_accept_the_tokens_of_a_gateway(deployment: Deployment, tmp_path: Path) -> None:
    """Over gRPC, as of any OpenID Connect provider; each user has a tenant of their own."""
    file = tmp_path / "cat.jpg"
    file.write_bytes(b"miaow")
    sluice = deployment.sluice
    assert sluice.run("upload", str(file), "--drive", "photos").code == DENIED
    deployment.log_in()
    sluice.ok("upload", str(file), "--drive", "photos")
    assert "cat.jpg" in sluice.ok("ls", "photos:").out
    assert sluice.run("get", "photos:cat.jpg", "-").out == "miaow"

    bob = {"email": "bob@example.com", "password": "battery staple"}
    token = deployment.post("/api/auth/register", bob)["token"]
    sluice.environment = {**sluice.environment, "SLUICE_TOKEN": token}
    assert "cat.jpg" not in sluice.ok("ls", "photos:").out, "a given token comes first"
    assert sluice.run("get", "photos:cat.jpg", "-").code == 1


def test_login_is_shown_and_ended(deployment: Deployment) -> None:
    sluice = deployment.sluice
    assert sluice.run("whoami").code == DENIED
    outcome = deployment.log_in()
    assert outcome.out == f"logged in as {deployment.email} at {deployment.url}\n"
    stored = deployment.stored()
    assert stat.S_IMODE(deployment.login_file.stat().st_mode) == 0o600
    (who,) = sluice.ok("whoami", "--json").json_lines()
    assert who["email"] == deployment.email
    assert who["user_id"] == stored["user_id"]
    assert "photos:write" in who["scopes"]
    assert sluice.ok("logout").out == f"logged out from {deployment.url}\n"
    assert not deployment.login_file.exists()
    with pytest.raises(urllib.error.HTTPError, match="401"):
        deployment.post("/api/auth/refresh", {"refreshToken": stored["refresh_token"]})
    assert sluice.run("whoami").code == DENIED
    assert sluice.ok("logout").out == "there was no log-in\n"


def test_secrets_of_a_login_are_not_printed(deployment: Deployment) -> None:
    sluice = deployment.sluice
    wrong = sluice.run(
        "login", "--gateway", deployment.url, "--email", deployment.email, typed="wrong password\n"
    )
    outcomes = [wrong, deployment.log_in("--json"), sluice.run("whoami"), sluice.run("ls", "x:")]
    assert wrong.code == DENIED
    assert "[WRONG_CREDENTIALS]" in wrong.err
    stored = deployment.stored()
    printed = "".join(each.out + each.err for each in outcomes)
    logged = deployment.gateway.log_tail(10_000) + deployment.server.log_tail(10_000)
    for secret in (stored["token"], stored["refresh_token"], PASSWORD, "wrong password"):
        assert secret not in printed + logged


def test_token_is_renewed_before_it_ends(deployment: Deployment) -> None:
    deployment.log_in()
    first = deployment.stored()
    deployment.sluice.ok("ls", "photos:")
    assert deployment.stored() == first, "not due"
    deployment.change_stored(renew_at=0)
    deployment.sluice.ok("ls", "photos:")
    second = deployment.stored()
    assert second["token"] != first["token"]
    assert second["refresh_token"] != first["refresh_token"]
    assert second["expires_at"] > second["renew_at"] > first["renew_at"]
    deployment.change_stored(renew_at=0)
    assert deployment.email in deployment.sluice.ok("whoami").out
    assert deployment.stored()["token"] != second["token"]


def test_commands_at_once_share_a_renewal(deployment: Deployment) -> None:
    """A refresh token works once: two renewals would end the session."""
    deployment.log_in()
    deployment.change_stored(renew_at=0)
    with ThreadPoolExecutor(4) as pool:
        outcomes = list(pool.map(lambda _: deployment.sluice.run("ls", "photos:"), range(4)))
    assert [each.code for each in outcomes] == [0] * 4, [each.err for each in outcomes]
    deployment.sluice.ok("whoami")


@pytest.mark.slow
def test_valid_token_works_while_the_gateway_is_down(deployment: Deployment) -> None:
    deployment.log_in()
    deployment.sluice.ok("ls", "photos:")
    deployment.end_gateway()
    deployment.change_stored(renew_at=0)
    deployment.sluice.ok("ls", "photos:")
    deployment.change_stored(renew_at=0, expires_at=0)
    assert deployment.sluice.run("ls", "photos:").code == UNAVAILABLE
    outcome = deployment.sluice.run("logout")
    assert outcome.code == UNAVAILABLE
    assert "tokens were removed from this machine" in outcome.err
    assert not deployment.login_file.exists()


def test_stolen_refresh_token_ends_the_session(deployment: Deployment) -> None:
    deployment.log_in()
    stolen = deployment.stored()["refresh_token"]
    for _ in range(2):  # the thief goes on with it
        session = deployment.post("/api/auth/refresh", {"refreshToken": stolen})
        stolen = session["refreshToken"]
    deployment.change_stored(renew_at=0)
    outcome = deployment.sluice.run("ls", "photos:")
    assert outcome.code == DENIED
    assert "run `sluice login` again" in outcome.err


def test_login_that_others_can_read_is_refused(deployment: Deployment) -> None:
    deployment.log_in()
    deployment.login_file.chmod(0o644)
    for command in (("whoami",), ("ls", "photos:")):
        outcome = deployment.sluice.run(*command)
        assert outcome.code == CONFIGURATION
        assert "[BAD_LOGIN_FILE]" in outcome.err
    deployment.log_in()  # a new one replaces it
    deployment.sluice.ok("whoami")


@pytest.mark.slow
def test_gateway_restarts_with_its_keys(deployment: Deployment) -> None:
    """Tokens from before a kill stay valid, and the server goes on with the same catalogue."""
    deployment.log_in()
    deployment.sluice.ok("ls", "photos:")
    deployment.gateway.kill()
    deployment.gateway.start()
    deployment.sluice.ok("whoami")
    deployment.sluice.ok("ls", "photos:")
    deployment.end_gateway()


def test_login_needs_a_gateway(deployment: Deployment, tmp_path: Path) -> None:
    sluice = deployment.sluice
    away = sluice.run("login", "--gateway", "http://127.0.0.1:1", "--email", "a", typed="p\n")
    assert away.code == UNAVAILABLE
    assert "[GATEWAY_UNREACHABLE]" in away.err
    other = f"http://{deployment.server.metrics_address}"
    odd = sluice.run("login", "--gateway", other, "--email", "a", typed="p\n")
    assert odd.code == CONFIGURATION
    assert "[NOT_A_GATEWAY]" in odd.err
    plain = sluice.run("login", "--gateway", "http://192.0.2.1", "--email", "a", typed="p\n")
    assert plain.code == CONFIGURATION
    assert "[INSECURE_TOKEN]" in plain.err
    silent = sluice.run("login", "--gateway", deployment.url, "--email", deployment.email)
    assert silent.code == CONFIGURATION
    assert "standard input has no password" in silent.err
