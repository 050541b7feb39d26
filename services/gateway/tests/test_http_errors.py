"""Errors of HTTP itself: each is a problem document with a stable reason."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from sluice_core.errors import (
    AlreadyExists,
    DeadlineExceeded,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    SluiceError,
    Unauthenticated,
    Unavailable,
)
from sluice_gateway.http.json_bodies import MAX_DEPTH, parse_json
from sluice_gateway.http.problems import http_status, problem_of, problem_response
from sluice_gateway.http.request_context import RequestContext
from sluice_gateway.metrics import HttpMetrics
from support.gateway import ANN, Gateway, running_gateway

LOGIN = "/api/auth/login"
JSON = {"content-type": "application/json"}


async def test_unknown_route_is_a_problem(gateway: Gateway) -> None:
    for path in ("/nowhere", "/api/auth/login/", "/%ff", "/a%00b", "/../etc/passwd"):
        reply = await gateway.call("GET", path)
        assert (reply.status, reply.reason) == (404, "ROUTE_NOT_FOUND"), path


async def test_unknown_method_is_a_problem(gateway: Gateway) -> None:
    reply = await gateway.call("GET", LOGIN)
    assert (reply.status, reply.reason) == (405, "METHOD_NOT_ALLOWED")
    assert reply.headers["allow"] == "POST"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/commands/photos/ph_x/tags", "DELETE, POST"),
        ("PUT", "/queries/photos", "GET, HEAD"),
        ("POST", "/openapi.json", "GET, HEAD"),
        ("GET", "/commands/upload/progress", "POST"),
        ("HEAD", LOGIN, "POST"),
    ],
)
async def test_allow_names_all_methods_of_a_path(
    gateway: Gateway, method: str, path: str, allowed: str
) -> None:
    """Also those of other routes with the same path."""
    reply = await gateway.call(method, path)
    assert (reply.status, reply.headers["allow"]) == (405, allowed)


@pytest.mark.parametrize("path", ["/openapi.json", "/queries/photos", "/queries/tags", "/healthz"])
async def test_head_is_served_wherever_get_is(gateway: Gateway, path: str) -> None:
    whole, head = await gateway.get(path), await gateway.call("HEAD", path)
    assert (head.status, head.content) == (200, b"")
    assert whole.status == 200
    for name in ("content-type", "content-length", "etag"):
        assert head.headers.get(name) == whole.headers.get(name)
    assert (await gateway.call("HEAD", "/nowhere")).status == 404
    metrics = (await gateway.get("/metrics")).content.decode()
    assert "UNKNOWN" not in "".join(
        line for line in metrics.splitlines() if "HEAD" in line and '"200"' in line
    )


@pytest.mark.parametrize(
    "body",
    [
        b" ",
        b"{",
        b"[1,]",
        b'{"email":"a","email":"b"}',
        b'{"a":{"b":1,"b":2}}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":-Infinity}',
        b'{"a":1e999}',
        b'{"a":' + b"9" * 5000 + b"}",
        b'{"a":"\\ud800"}',
        b'{"\\udfff":1}',
        b"\xff\xfe{\x00}\x00",
        b'{"a":"\xff"}',
        b"\xef\xbb\xbf{}",
        b"[" * 33 + b"]" * 33,
        b"[" * 400_000 + b"]" * 400_000,
        b'{"a":' * 150_000 + b"1" + b"}" * 150_000,
        b"{}{}",
        b'{"a":1}\x00',
    ],
    ids=lambda body: f"{len(body)}-{body[:12]!r}",
)
async def test_ambiguous_json_is_refused(gateway: Gateway, body: bytes) -> None:
    reply = await gateway.call("POST", "/commands/upload-jobs", data=body, headers=JSON)
    assert (reply.status, reply.reason) == (400, "MALFORMED_MESSAGE")


async def test_missing_body_is_an_invalid_request(gateway: Gateway) -> None:
    reply = await gateway.call("POST", LOGIN, headers=JSON)
    assert (reply.status, reply.reason) == (422, "INVALID_REQUEST")


def test_json_of_the_deepest_level_is_read() -> None:
    text = b"[" * MAX_DEPTH + b"1" + b"]" * MAX_DEPTH
    parse_json(text)
    with pytest.raises(InvalidArgument):
        parse_json(b"[" + text + b"]")


_json = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(_json)
def test_valid_json_is_read_as_by_the_library(document: Any) -> None:
    assert parse_json(json.dumps(document).encode()) == document


def test_whole_numbers_are_integers() -> None:
    """However they are written: JSON has one kind of numbers."""
    numbers = parse_json(b"[1, 1.0, 1e3, -0.0, 1.5, 1e300]")
    assert numbers == [1, 1, 1000, 0, 1.5, 1e300]
    assert [type(each) for each in numbers] == [int, int, int, int, float, float]


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    with suppress(InvalidArgument):  # nothing else
        parse_json(body)


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "multipart/form-data; boundary=x"},
        {"content-type": "application/json; charset=utf-16"},
        {"content-type": "application/jsonp"},
        {"content-type": "application/json", "content-encoding": "gzip"},
    ],
    ids=lambda headers: "-".join(headers.values()),
)
async def test_other_media_types_are_refused(gateway: Gateway, headers: dict[str, str]) -> None:
    reply = await gateway.call("POST", LOGIN, data=json.dumps(ANN), headers=headers)
    assert (reply.status, reply.reason) == (415, "UNSUPPORTED_MEDIA_TYPE")


async def test_missing_media_type_is_refused(gateway: Gateway) -> None:
    """A page of another origin can send a body without a type, and needs no preflight for it."""
    answer = await gateway.raw(
        f"POST {LOGIN} HTTP/1.1\r\nhost: {gateway.address}\r\ncontent-length: 2\r\n".encode()
        + b"connection: close\r\n\r\n{}"
    )
    assert answer.startswith(b"HTTP/1.1 415 ")


async def test_json_with_a_charset_is_read(gateway: Gateway) -> None:
    await gateway.register()
    headers = {"content-type": "Application/JSON; charset=UTF-8"}
    reply = await gateway.call("POST", LOGIN, data=json.dumps(ANN), headers=headers)
    assert reply.status == 200


async def test_request_id_of_the_client_is_kept(gateway: Gateway) -> None:
    reply = await gateway.get("/nowhere", **{"x-request-id": "abc-123"})
    assert reply.json()["requestId"] == reply.headers["x-request-id"] == "abc-123"


@pytest.mark.parametrize("sent", ["a" * 65, "a b", "<script>", "ä"])
async def test_odd_request_id_is_replaced(gateway: Gateway, sent: str) -> None:
    reply = await gateway.get("/nowhere", **{"x-request-id": sent})
    assert reply.headers["x-request-id"] not in (sent, "")


async def test_trace_id_of_the_client_is_answered(gateway: Gateway) -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    for path in ("/nowhere", "/healthz"):
        reply = await gateway.get(path, traceparent=f"00-{trace}-b7ad6b7169203331-01")
        assert reply.headers["x-trace-id"] == trace


async def test_every_answer_has_a_trace_id(gateway: Gateway) -> None:
    ids = {(await gateway.get("/healthz")).headers["x-trace-id"] for _ in range(3)}
    assert len(ids) == 3
    assert all(len(each) == 32 and set(each) <= set("0123456789abcdef") for each in ids)


async def test_registered_metrics_have_bounded_labels(gateway: Gateway) -> None:
    for path in ("/a", "/b", "/healthz", "/api/auth/me"):
        await gateway.get(path)
    text = (await gateway.get("/metrics")).content.decode()
    uris = {line.partition('uri="')[2].partition('"')[0] for line in text.splitlines()}
    assert uris - {""} == {"UNKNOWN", "/healthz", "/api/auth/me"}
    assert 'sluice_http_refused_total{reason="ROUTE_NOT_FOUND"} 2.0' in text


# -- errors of handlers


class Faulty:
    """Raises an error for paths below /faulty, before or after the begin of an answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._router = Router(
            [Route("/faulty/{kind}", self._raise), Route("/faulty/half/{kind}", self._half)]
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_faulty = scope["type"] == "http" and scope["path"].startswith("/faulty")
        await (self._router if is_faulty else self._app)(scope, receive, send)

    async def _raise(self, request: Request) -> Response:
        if request.path_params["kind"] == "defect":
            raise ZeroDivisionError("secret of /srv/db")
        raise Unavailable(
            "CATALOGUE_UNAVAILABLE",
            "The catalogue does not answer; try again.",
            retry_after_seconds=0.5,
            log_detail="mysql on 10.0.0.1",
        )

    async def _half(self, request: Request) -> Response:
        async def body() -> AsyncIterator[bytes]:
            yield b"half"
            raise ZeroDivisionError

        return StreamingResponse(body(), headers={"content-length": "8"})


@pytest.fixture
async def faulty(tmp_path: Path) -> AsyncIterator[Gateway]:
    metrics = HttpMetrics()
    async with running_gateway(
        tmp_path, wrap=lambda app: RequestContext(Faulty(app), metrics)
    ) as running:
        yield running


async def test_defect_reveals_nothing(
    faulty: Gateway, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    reply = await faulty.get("/faulty/defect")
    assert (reply.status, reply.reason) == (500, "INTERNAL")
    assert b"secret" not in reply.content
    assert "secret of" in caplog.text + capsys.readouterr().out, "the log has the cause"


async def test_unavailable_backend_says_when_to_retry(faulty: Gateway) -> None:
    reply = await faulty.get("/faulty/backend")
    assert (reply.status, reply.reason) == (503, "CATALOGUE_UNAVAILABLE")
    assert reply.headers["retry-after"] == "1"
    assert reply.json()["retryAfterSeconds"] == 0.5
    assert b"10.0.0.1" not in reply.content


async def test_half_an_answer_ends_the_connection(faulty: Gateway) -> None:
    """A client must be able to detect that it is incomplete."""
    answer = await faulty.raw(
        f"GET /faulty/half/x HTTP/1.1\r\nhost: {faulty.address}\r\n\r\n".encode()
    )
    assert answer.endswith(b"half")
    assert b"problem" not in answer


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidArgument("X", "m"), 400),
        (InvalidArgument("X", "m", field="f"), 422),
        (Unauthenticated("X", "m"), 401),
        (PermissionDenied("X", "m"), 403),
        (NotFound("X", "m"), 404),
        (FailedPrecondition("X", "m"), 409),
        (AlreadyExists("X", "m"), 409),
        (ResourceExhausted("X", "m"), 429),
        (Unavailable("X", "m"), 503),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, SluiceError) else str(each),
)
def test_code_of_an_error_decides_its_status(error: SluiceError, status: int) -> None:
    assert http_status(error) == status


