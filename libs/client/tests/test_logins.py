"""Log-ins that are stored on this machine, and the gateway that issues them."""

from __future__ import annotations

import http.server
import json
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from sluice_client.cli.addresses import find_gateway, named_servers
from sluice_client.errors import InvalidArgument, SluiceError, Unauthenticated, Unavailable
from sluice_client.logins.gateway_api import GatewayApi, GatewaySession
from sluice_client.logins.renewal import RenewedToken
from sluice_client.logins.stored_login import LoginFile, StoredLogin, config_dir, hosts_of
from sluice_client.options import TlsOptions
from sluice_client.tokens import Tokens

GATEWAY = "https://photos.example.com"
SESSION = GatewaySession("t0", "srt_0", 900.0, "usr_1", "ann@example.com")


def login(now: float = 0.0, **changes: object) -> StoredLogin:
    made = StoredLogin.of(GATEWAY, hosts_of([GATEWAY]), SESSION, now)
    return replace(made, **changes)  # type: ignore[arg-type]


@dataclass
class FakeApi:
    """Answers `refresh` with t1, t2, …, or fails."""

    failure: SluiceError | None = None
    used: list[str] = field(default_factory=list)

    def refresh(self, refresh_token: str) -> GatewaySession:
        self.used.append(refresh_token)
        if self.failure is not None:
            raise self.failure
        number = len(self.used)
        return replace(SESSION, token=f"t{number}", refresh_token=f"srt_{number}")


@dataclass
class Clock:
    now: float = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def file(tmp_path: Path) -> LoginFile:
    stored = LoginFile(tmp_path / "config")
    with stored.locked():
        stored.save(login())
    return stored


@pytest.fixture
def clock() -> Clock:
    return Clock()


def renewed(file: LoginFile, api: FakeApi, clock: Clock) -> RenewedToken:
    return RenewedToken(file, lambda _: api, clock)  # type: ignore[arg-type, return-value]


# -- where the token goes


@pytest.mark.parametrize(
    ("hosts", "server", "fits"),
    [
        ([GATEWAY], "https://photos.example.com:50051", True),
        ([GATEWAY], "https://PHOTOS.example.com", True),
        ([GATEWAY], "https://photos.example.com.evil.example:50051", False),
        ([GATEWAY], "https://example.com", False),
        ([GATEWAY], "127.0.0.1:50051", False),
        ([GATEWAY], "unix:/run/sluice", False),
        ([GATEWAY, "intake.example.com:50051"], "intake.example.com:1", True),
        (["http://127.0.0.1:8080"], "localhost:50051", True),
        (["http://127.0.0.1:8080"], "[::1]:50051", True),
        (["http://127.0.0.1:8080"], "unix:/run/sluice", True),
        (["http://127.0.0.1:8080"], "10.0.0.1:50051", False),
    ],
)
def test_token_goes_to_the_hosts_of_the_login(hosts: list[str], server: str, fits: bool) -> None:
    stored = login(hosts=hosts_of(hosts))
    assert stored.is_for([server]) is fits


def test_token_goes_nowhere_if_one_server_is_foreign() -> None:
    servers = ["photos.example.com:50051", "evil.example:50052"]
    assert not login().is_for(servers)


def test_only_named_servers_are_trusted() -> None:
    """Any program of this machine may listen at the default address."""
    assert named_servers(None, {}) == []
    environment = {"SLUICE_SERVER": "a.example:1", "SLUICE_REPOSITORY_SERVER": "b.example:2"}
    assert named_servers(None, environment) == ["a.example:1", "b.example:2"]
    assert named_servers("c.example:3", environment) == ["c.example:3", "b.example:2"]


def test_gateway_is_found_in_order(tmp_path: Path) -> None:
    environment = {"SLUICE_DATA_DIR": str(tmp_path), "XDG_DATA_HOME": str(tmp_path)}
    assert find_gateway(None, environment) == "http://127.0.0.1:8080"
    environment["SLUICE_GATEWAY"] = "https://set.example"
    assert find_gateway(None, environment) == "https://set.example"
    assert find_gateway("https://named.example", environment) == "https://named.example"


# -- the file


def test_file_is_for_its_owner_only(file: LoginFile) -> None:
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.path.parent.stat().st_mode) == 0o700
    assert file.load() == login()
    assert "srt_0" not in repr(file.load())


def test_draft_of_a_killed_command_is_replaced(file: LoginFile) -> None:
    draft = file.path.with_suffix(".new")
    draft.write_text("half")
    draft.chmod(0o644)
    with file.locked():
        file.save(login(1.0))
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert file.load() == login(1.0)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_file_that_others_can_read_is_refused(file: LoginFile, mode: int) -> None:
    file.path.chmod(mode)
    with pytest.raises(InvalidArgument, match="BAD_LOGIN_FILE"):
        file.load()


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"version":2}', '{"version":1,"x":1}'])
def test_damaged_file_is_refused(file: LoginFile, content: str) -> None:
    file.path.write_text(content)
    with pytest.raises(InvalidArgument, match="BAD_LOGIN_FILE"):
        file.load()


def test_missing_file_is_no_login(tmp_path: Path) -> None:
    assert LoginFile(tmp_path / "nowhere").load() is None


def test_directory_is_chosen_by_setting(tmp_path: Path) -> None:
    assert config_dir({"SLUICE_CONFIG_DIR": str(tmp_path)}) == tmp_path


