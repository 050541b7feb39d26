"""The pages of the panel over HTTP: files, codings, conditions, and what is no page."""

from __future__ import annotations

import gzip
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families
from starlette.routing import Route, WebSocketRoute

from sluice_gateway.auth.well_known import well_known_routes
from sluice_gateway.http.operations import operation_routes
from sluice_gateway.live.routes import live_routes
from sluice_gateway.panel.files import PanelFiles, bundled_files, read_files
from sluice_gateway.panel.routes import API_PREFIXES
from sluice_gateway.storage.listener import PATH
from sluice_gateway.tus.headers import PREFIX
from support.gateway import Gateway, running_gateway

HTML = {"accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8"}
SCRIPT = "console.info('a script that is long enough to be compressed');\n" * 40
PAGE = "<!doctype html><title>Sluice</title>" + "<p>text</p>" * 100
# They share a gateway, which none of them changes.
SHARES_GATEWAY = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> PanelFiles:
    parent = tmp_path_factory.mktemp("panel")
    folder = parent / "bundle"
    (folder / "assets" / "deep").mkdir(parents=True)
    (folder / "index.html").write_text(PAGE)
    (folder / "assets" / "index.js").write_text(SCRIPT)
    (folder / "assets" / "deep" / "small.css").write_text("p{}")
    (folder / "icon.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (folder / "manifest.webmanifest").write_text("{}")
    (parent / "secret.js").write_text("outside of the bundle")
    return read_files(folder)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def panel(
    tmp_path_factory: pytest.TempPathFactory, bundle: PanelFiles
) -> AsyncIterator[Gateway]:
    async with running_gateway(
        tmp_path_factory.mktemp("gateway"),
        change=lambda options: replace(options, object_origins=("http://127.0.0.1:8081",)),
        extend=lambda deps, _: replace(deps, panel=bundle),
    ) as running:
        yield running


@pytest.mark.parametrize(
    ("path", "media_type", "content"),
    [
        ("/", "text/html; charset=utf-8", PAGE),
        ("/assets/index.js", "text/javascript; charset=utf-8", SCRIPT),
        ("/assets/deep/small.css", "text/css; charset=utf-8", "p{}"),
        ("/icon.svg", "image/svg+xml", "<svg xmlns='http://www.w3.org/2000/svg'/>"),
        ("/manifest.webmanifest", "application/manifest+json", "{}"),
    ],
)
@SHARES_GATEWAY
async def test_files_are_served_without_a_token(
    panel: Gateway, path: str, media_type: str, content: str
) -> None:
    reply = await panel.get(path, **{"accept-encoding": "identity"})
    assert (reply.status, reply.headers["content-type"]) == (200, media_type)
    assert reply.content.decode() == content
    assert reply.headers["cache-control"] == "no-cache"
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert "accept-encoding" in reply.headers["vary"]
    assert "content-encoding" not in reply.headers


async def test_server_with_keys_serves_pages_to_strangers(
    tmp_path: Path, bundle: PanelFiles
) -> None:
    """They are needed to log in."""
    async with running_gateway(
        tmp_path,
        change=lambda options: replace(options, is_keyless=False, loopback_names_only=False),
        extend=lambda deps, _: replace(deps, panel=bundle),
    ) as gateway:
        assert (await gateway.get("/assets/index.js", host="photos.example")).status == 200
        assert (await gateway.get("/login", **HTML)).status == 200


@pytest.mark.parametrize("path", ["/", "/assets/index.js", "/photos"])
@SHARES_GATEWAY
async def test_panel_checks_host_and_origin(panel: Gateway, path: str) -> None:
    reply = await panel.get(path, host="evil.example", **HTML)
    assert (reply.status, reply.reason) == (403, "HOST_NOT_ALLOWED")
    reply = await panel.get(path, origin="https://evil.example", **HTML)
    assert (reply.status, reply.reason) == (403, "ORIGIN_NOT_ALLOWED")


@pytest.mark.parametrize(
    ("accepted", "is_compressed"),
    [
        ("gzip", True),
        ("br, GZIP;q=0.5", True),
        ("*", True),
        ("x-gzip", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000, *", False),
        ("gzip;q=much", False),
        ("br", False),
        ("identity", False),
        ("*;q=0", False),
        ("", False),
    ],
)
@SHARES_GATEWAY
async def test_coding_is_negotiated(panel: Gateway, accepted: str, is_compressed: bool) -> None:
    reply = await panel.get("/assets/index.js", **{"accept-encoding": accepted})
    assert (reply.headers.get("content-encoding") == "gzip") is is_compressed
    content = gzip.decompress(reply.content) if is_compressed else reply.content
    assert content.decode() == SCRIPT
    assert int(reply.headers["content-length"]) == len(reply.content)


@SHARES_GATEWAY
async def test_small_files_are_not_compressed(panel: Gateway) -> None:
    reply = await panel.get("/assets/deep/small.css", **{"accept-encoding": "gzip"})
    assert reply.content == b"p{}"


@SHARES_GATEWAY
async def test_codings_have_tags_of_their_own(panel: Gateway) -> None:
    """A strong tag names bytes."""
    tags = {
        (await panel.get("/", **{"accept-encoding": coding})).headers["etag"]
        for coding in ("gzip", "identity")
    }
    assert len(tags) == 2
    assert all(tag.startswith('"') for tag in tags)


@pytest.mark.parametrize("path", ["/", "/assets/index.js", "/photos/p-1"])
@pytest.mark.parametrize("coding", ["gzip", "identity"])
@SHARES_GATEWAY
async def test_known_content_is_not_sent_again(panel: Gateway, path: str, coding: str) -> None:
    first = await panel.get(path, **HTML, **{"accept-encoding": coding})
    tag = first.headers["etag"]
    for known in (tag, f'"other", {tag}', f"W/{tag}", "*"):
        again = await panel.get(path, **HTML, **{"accept-encoding": coding, "if-none-match": known})
        assert (again.status, again.content) == (304, b"")
        # They would replace those of the stored page, whose policy allows its scripts.
        assert "content-security-policy" not in again.headers
        assert again.headers["etag"] == tag
        assert again.headers["cache-control"] == "no-cache"
        assert again.headers["vary"] == first.headers["vary"]
    other = await panel.get(path, **HTML, **{"accept-encoding": coding, "if-none-match": '"x"'})
    assert (other.status, other.content) == (200, first.content)


async def test_changed_content_has_another_tag(tmp_path: Path) -> None:
    for name, content in (("one", "a"), ("two", "b")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "index.html").write_text(content)
    one, two = (read_files(tmp_path / name).page() for name in ("one", "two"))
    assert one.identity.etag != two.identity.etag


@pytest.mark.parametrize("path", ["/", "/assets/index.js", "/uploads"])
@SHARES_GATEWAY
async def test_head_has_the_headers_of_get(panel: Gateway, path: str) -> None:
    head, get = [
        await panel.call(method, path, headers={**HTML, "accept-encoding": "gzip"})
        for method in ("HEAD", "GET")
    ]
    assert (head.status, head.content) == (200, b"")
    for name in ("etag", "content-type", "content-length", "content-encoding", "vary"):
        assert head.headers[name] == get.headers[name]


@pytest.mark.parametrize(
    "path", ["/photos", "/photos/0198c0de-0000-7000-8000-000000000001", "/login", "/uploads/", "/a"]
)
@SHARES_GATEWAY
async def test_navigations_get_the_page(panel: Gateway, path: str) -> None:
    """The page shows what its address names."""
    reply = await panel.get(path, **HTML, **{"accept-encoding": "identity"})
    assert (reply.status, reply.content.decode()) == (200, PAGE)


@pytest.mark.parametrize("accept", ["*/*", "application/json", "image/*", "text/html;q=0", ""])
@SHARES_GATEWAY
async def test_programs_get_problems_for_unknown_paths(panel: Gateway, accept: str) -> None:
    reply = await panel.get("/photos", accept=accept)
    assert (reply.status, reply.reason) == (404, "ROUTE_NOT_FOUND")


@pytest.mark.parametrize("prefix", sorted(API_PREFIXES))
@SHARES_GATEWAY
async def test_paths_of_the_api_are_no_pages(panel: Gateway, prefix: str) -> None:
    reply = await panel.get(f"/{prefix}/there-is-none/of-these", **HTML)
    assert reply.status in (401, 404)
    assert reply.headers["content-type"] == "application/problem+json"


@SHARES_GATEWAY
async def test_prefixes_cover_every_route(panel: Gateway) -> None:
    """A page must not appear where a deployment without some routes has nothing."""
    deps = panel.deps
    assert deps.hub is not None
    assert deps.keys is not None
    assert deps.terms is not None
    plain = [
        *operation_routes(deps.metrics.registry, deps.is_ready),
        *live_routes(deps.hub),
        *well_known_routes(deps.keys, deps.terms),
    ]
    paths = [each.path for each in plain if isinstance(each, Route | WebSocketRoute)]
    assert len(paths) == len(plain)
    paths += (await panel.get("/openapi.json")).json()["paths"]
    assert {path.split("/")[1] for path in paths} <= API_PREFIXES
    assert {PREFIX.strip("/"), PATH.strip("/")} <= API_PREFIXES


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@SHARES_GATEWAY
async def test_pages_are_read_only(panel: Gateway, method: str) -> None:
    reply = await panel.call(method, "/", headers=HTML)
    assert (reply.status, reply.reason) == (405, "METHOD_NOT_ALLOWED")
    assert reply.headers["allow"] == "GET, HEAD"
    reply = await panel.call(method, "/photos", headers=HTML)
    assert (reply.status, reply.reason) == (404, "ROUTE_NOT_FOUND")


@SHARES_GATEWAY
async def test_methods_of_the_api_stay_as_they_are(panel: Gateway) -> None:
    reply = await panel.get("/api/auth/login", **HTML)
    assert (reply.status, reply.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize(
    "path",
    [
        "/assets/../../secret.js",
        "/assets/../index.html",
        "/../secret.js",
        "/assets/%2e%2e/%2e%2e/secret.js",
        "/assets/%2e%2e%2f%2e%2e%2fsecret.js",
        "/assets/..%5c..%5csecret.js",
        "/assets/%252e%252e/secret.js",
        "/assets/index.js%00",
        "/assets/index.js%00.css",
        "/assets//index.js",
        "//assets/index.js",
        "/%2fetc/passwd",
        "/assets/",
        "/assets",
        "/assets/deep",
        "/assets/INDEX.js",
        "/index.html/..",
        "/.env",
        "/photos/%00",
        "/photos/..",
        "/photos/%2e%2e",
        "/photos/%ff",
        "/photos/%0d%0aset-cookie:a",
        "/photos/<script>",
    ],
)
@SHARES_GATEWAY
async def test_other_paths_name_no_file(panel: Gateway, path: str) -> None:
    """Sent as they are: clients would normalize some of them."""
    request = f"GET {path} HTTP/1.1\r\nHost: {panel.address}\r\nAccept: text/html\r\n"
    answer = await panel.raw(f"{request}Connection: close\r\n\r\n".encode())
    assert answer.startswith((b"HTTP/1.1 404 ", b"HTTP/1.1 400 ")), answer[:200]
    assert b"outside of the bundle" not in answer
    assert b"content-type: application/problem+json" in answer


@SHARES_GATEWAY
async def test_page_has_a_strict_policy(panel: Gateway) -> None:
    for path in ("/", "/photos", "/assets/index.js"):
        policy = (await panel.get(path, **HTML)).headers["content-security-policy"]
        rules = dict(rule.strip().partition(" ")[::2] for rule in policy.split(";"))
        assert rules["script-src"] == rules["style-src"] == "'self'"
        assert rules["connect-src"] == "'self' http://127.0.0.1:8081"
        assert rules["img-src"] == "'self' blob: data: http://127.0.0.1:8081"
        assert rules["frame-ancestors"] == "'none'"
        assert "unsafe" not in policy


async def test_missing_bundle_is_reported(tmp_path: Path) -> None:
    """The API goes on; a navigation says what to do."""
    async with running_gateway(
        tmp_path, extend=lambda deps, _: replace(deps, panel=read_files(tmp_path / "none"))
    ) as gateway:
        for path in ("/", "/photos"):
            reply = await gateway.get(path, **HTML)
            assert (reply.status, reply.reason) == (503, "PANEL_MISSING")
        assert (await gateway.get("/assets/index.js")).status == 404
        assert (await gateway.get("/healthz")).status == 200


@SHARES_GATEWAY
async def test_requests_of_pages_share_one_label(panel: Gateway) -> None:
    """Paths of strangers must not become labels."""
    before = requests_of("/{page}", await metrics_of(panel))
    for number in range(3):
        await panel.get(f"/photos/{number}", **HTML)
    text = await metrics_of(panel)
    assert requests_of("/{page}", text) - before == 3
    assert 'uri="/photos/1"' not in text


async def metrics_of(panel: Gateway) -> str:
    return (await panel.get("/metrics")).content.decode()


def requests_of(uri: str, text: str) -> float:
    """Return how many requests of a label were answered."""
    samples = [one for family in text_string_to_metric_families(text) for one in family.samples]
    return sum(
        one.value for one in samples if one.name.endswith("_count") and one.labels.get("uri") == uri
    )


def test_package_brings_its_bundle() -> None:
    page = bundled_files().page()
    assert b'<div id="root">' in page.identity.content
    assert page.media_type.startswith("text/html")


def test_bundle_needs_nothing_inline_or_foreign() -> None:
    """The policy would block it, and the page stay empty."""
    content = bundled_files().page().identity.content
    for forbidden in (b"<style", b" style=", b"http://", b"https://", b"onload="):
        assert forbidden not in content
    assert all(b" src=" in script for script in re.findall(rb"<script[^>]*>", content))
