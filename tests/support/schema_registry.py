"""A stand-in for a schema registry: the part of the Confluent API that serializers use, in memory.

It refuses what a real one refuses: schemas that are none, and references to nothing.
"""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from google.protobuf import timestamp_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError

CREDENTIALS = "writer:secret"
_AUTHORIZATION = f"Basic {base64.b64encode(CREDENTIALS.encode()).decode()}"


@dataclass(slots=True)
class SchemaRegistry:
    """Schemas by id, and the ids of each subject's versions, oldest first.

    `refuse` answers registrations with this status, as if a schema were incompatible (409) or the
    registry out of order (500).
    """

    url: str = ""
    refuse: int | None = None
    requests: int = 0
    schemas: dict[int, dict[str, Any]] = field(default_factory=dict)
    subjects: dict[str, list[int]] = field(default_factory=dict)

    def pool(self, schema_id: int) -> tuple[DescriptorPool, FileDescriptorProto]:
        """The files of a schema, its references before it, ready to parse messages with."""
        pool = DescriptorPool()
        pool.AddSerializedFile(timestamp_pb2.DESCRIPTOR.serialized_pb)
        return pool, self._add(pool, self.schemas[schema_id], "")

    def _add(self, pool: DescriptorPool, schema: dict[str, Any], name: str) -> FileDescriptorProto:
        for reference in schema.get("references") or ():
            versions = self.subjects[reference["subject"]]
            self._add(pool, self.schemas[versions[reference["version"] - 1]], reference["name"])
        file = FileDescriptorProto.FromString(base64.b64decode(schema["schema"], validate=True))
        file.name = name or file.name
        pool.Add(file)
        return file

    async def register(self, request: web.Request) -> web.Response:
        if self.refuse is not None:
            return _error(self.refuse, self.refuse * 100, "not that schema")
        schema = await request.json()
        known = self._id_of(schema)
        schema_id = known or len(self.schemas) + 1
        self.schemas[schema_id] = schema
        try:
            self.pool(schema_id)
        except (ValueError, DecodeError, TypeError, KeyError, IndexError):
            if known is None:
                del self.schemas[schema_id]
            return _error(422, 42201, "invalid schema")
        versions = self.subjects.setdefault(request.match_info["subject"], [])
        if schema_id not in versions:
            versions.append(schema_id)
        return web.json_response({"id": schema_id})

    async def look_up(self, request: web.Request) -> web.Response:
        subject = request.match_info["subject"]
        schema_id = self._id_of(await request.json())
        versions = self.subjects.get(subject, [])
        if schema_id is None or schema_id not in versions:
            return _error(404, 40403, "schema not found")
        return self._described(subject, versions.index(schema_id) + 1)

    async def version(self, request: web.Request) -> web.Response:
        subject, version = request.match_info["subject"], int(request.match_info["version"])
        if not 1 <= version <= len(self.subjects.get(subject, [])):
            return _error(404, 40402, "version not found")
        return self._described(subject, version)

    async def by_id(self, request: web.Request) -> web.Response:
        schema = self.schemas.get(int(request.match_info["id"]))
        return _error(404, 40403, "schema not found") if schema is None else _json(schema)

    def _described(self, subject: str, version: int) -> web.Response:
        schema_id = self.subjects[subject][version - 1]
        facts = {"subject": subject, "id": schema_id, "version": version}
        return _json({**self.schemas[schema_id], **facts})

    def _id_of(self, schema: dict[str, Any]) -> int | None:
        return next((number for number, each in self.schemas.items() if each == schema), None)


@asynccontextmanager
async def schema_registry() -> AsyncIterator[SchemaRegistry]:
    """A registry that runs, with a password."""
    registry = SchemaRegistry()

    @web.middleware
    async def guard(request: web.Request, handler: Any) -> web.StreamResponse:
        registry.requests += 1
        if request.headers.get("Authorization") != _AUTHORIZATION:
            return _error(401, 401, "who are you?")
        response: web.StreamResponse = await handler(request)
        return response

    app = web.Application(middlewares=[guard])
    app.router.add_post("/subjects/{subject}/versions", registry.register)
    app.router.add_post("/subjects/{subject}", registry.look_up)
    app.router.add_get("/subjects/{subject}/versions/{version}", registry.version)
    app.router.add_get("/schemas/ids/{id}", registry.by_id)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        registry.url = f"http://{host}:{port}"
        yield registry
    finally:
        await runner.cleanup()


def _json(facts: dict[str, Any]) -> web.Response:
    return web.json_response(facts)


def _error(status: int, code: int, message: str) -> web.Response:
    return web.json_response({"error_code": code, "message": message}, status=status)