# -- renewal


async def test_token_is_renewed_a_minute_before_its_end(file: LoginFile, clock: Clock) -> None:
    """Through the SDK's `Tokens`, which ask before each call."""
    api = FakeApi()
    tokens = Tokens(renewed(file, api, clock))
    assert await tokens.current() == "t0"
    clock.now = 839.0
    assert await tokens.current() == "t0"
    clock.now = 840.0
    assert await tokens.current() == "t1"
    stored = file.load()
    assert stored is not None
    assert (stored.token, stored.refresh_token, stored.renew_at) == ("t1", "srt_1", 840.0 + 840.0)
    assert api.used == ["srt_0"]


async def test_refused_token_is_renewed_early(file: LoginFile, clock: Clock) -> None:
    """The server's clock is ahead of ours."""
    api = FakeApi()
    tokens = Tokens(renewed(file, api, clock))
    assert await tokens.current() == "t0"
    assert await tokens.renew(tokens.version)
    assert await tokens.current() == "t1"


async def test_renewal_of_another_command_is_used(file: LoginFile, clock: Clock) -> None:
    api = FakeApi()
    source = renewed(file, api, clock)
    assert await source() == "t0"
    with file.locked():
        file.save(login(100.0, token="other"))
    assert await source() == "other"
    assert api.used == []


async def test_ended_session_asks_for_a_login(file: LoginFile, clock: Clock) -> None:
    clock.now = 850.0
    api = FakeApi(Unauthenticated("SESSION_ENDED", "The refresh token is not valid."))
    with pytest.raises(Unauthenticated, match="run `sluice login` again") as raised:
        await renewed(file, api, clock)()
    assert raised.value.reason == "SESSION_ENDED"


async def test_valid_token_bridges_an_outage(file: LoginFile, clock: Clock) -> None:
    api = FakeApi(Unavailable("GATEWAY_UNREACHABLE", "no answer"))
    clock.now = 850.0
    assert await renewed(file, api, clock)() == "t0"
    clock.now = 901.0
    with pytest.raises(Unavailable):
        await renewed(file, api, clock)()


async def test_logout_meanwhile_ends_the_source(file: LoginFile, clock: Clock) -> None:
    source = renewed(file, FakeApi(), clock)
    await source()
    file.remove()
    with pytest.raises(Unauthenticated, match="NOT_LOGGED_IN"):
        await source()


# -- servers that are no gateway


@contextmanager
def answering(status: int, content: bytes, **headers: str) -> Iterator[tuple[str, list[str]]]:
    """Answer every request like this; yield the URL, and the paths that were asked for."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def _answer(self) -> None:
            asked.append(self.path)
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(status)
            for name, value in {**headers, "content-length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _answer  # noqa: N815 - names of the library

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize(
    ("status", "content"),
    [
        (200, b"<html>"),
        (200, b"[]"),
        (200, b"{}"),
        (200, b'{"token":"a"}'),
        (200, b'{"token":"a","refreshToken":"b","expiresIn":"soon","user":{}}'),
        (404, b"not found"),
        (500, b'{"detail":"x"}'),
        (500, b'{"reason":"X","detail":"x","retryAfterSeconds":"later"}'),
    ],
)
def test_other_servers_are_recognized(status: int, content: bytes) -> None:
    with (
        answering(status, content) as (url, _),
        pytest.raises(InvalidArgument, match="NOT_A_GATEWAY"),
    ):
        GatewayApi(url, TlsOptions()).login("ann@example.com", "secret")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirect_is_not_followed(status: int) -> None:
    """It would take the password, or the token, to another server."""
    with answering(200, b"{}") as (other, asked):
        with (
            answering(status, b"", location=f"{other}/stolen") as (url, _),
            pytest.raises(InvalidArgument, match="NOT_A_GATEWAY"),
        ):
            GatewayApi(url, TlsOptions()).login("ann@example.com", "secret")
        assert asked == []


def test_refusal_keeps_its_reason_and_delay() -> None:
    problem = {
        "reason": "RATE_LIMITED",
        "detail": "Too many attempts.",
        "retryAfterSeconds": 2.5,
        "requestId": "abc",
    }
    with (
        answering(429, json.dumps(problem).encode()) as (url, _),
        pytest.raises(SluiceError) as raised,
    ):
        GatewayApi(url, TlsOptions()).login("ann@example.com", "secret")
    error = raised.value
    assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "RATE_LIMITED")
    assert (error.retry_after_seconds, error.request_id) == (2.5, "abc")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("photos.example.com", "BAD_TARGET"),
        ("ftp://photos.example.com", "BAD_TARGET"),
        ("https://", "BAD_TARGET"),
        ("https://ann:secret@photos.example.com", "BAD_TARGET"),
        ("https://photos.example.com/api", "BAD_TARGET"),
        ("https://[::1", "BAD_TARGET"),
        ("http://photos.example.com", "INSECURE_TOKEN"),
    ],
)
def test_bad_gateway_address_is_refused(url: str, reason: str) -> None:
    with pytest.raises(InvalidArgument) as raised:
        GatewayApi(url, TlsOptions())
    assert raised.value.reason == reason
    assert "secret" not in str(raised.value)


def test_plain_text_is_allowed_by_setting() -> None:
    GatewayApi("http://photos.example.com", TlsOptions(), allow_insecure=True)
