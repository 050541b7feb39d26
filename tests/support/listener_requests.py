"""Requests of clients to the embedded object listener."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import aiohttp

from sluice_core.objects.marks import path_mark
from sluice_core.ports.object_store import ObjectAttributes
from sluice_core.uploads.model import MIB, ObjectRef
from support.object_listener import BUCKET, ObjectListener
from support.raw_http import RawClient
from support.waiting import until

REF = ObjectRef(BUCKET, "tenant/photos/node-1")
PHOTO = ObjectAttributes("image/jpeg", metadata={**path_mark("job/Grüße.jpg"), "empty": ""})
SIZE = 3 * MIB + 17
CONTENT = bytes(range(256)) * (SIZE // 256) + b"x" * (SIZE % 256)
MINUTE = 60


async def put_body(
    http: aiohttp.ClientSession,
    url: str,
    data: Any,
    headers: Mapping[str, str] = {"content-type": "image/jpeg"},
) -> tuple[int, Any]:
    """Send a body; return the status, and the problem or None."""
    body = io.BytesIO(data) if isinstance(data, bytes) else data
    async with http.put(url, data=body, headers=headers) as response:
        if response.content_type == "application/problem+json":
            return response.status, await response.json(content_type=None)
        assert await response.read() == b""
        return response.status, None


async def signed(listener: ObjectListener, data: bytes = CONTENT, ref: ObjectRef = REF) -> str:
    return (await listener.store.presign_put(ref, MINUTE, len(data), PHOTO)).url


async def raw_put(listener: ObjectListener, url: str, size: int) -> RawClient:
    """Send the head of a PUT; the body is up to the caller."""
    client = await listener.connect()
    await client.send_head("PUT", url, {"content-type": "image/jpeg", "content-length": str(size)})
    return client


async def assert_nothing_stored(listener: ObjectListener) -> None:
    assert await listener.store.head(REF) is None
    assert listener.created == []
    await until(lambda: not listener.leftovers(), what="temporary files removed")
