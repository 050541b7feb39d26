"""A client of the gateway's HTTP API, for the loads of the gate GATEWAY."""

from __future__ import annotations

import io
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from bench.load.chunk_sender import LoadFailedError

ENDS: Final = frozenset({"COMPLETED", "COMPLETED_WITH_ERRORS", "FAILED", "CANCELLED"})
"""States after which a job does not change."""
_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer: its status, the ETag, and the body as JSON."""

    status: int
    etag: str
    json: Any


@dataclass(frozen=True, slots=True)
class Gateway:
    """The API as one user sees it.

    `http` is shared: it holds the connections of all users of a load.
    """

    http: aiohttp.ClientSession
    base: str
    token: str = ""

    async def call(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Send a request and return its answer, whatever the status."""
        if self.token:
            headers["authorization"] = f"Bearer {self.token}"
        request = self.http.request(method, self.base + path, json=body, headers=headers)
        async with request as answer:
            # Empty for 304 and 204.
            content = await answer.json(content_type=None) if await answer.read() else None
            return Answer(answer.status, answer.headers.get("etag", ""), content)

    async def ok(self, method: str, path: str, body: Any = None) -> Any:
        """Return the body of an answer. Raise LoadFailedError for a refusal."""
        answer = await self.call(method, path, body)
        if answer.status >= 300:
            raise LoadFailedError(f"{method} {path}: {answer.status} {answer.json}")
        return answer.json

    async def registered(self) -> Gateway:
        """Register a new user; return the API as that user sees it."""
        account = {"email": f"{uuid.uuid4().hex}@example.com", "password": "correct horse"}
        session = await self.ok("POST", "/api/auth/register", account)
        return Gateway(self.http, self.base, session["token"])

    async def create_job(self, sizes: Sequence[int]) -> Any:
        """Create a job of JPEGs of these sizes; return the answer."""
        return await self.ok("POST", "/commands/upload-jobs", job_of(sizes))

    async def put(
        self, signed: Mapping[str, Any], content: bytes, *, is_part: bool = False
    ) -> None:
        """Put bytes by a signed URL. Raise LoadFailedError when the store refuses them.

        A store that has the object already is fine: the HTTP client repeats a PUT whose connection
        broke before an answer, and does not tell. A part has no such condition.
        """
        taken = (200,) if is_part else (200, 412)
        url, headers = signed["presignedUrl"], signed["headers"]
        async with self.http.put(url, data=io.BytesIO(content), headers=headers) as answer:
            if answer.status not in taken:
                raise LoadFailedError(f"PUT: {answer.status} {(await answer.text())[:300]}")

    async def send(self, item: Mapping[str, Any], content: bytes) -> None:
        """Send one photo as a client does: in one PUT or in parts, with progress; finalize it."""
        photo_id = item["photoId"]
        if item["multipart"] is None:
            await self.put(item, content)
        else:
            wanted = await self.ok("POST", f"/commands/upload/{photo_id}/parts")
            part_bytes = wanted["partSize"]
            for part in wanted["parts"]:
                at = (part["partNumber"] - 1) * part_bytes
                await self.put(part, content[at : at + part_bytes], is_part=True)
        sent = {"photoId": photo_id, "bytesSent": len(content), "bytesTotal": len(content)}
        await self.ok("POST", "/commands/upload/progress", sent)
        await self.ok("POST", f"/commands/upload/{photo_id}/finalize")


def job_of(sizes: Sequence[int]) -> dict[str, Any]:
    """Return the body that creates a job of JPEGs of these sizes."""
    files = [
        {"filename": f"IMG_{number:04}.jpg", "mimeType": "image/jpeg", "bytes": size}
        for number, size in enumerate(sizes)
    ]
    return {"files": files, "strategy": "s3-presigned"}


@asynccontextmanager
async def gateway(base: str, *, reuse: bool = True) -> AsyncIterator[Gateway]:
    """Open a client.

    Args:
        reuse: False opens a connection for each request, which a balancer sends to another replica.
    """
    connector = aiohttp.TCPConnector(limit=0, force_close=not reuse)
    timeout = aiohttp.ClientTimeout(total=_SECONDS)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as http:
        yield Gateway(http, base)
