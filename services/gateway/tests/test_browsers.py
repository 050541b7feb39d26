"""What pages in a browser may do: hosts, origins, CORS, and headers of answers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import aiohttp
import pytest
import pytest_asyncio
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sluice_gateway.deps import GatewayDeps
from sluice_gateway.http.origins import CorsHeaders, normalized_origin
from sluice_gateway.http.security_headers import SecurityHeaders
from sluice_gateway.live.origins import Origins
from support.gateway import ANN, Gateway, Reply, running_gateway

PANEL = "https://photos.example.com"
# They share the gateways of this file: none changes a setting or state that another one reads.
SHARES_GATEWAY = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    async with running_gateway(tmp_path_factory.mktemp("gateway")) as running:
        yield running


def with_keys(folder: Path) -> AbstractAsyncContextManager[Gateway]:
    """Open a gateway with keys that pages of another origin may use."""
    return running_gateway(
        folder,
        change=lambda options: replace(
            options, is_keyless=False, loopback_names_only=False, origins=(PANEL,)
        ),
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Gateway]:
    async with with_keys(tmp_path_factory.mktemp("shared")) as running:
        yield running


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:8080",
        "127.0.0.1.evil.example",
        "localhost.evil.example",
        "10.0.0.1",
        "0.0.0.0",
        "127.0.0.1@evil.example",
        "[::2]",
        "",
        "127.0.0.1:x",
    ],
)
@SHARES_GATEWAY
async def test_keyless_server_refuses_foreign_hosts(gateway: Gateway, host: str) -> None:
    """A page under a name that resolves to 127.0.0.1 is of the same origin as the server."""
    reply = await gateway.get("/api/auth/me", host=host)
    assert (reply.status, reply.reason) == (403, "HOST_NOT_ALLOWED")


@SHARES_GATEWAY
async def test_keyless_server_refuses_a_missing_host(gateway: Gateway) -> None:
    answer = await gateway.raw(b"GET /api/auth/me HTTP/1.0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 403 ")


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8080", "127.0.0.1", "127.1.2.3:1", "[::1]:8080"]
)
@SHARES_GATEWAY
async def test_keyless_server_answers_to_loopback_names(gateway: Gateway, host: str) -> None:
    assert (await gateway.get("/api/auth/me", host=host)).status == 200


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1:1", "file://"]
)
@SHARES_GATEWAY
async def test_keyless_server_refuses_foreign_origins(gateway: Gateway, origin: str) -> None:
    for method, path in (("GET", "/api/auth/me"), ("POST", "/api/auth/login")):
        reply = await gateway.call(method, path, headers={"origin": origin})
        assert (reply.status, reply.reason) == (403, "ORIGIN_NOT_ALLOWED")


@pytest.mark.parametrize(
    "path",
    [
        "/ws",
        "/ws/info",
        "/ws/000/session/websocket",
        "/queries/photos",
        "/queries/upload-jobs/job_1/events",
        "/commands/upload/progress",
        "/openapi.json",
        "/healthz",
        "/nowhere",
    ],
)
@SHARES_GATEWAY
async def test_every_route_checks_host_and_origin(gateway: Gateway, path: str) -> None:
    """Of a keyless server, WebSockets too: a page under a rebound name could open one."""
    upgrade = {
        "connection": "upgrade",
        "upgrade": "websocket",
        "sec-websocket-version": "13",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    }
    page = f"http://evil.example:{gateway.address.port}"
    foreign = [{"origin": page}, {"host": page.removeprefix("http://"), "origin": page}]
    for headers in foreign:
        assert (await gateway.get(path, **headers)).status == 403
        assert (await gateway.get(path, **headers, **upgrade)).status == 403


@SHARES_GATEWAY
async def test_own_pages_may_use_a_keyless_server(gateway: Gateway) -> None:
    reply = await gateway.get("/api/auth/me", origin=gateway.url)
    assert reply.status == 200
    assert "access-control-allow-origin" not in reply.headers


async def test_own_pages_open_websockets_behind_a_proxy(tmp_path: Path) -> None:
    """A proxy that speaks TLS leaves `Host` as it is, and the scheme to guesses."""

    def public(deps: GatewayDeps, _: object) -> GatewayDeps:
        assert deps.hub is not None
        return replace(deps, hub=replace(deps.hub, origins=Origins([PANEL])))

    async with running_gateway(
        tmp_path,
        change=lambda options: replace(
            options, is_keyless=False, loopback_names_only=False, own_origins=(PANEL,)
        ),
        extend=public,
    ) as gateway:
        headers = {"host": "photos.example.com", "origin": PANEL}
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(f"{gateway.url}/ws", headers=headers) as socket,
        ):
            assert not socket.closed


@SHARES_GATEWAY
async def test_server_with_keys_takes_any_host(shared: Gateway) -> None:
    """Its name is the deployment's; who has no token gets nothing under any name."""
    assert (await shared.get("/healthz", host="photos.example.com")).status == 200
    reply = await shared.get("/api/auth/me", host="photos.example.com")
    assert (reply.status, reply.reason) == (401, "NO_CREDENTIALS")
    assert reply.headers["www-authenticate"] == 'Bearer realm="sluice"'


@SHARES_GATEWAY
async def test_configured_origin_gets_cors(shared: Gateway) -> None:
    for path in ("/healthz", "/nowhere", "/api/auth/me"):
        headers = (await shared.get(path, origin=PANEL)).headers
        assert headers["access-control-allow-origin"] == PANEL
        assert "X-Trace-Id" in headers["access-control-expose-headers"]
        assert "access-control-allow-credentials" not in headers
        assert headers["vary"] == "origin"


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example",
        "null",
        f"{PANEL}.evil.example",
        f"{PANEL}:444",
        "http://photos.example.com",
    ],
)
async def test_other_origins_get_no_cors(tmp_path: Path, origin: str) -> None:
    async with with_keys(tmp_path) as gateway:  # its own: a failed log-in counts
        reply = await gateway.post("/api/auth/login", ANN, origin=origin)
    assert reply.reason == "WRONG_CREDENTIALS"
    assert not any(name.startswith("access-control-") for name in reply.headers)
    assert reply.headers["vary"] == "origin", "a cache must not give it to others"


