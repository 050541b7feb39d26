"""Probes, metrics and the OpenAPI document."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from sluice_core.photos.model import Owner
from support.clone import ROOT
from support.gateway import ANN, Gateway, running_gateway
from support.photo_jobs import new_job
from support.waiting import until

GUIDED = re.compile(r"^\| `((?:GET|POST|DELETE) /(?:api|commands|queries)/[^`?]+)", re.MULTILINE)
"""Routes in the tables of docs/gateway.md, without their query."""


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/healthz", b"alive\n"),
        ("/readyz", b"ready\n"),
        ("/actuator/health", b'{"status":"UP"}'),
        ("/actuator/health/liveness", b'{"status":"UP"}'),
        ("/actuator/health/readiness", b'{"status":"UP"}'),
    ],
)
async def test_probe_answers(gateway: Gateway, path: str, body: bytes) -> None:
    reply = await gateway.get(path)
    assert (reply.status, reply.content) == (200, body)
    assert (await gateway.call("HEAD", path)).status == 200


async def test_gateway_that_is_not_ready_says_so(gateway: Gateway) -> None:
    gateway.ready[0] = False
    assert (await gateway.get("/readyz")).status == 503
    health = await gateway.get("/actuator/health")
    assert (health.status, health.json()) == (503, {"status": "OUT_OF_SERVICE"})
    assert (await gateway.get("/healthz")).status == 200


@pytest.mark.parametrize("path", ["/metrics", "/actuator/prometheus"])
async def test_metrics_are_exported(gateway: Gateway, path: str) -> None:
    await gateway.register()
    text = (await gateway.get(path)).content.decode()
    assert (
        'http_server_requests_seconds_bucket{le="10.0",method="POST",status="201",'
        'uri="/api/auth/register"} 1.0'
    ) in text
    assert 'sluice_gateway_sessions_total{kind="register",outcome="created"} 1.0' in text
    assert "sluice_gateway_signing_keys 1.0" in text


REQUESTS = "http_server_requests_seconds"
IN_PROGRESS = "sluice_http_requests_in_progress"


def requests_of(gateway: Gateway, uri: str, status: str) -> tuple[float, float]:
    """Return how many GET requests were measured, and the sum of their seconds."""
    value = gateway.deps.metrics.registry.get_sample_value
    labels = {"method": "GET", "uri": uri, "status": status}
    count, seconds = (value(f"{REQUESTS}_{what}", labels) for what in ("count", "sum"))
    return count or 0.0, seconds or 0.0


async def test_event_stream_is_measured_until_it_begins(gateway: Gateway) -> None:
    """Its life is not the duration of a request, and would be counted when it is over only."""
    session = await gateway.register()
    bearer, user_id = f"Bearer {session['token']}", session["user"]["userId"]
    made = await gateway.catalogue.create_job(new_job(owner=Owner(user_id, user_id)))
    url = f"{gateway.url}/queries/upload-jobs/{made.job.job_id}/events"
    uri = "/queries/upload-jobs/{job_id}/events"
    async with gateway.http.get(url, headers={"authorization": bearer}) as stream:
        assert stream.status == 200
        count, seconds = requests_of(gateway, uri, "200")
        assert count == 1.0
        assert gateway.deps.metrics.registry.get_sample_value(IN_PROGRESS) == 0.0
    assert gateway.deps.hub is not None
    sessions = gateway.deps.hub.sessions
    await until(lambda: len(sessions) == 0, 10, "the stream has ended")
    assert requests_of(gateway, uri, "200") == (1.0, seconds)


async def test_refused_event_stream_is_measured(gateway: Gateway) -> None:
    bearer = f"Bearer {(await gateway.register())['token']}"
    path = "/queries/upload-jobs/none/events"
    assert (await gateway.get(path, authorization=bearer)).status == 404
    assert requests_of(gateway, "/queries/upload-jobs/{job_id}/events", "404")[0] == 1.0


async def test_websocket_is_measured_until_it_begins(gateway: Gateway) -> None:
    async with gateway.http.ws_connect(f"{gateway.url}/ws"):
        assert requests_of(gateway, "/ws", "101")[0] == 1.0
        assert gateway.deps.metrics.registry.get_sample_value(IN_PROGRESS) == 0.0
    assert requests_of(gateway, "/ws", "101")[0] == 1.0


async def test_refused_websocket_is_measured(gateway: Gateway) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError):
        await gateway.http.ws_connect(f"{gateway.url}/ws", origin="https://evil.example")
    # A foreign origin is refused before a route is found.
    await until(lambda: requests_of(gateway, "UNKNOWN", "403")[0] == 1.0, 5, "it is measured")


async def test_openapi_documents_every_route(gateway: Gateway) -> None:
    document = (await gateway.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    operations = {
        f"{method.upper()} {path}" for path, each in document["paths"].items() for method in each
    }
    guide = (ROOT / "docs" / "gateway.md").read_text(encoding="utf-8")
    assert operations == set(GUIDED.findall(guide))
    for operation in (one for each in document["paths"].values() for one in each.values()):
        assert "422" not in operation["responses"], "FastAPI's own error is never answered"
        problem = operation["responses"]["default"]["content"]["application/problem+json"]
        assert problem["schema"] == {"$ref": "#/components/schemas/ProblemView"}
    assert document["paths"]["/api/auth/me"]["get"]["security"] == [{"bearer": []}]


async def test_openapi_refers_to_existing_schemas(gateway: Gateway) -> None:
    document = (await gateway.get("/openapi.json")).json()

    def references(value: Any) -> list[str]:
        if isinstance(value, dict):
            own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
            return own + [each for inner in value.values() for each in references(inner)]
        if isinstance(value, list):
            return [each for inner in value for each in references(inner)]
        return []

    found = references(document)
    assert found
    for reference in found:
        at: Any = document
        for name in reference.removeprefix("#/").split("/"):
            at = at[name]


async def test_stop_lets_a_request_finish(tmp_path: Path) -> None:
    """A registration takes a while; the end of the server waits for it."""
    async with aiohttp.ClientSession() as client:
        async with running_gateway(tmp_path, even_seconds=0.5) as gateway:
            url = f"{gateway.url}/api/auth/register"
            register = asyncio.create_task(_status(client, url))
            await until(lambda: gateway.catalogue.find_user(ANN["email"]))
            assert not register.done()
        assert await register == 201


async def _status(client: aiohttp.ClientSession, url: str) -> int:
    async with client.post(url, json=ANN) as answer:
        await answer.read()
        return answer.status
