"""A password-protected schema registry for tests: Apicurio, or an in-memory stand-in.

SLUICE_SERVICES_REGISTRY chooses.
"""

from __future__ import annotations

import asyncio
import atexit
import base64
import json
import subprocess
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol
from urllib.parse import quote
from urllib.request import urlopen

import aiohttp
import pytest
from aiohttp import web
from google.protobuf import timestamp_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from yarl import URL

from support.redis_server import free_port
from support.standin_registry import StandIn
from support.starting import wait_for_start
from tools.backends.apicurio import API, Apicurio, find_registry
from tools.backends.errors import ChoiceError

CREDENTIALS = "writer:secret"
_AUTHORIZATION = f"Basic {base64.b64encode(CREDENTIALS.encode()).decode()}"
_JSON = {"Content-Type": "application/json"}
_START_SECONDS = 120.0


class Backend(Protocol):
    """The registry behind the front end. `kind` is "apicurio" or "standin"."""

    kind: str

    async def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, str]:
        """Return the status and the JSON of the answer. `path` is quoted as in the request."""
        ...


class SchemaRegistry:
    """Front end of a registry: checks the password, counts requests and refuses on demand.

    With `refuse` set it answers registrations with this status, like a registry that is out of
    order (503) or whose administrator forbids them (409). The tests of a process share one
    Apicurio, so the subjects of other tests exist too.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.kind = backend.kind
        self.url = ""
        self.refuse: int | None = None
        self.requests = 0

    async def answer(self, request: web.Request) -> web.Response:
        self.requests += 1
        if request.headers.get("Authorization") != _AUTHORIZATION:
            return web.json_response({"error_code": 401, "message": "who are you?"}, status=401)
        registers = request.method == "POST" and request.path.endswith("/versions")
        if registers and self.refuse is not None:
            facts = {"error_code": self.refuse * 100, "message": "not that schema"}
            return web.json_response(facts, status=self.refuse)
        body = await request.read()
        status, text = await self._backend.ask(request.method, request.raw_path, body)
        return web.Response(status=status, text=text, content_type="application/json")

    async def subjects(self) -> set[str]:
        """Return the names of all subjects."""
        return set(await self._get("/subjects"))

    async def version(self, subject: str, version: int) -> dict[str, Any]:
        """Return a registered version."""
        facts: dict[str, Any] = await self._get(f"/subjects/{_quoted(subject)}/versions/{version}")
        return facts

    async def register(self, subject: str, file: FileDescriptorProto) -> None:
        """Register a file without imports and make its subject backward compatible."""
        schema = base64.b64encode(file.SerializeToString()).decode()
        body = {"schemaType": "PROTOBUF", "schema": schema}
        await self._do("POST", f"/subjects/{_quoted(subject)}/versions", body)
        await self._do("PUT", f"/config/{_quoted(subject)}", {"compatibility": "BACKWARD"})

    async def pool(self, schema_id: int) -> tuple[DescriptorPool, FileDescriptorProto]:
        """Return a descriptor pool with a schema and its references, and the schema's file."""
        pool = DescriptorPool()
        pool.AddSerializedFile(timestamp_pb2.DESCRIPTOR.serialized_pb)
        return pool, await self._add(pool, await self._get(f"/schemas/ids/{schema_id}"), "")

    async def _add(
        self, pool: DescriptorPool, schema: Mapping[str, Any], name: str
    ) -> FileDescriptorProto:
        for reference in schema.get("references") or ():
            registered = await self.version(reference["subject"], reference["version"])
            await self._add(pool, registered, reference["name"])
        file = FileDescriptorProto.FromString(base64.b64decode(schema["schema"], validate=True))
        file.name = name or file.name
        pool.Add(file)
        return file

    async def _get(self, path: str) -> Any:
        return await self._do("GET", path)

    async def _do(self, method: str, path: str, body: Mapping[str, str] | None = None) -> Any:
        data = b"" if body is None else json.dumps(body).encode()
        status, text = await self._backend.ask(method, path, data)
        assert status == 200, text
        return json.loads(text)


class _ApicurioBackend:
    """A running Apicurio."""

    kind = "apicurio"

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url

    async def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, str]:
        url = URL(f"{self._url}{path}", encoded=True)
        request = self._session.request(method, url, data=body or None, headers=_JSON)
        async with request as answer:
            return answer.status, await answer.text()


@asynccontextmanager
async def schema_registry() -> AsyncIterator[SchemaRegistry]:
    """Run a registry inside the block."""
    async with _backend() as backend:
        registry = SchemaRegistry(backend)
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", registry.answer)
        runner = web.AppRunner(app)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            host, port = runner.addresses[0][:2]
            registry.url = f"http://{host}:{port}"
            yield registry
        finally:
            await runner.cleanup()


@asynccontextmanager
async def _backend() -> AsyncIterator[Backend]:
    try:
        found = find_registry()
    except ChoiceError as error:
        pytest.fail(str(error))
    if found is None:
        yield StandIn()
        return
    url = await asyncio.to_thread(_shared_apicurio, found)
    async with aiohttp.ClientSession() as session:
        yield _ApicurioBackend(session, url)


@cache
def _shared_apicurio(apicurio: Apicurio) -> str:
    """Start the Apicurio of this test process on first use and return its URL."""
    folder = TemporaryDirectory(prefix="sluice-apicurio-")
    atexit.register(folder.cleanup)
    log, port = Path(folder.name) / "log", free_port()
    with log.open("wb") as output:
        process = subprocess.Popen(
            apicurio.command(port, Path(folder.name)),
            cwd=folder.name,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    atexit.register(_end, process)
    url = f"http://127.0.0.1:{port}{API}"
    wait_for_start(process, lambda: _answers(url), log, _START_SECONDS)
    return url


def _answers(url: str) -> bool:
    try:
        with urlopen(f"{url}/subjects", timeout=5):
            return True
    except OSError:
        return False


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait(10)


def _quoted(subject: str) -> str:
    return quote(subject, safe="")