@SHARES_GATEWAY
async def test_preflight_of_a_configured_origin_passes(shared: Gateway) -> None:
    reply = await _preflight(shared, PANEL)
    assert reply.status == 204
    assert reply.headers["access-control-allow-origin"] == PANEL
    assert "authorization" in reply.headers["access-control-allow-headers"]
    assert "*" not in "".join(reply.headers.values())


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "*"])
@SHARES_GATEWAY
async def test_preflight_of_another_origin_fails(shared: Gateway, origin: str) -> None:
    reply = await _preflight(shared, origin)
    assert (reply.status, reply.reason) == (403, "ORIGIN_NOT_ALLOWED")
    assert not any(name.startswith("access-control-") for name in reply.headers)


@SHARES_GATEWAY
async def test_preflight_of_own_pages_passes(gateway: Gateway) -> None:
    """Browsers send none for the same origin; some proxies do."""
    assert (await _preflight(gateway, gateway.url)).status == 204


@SHARES_GATEWAY
async def test_pages_can_read_every_refusal(shared: Gateway) -> None:
    """Also those of the layers around the routes."""
    body = BytesIO(b" " * (1024 * 1024 + 1))
    reply = await shared.call("POST", "/api/auth/login", data=body, headers={"origin": PANEL})
    assert reply.reason == "MESSAGE_TOO_LARGE"
    assert reply.headers["access-control-allow-origin"] == PANEL


@SHARES_GATEWAY
async def test_two_origins_get_no_cors(shared: Gateway) -> None:
    headers = [("origin", PANEL), ("origin", PANEL)]
    reply = await shared.call("GET", "/healthz", headers=headers)
    assert "access-control-allow-origin" not in reply.headers


async def _preflight(gateway: Gateway, origin: str) -> Reply:
    return await gateway.call(
        "OPTIONS",
        "/api/auth/login",
        headers={
            "origin": origin,
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization,content-type",
        },
    )


@pytest.mark.parametrize(
    "path", ["/healthz", "/nowhere", "/openapi.json", "/.well-known/jwks.json"]
)
@SHARES_GATEWAY
async def test_every_answer_limits_browsers(gateway: Gateway, path: str) -> None:
    headers = (await gateway.get(path)).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert "server" not in headers
    assert "strict-transport-security" not in headers


async def test_https_gateway_demands_https(tmp_path: Path) -> None:
    async with running_gateway(
        tmp_path, change=lambda options: replace(options, is_https=True)
    ) as gateway:
        headers = (await gateway.get("/healthz")).headers
    assert headers["strict-transport-security"] == "max-age=31536000"


async def test_answers_about_users_are_not_cached(tmp_path: Path) -> None:
    async with running_gateway(tmp_path) as gateway:
        session = await gateway.register()
        reply = await gateway.get("/api/auth/me", session["token"])
    assert reply.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://A.example", "https://a.example"),
        ("https://a.example:443", "https://a.example"),
        ("http://a.example:80", "http://a.example"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("https://a.example/", None),
        ("https://u@a.example", None),
        ("https://a.example?", None),
        ("https://a.example:x", None),
        ("ftp://a.example", None),
        ("null", None),
        ("https://", None),
        ("https://[::1", None),
    ],
)
def test_origin_is_normalized(text: str, origin: str | None) -> None:
    assert normalized_origin(text) == origin


@pytest.mark.parametrize("kind", ["text/html", "text/html; charset=utf-8"])
async def test_pages_run_their_own_scripts_only(kind: str) -> None:
    """The panel sends photos to the store, and shows thumbnails from there."""

    async def page(scope: Scope, receive: Receive, send: Send) -> None:
        await Response("<p>", media_type=kind)(scope, receive, send)

    app = SecurityHeaders(page, ("https://store.example",))
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await app({"type": "http", "method": "GET", "headers": []}, _nothing, send)
    headers = {name: value.decode() for name, value in sent[0]["headers"]}
    rules = dict(
        rule.strip().partition(" ")[::2] for rule in headers[b"content-security-policy"].split(";")
    )
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == "'self'"
    assert rules["connect-src"] == "'self' https://store.example"
    assert "https://store.example" in rules["img-src"]
    assert rules["frame-ancestors"] == "'none'"
    assert "unsafe" not in headers[b"content-security-policy"]


async def _nothing() -> Message:
    raise AssertionError("a page needs no body")


async def test_header_of_a_handler_stays() -> None:
    """Such as the lifetime of the published keys."""
    handler = SecurityHeaders(Response("", headers={"cache-control": "public"}))
    assert await _sent_headers(handler, b"cache-control") == [b"public"]


async def test_origin_is_allowed_once() -> None:
    """Some routes allow it themselves; browsers refuse an answer that says it twice."""
    handler = CorsHeaders(Response("", headers={"access-control-allow-origin": PANEL}), [PANEL])
    assert await _sent_headers(handler, b"access-control-allow-origin") == [PANEL.encode()]


async def _sent_headers(handler: ASGIApp, name: bytes) -> list[bytes]:
    """Return all values of a header in the answer to a page of `PANEL`."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"origin", PANEL.encode())]
    await handler({"type": "http", "method": "GET", "headers": headers}, _nothing, send)
    return [value for key, value in sent[0]["headers"] if key == name]
