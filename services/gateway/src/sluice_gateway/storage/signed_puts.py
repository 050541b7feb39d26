"""PUT of objects and parts: bytes go to the store as they arrive."""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Callable
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive

from sluice_backends.files.signed_urls import PartGrant, PutGrant
from sluice_core.objects.body import ArrivingBody
from sluice_core.ports.object_listener import ListenerStore, ObjectCreated
from sluice_gateway.http.paced_bodies import Pace, body_blocks
from sluice_gateway.storage.refusals import (
    bad_checksum,
    length_required,
    other_length,
    other_type,
)

_CHECKSUM_HEADER: Final = "x-amz-checksum-crc32c"
_CRC_BYTES: Final = 4


class SignedPuts:
    """Receiver of bodies.

    Args:
        object_created: called after an object is stored and before the client learns of it. A
            client whose request fails in between repeats it, and so the notification.
        clock: Unix seconds.
    """

    def __init__(
        self,
        store: ListenerStore,
        object_created: ObjectCreated,
        pace: Pace,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._object_created = object_created
        self._pace = pace
        self._clock = clock

    async def put(
        self, grant: PutGrant | PartGrant, headers: Headers, receive: Receive
    ) -> Response:
        """Store the body and return the answer. Raise the errors of the store and of the body."""
        _check_length(headers, grant.size)
        if isinstance(grant, PutGrant):
            _check_type(headers, grant.attributes.content_type)
        sent = _sent_crc32c(headers)
        body = ArrivingBody(
            body_blocks(receive, self._pace),
            size=grant.size,
            claimed_crc32c=sent if grant.crc32c is None else grant.crc32c,
        )
        if isinstance(grant, PartGrant):
            tag = await self._store.receive_part(grant.ref, grant.multipart_id, grant.number, body)
            etag = tag.etag
        else:
            etag = (await self._store.receive(grant.ref, body, grant.attributes)).etag
            await self._object_created(grant.ref, happened_at=self._clock())
        return Response(
            headers={"etag": f'"{etag}"', _CHECKSUM_HEADER: _encode_crc32c(body.crc32c)}
        )


def _check_length(headers: Headers, signed: int) -> None:
    lengths = headers.getlist("content-length")
    if "transfer-encoding" in headers or len(lengths) != 1 or not _is_number(lengths[0]):
        raise length_required()
    if int(lengths[0]) != signed:
        raise other_length(signed)


def _check_type(headers: Headers, signed: str) -> None:
    if headers.getlist("content-type") not in ([signed], [] if signed == "" else [signed]):
        raise other_type(signed)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 20


def _sent_crc32c(headers: Headers) -> int | None:
    """Return the checksum that the client sends. Raise `InvalidArgument` BAD_CHECKSUM."""
    text = headers.get(_CHECKSUM_HEADER)
    if text is None:
        return None
    try:
        decoded = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise bad_checksum() from None
    if len(decoded) != _CRC_BYTES:
        raise bad_checksum()
    return int.from_bytes(decoded, "big")


def _encode_crc32c(crc32c: int) -> str:
    return base64.b64encode(crc32c.to_bytes(_CRC_BYTES, "big")).decode()
