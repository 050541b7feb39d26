"""In-memory schema registry with the part of the Confluent API that serializers use."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import unquote

from google.protobuf import timestamp_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError

Facts = Any
"""A decoded JSON value."""


class StandIn:
    """Schemas by id, and the ids of each subject's versions, oldest first.

    It rejects what a real registry rejects: invalid schemas, unknown references, and fields of
    another type where a subject requires compatibility.
    """

    kind = "standin"

    def __init__(self) -> None:
        self._schemas: dict[int, Facts] = {}
        self._subjects: dict[str, list[int]] = {}
        self._compatible: set[str] = set()

    async def ask(self, method: str, path: str, body: bytes = b"") -> tuple[int, str]:
        """Return the status and the JSON of the answer. `path` is quoted as in the request."""
        status, facts = self._answer(method, path.partition("?")[0], body)
        return status, json.dumps(facts)

    def _answer(self, method: str, path: str, body: bytes) -> tuple[int, Facts]:
        match method, [unquote(part) for part in path.strip("/").split("/")]:
            case "GET", ["subjects"]:
                return 200, sorted(self._subjects)
            case "POST", ["subjects", subject, "versions"]:
                return self._register(subject, json.loads(body))
            case "POST", ["subjects", subject]:
                return self._look_up(subject, json.loads(body))
            case "GET", ["subjects", subject, "versions", version]:
                return self._version(subject, int(version))
            case "GET", ["schemas", "ids", schema_id]:
                schema = self._schemas.get(int(schema_id))
                return (200, schema) if schema is not None else _error(404, 40403)
            case "PUT", ["config", subject]:
                self._compatible.add(subject)
                return 200, json.loads(body)
        return _error(404, 404)

    def _register(self, subject: str, schema: Facts) -> tuple[int, Facts]:
        known = self._id_of(schema)
        schema_id = known or len(self._schemas) + 1
        try:
            file = self._parsed(schema)
        except (ValueError, DecodeError, TypeError, KeyError, IndexError):
            return _error(422, 42201)
        versions = self._subjects.get(subject, [])
        if subject in self._compatible and not all(
            _reads(file, self._parsed(self._schemas[version])) for version in versions
        ):
            return _error(409, 409)
        self._schemas[schema_id] = schema
        if schema_id not in versions:
            self._subjects[subject] = [*versions, schema_id]
        return 200, {"id": schema_id}

    def _look_up(self, subject: str, schema: Facts) -> tuple[int, Facts]:
        schema_id = self._id_of(schema)
        versions = self._subjects.get(subject, [])
        if schema_id is None or schema_id not in versions:
            return _error(404, 40403)
        return self._version(subject, versions.index(schema_id) + 1)

    def _version(self, subject: str, version: int) -> tuple[int, Facts]:
        versions = self._subjects.get(subject, [])
        if not 1 <= version <= len(versions):
            return _error(404, 40402)
        schema_id = versions[version - 1]
        facts = {"subject": subject, "id": schema_id, "version": version}
        return 200, {**self._schemas[schema_id], **facts}

    def _id_of(self, schema: Facts) -> int | None:
        return next((number for number, each in self._schemas.items() if each == schema), None)

    def _parsed(self, schema: Facts) -> FileDescriptorProto:
        """Return the file of a schema with all its imports. Raises for an invalid schema."""
        pool = DescriptorPool()
        pool.AddSerializedFile(timestamp_pb2.DESCRIPTOR.serialized_pb)
        return self._add(pool, schema, "")

    def _add(self, pool: DescriptorPool, schema: Facts, name: str) -> FileDescriptorProto:
        for reference in schema.get("references") or ():
            versions = self._subjects[reference["subject"]]
            self._add(pool, self._schemas[versions[reference["version"] - 1]], reference["name"])
        file = FileDescriptorProto.FromString(base64.b64decode(schema["schema"], validate=True))
        file.name = name or file.name
        pool.Add(file)
        return file


def _reads(new: FileDescriptorProto, old: FileDescriptorProto) -> bool:
    """Return whether all fields common to both files have the same type."""
    before, after = _types(old), _types(new)
    return all(after[field] == before[field] for field in before.keys() & after.keys())


def _types(file: FileDescriptorProto) -> dict[tuple[str, int], tuple[int, str]]:
    return {
        (message.name, field.number): (field.type, field.type_name)
        for message in file.message_type
        for field in message.field
    }


_WORDS = {404: "not found", 409: "incompatible schema", 422: "invalid schema"}


def _error(status: int, code: int) -> tuple[int, Facts]:
    return status, {"error_code": code, "message": _WORDS[status]}