def test_every_code_of_the_core_has_a_status() -> None:
    """An error class without one would be a defect in the middle of an answer."""
    pending, codes = [SluiceError], set()
    while pending:
        kind = pending.pop()
        codes.add(kind)
        pending += kind.__subclasses__()
    for kind in codes:
        if kind.__init__ is SluiceError.__init__:
            assert 400 <= http_status(kind("X", "m")) <= 504


@pytest.mark.parametrize(
    ("error", "delay"),
    [
        (Unavailable("STORE_UNAVAILABLE", "Try again."), 1),
        (DeadlineExceeded("STORE_TIMEOUT", "Try again."), 1),
        (ResourceExhausted("REDIS_FULL", "Try again."), 1),
        (Unavailable("STORE_CIRCUIT_OPEN", "Try again.", retry_after_seconds=29.2), 30),
        (FailedPrecondition("PHOTO_ENDED", "Create a new job."), None),
    ],
    ids=lambda each: each.reason if isinstance(each, SluiceError) else "",
)
def test_temporary_refusal_names_a_delay(error: SluiceError, delay: int | None) -> None:
    """Also where the backend does not know one."""
    answer = problem_response(error, "r", "t")
    assert answer.headers.get("retry-after") == (None if delay is None else str(delay))
    assert ("retryAfterSeconds" in json.loads(bytes(answer.body))) == (delay is not None)


def test_long_texts_of_an_error_are_cut() -> None:
    error = InvalidArgument(
        "X", "m" * 5000, metadata={f"k{number}": "v" * 5000 for number in range(100)}
    )
    assert len(json.dumps(problem_of(error, "r", "t"))) < 8192


async def test_defect_does_not_slow_the_next_request(faulty: Gateway) -> None:
    await faulty.get("/faulty/defect")
    began = time.monotonic()
    assert (await faulty.get("/healthz")).status == 200
    assert time.monotonic() - began < 5
