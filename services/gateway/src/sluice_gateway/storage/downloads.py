"""GET and HEAD of objects: conditions, one range, and a type that no browser renders."""

from __future__ import annotations

from contextlib import aclosing
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from sluice_backends.files.signed_urls import GetGrant
from sluice_core.objects.presigning import DOWNLOAD_TYPE, attachment
from sluice_core.ports.object_listener import ListenerStore, OpenObject
from sluice_gateway.http.disconnects import watching_disconnect
from sluice_gateway.http.dropping import SlowSubscriber, find_drop, send_within
from sluice_gateway.http.paced_bodies import Pace
from sluice_gateway.storage.ranges import (
    ByteRange,
    Condition,
    Unsatisfiable,
    evaluate,
    range_applies,
    requested_range,
)
from sluice_gateway.storage.refusals import precondition_failed, range_not_satisfiable


class Downloads:
    """Sender of objects.

    Args:
        pace: `stall_seconds` limits the wait for a client that takes no block.
    """

    def __init__(self, store: ListenerStore, pace: Pace) -> None:
        self._store = store
        self._pace = pace

    async def send(self, grant: GetGrant, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request.

        Raise the errors of the store, `FailedPrecondition` PRECONDITION_FAILED, `OutOfRange`
        RANGE_NOT_SATISFIABLE, all before the answer begins. An object that turns out damaged ends
        the connection early, so that nobody takes what was sent for the whole.
        """
        async with self._store.open_object(grant.ref) as opened:
            headers = Headers(scope=scope)
            response, part = _answer(opened, grant, headers)
            if scope["method"] == "HEAD" or part is None:
                await response(scope, receive, send)
                return
            drop = find_drop(scope)
            try:
                await self._send_bytes(opened, part, response, receive, send)
            except SlowSubscriber:
                # A close would wait until the client has read what is buffered.
                drop(0, "", 0.0)

    async def _send_bytes(
        self, opened: OpenObject, part: ByteRange, response: Response, receive: Receive, send: Send
    ) -> None:
        async with (
            aclosing(opened.read(part.start, part.stop - part.start)) as blocks,
            watching_disconnect(receive) as has_gone,
        ):
            # Read before the answer begins, so that a missing file is an error of its own.
            block = await anext(blocks, None)
            await send(
                {
                    "type": "http.response.start",
                    "status": response.status_code,
                    "headers": response.raw_headers,
                }
            )
            while block is not None:
                message = {"type": "http.response.body", "body": block, "more_body": True}
                await send_within(self._pace.stall_seconds, send(message))
                if has_gone():
                    return
                block = await anext(blocks, None)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _answer(
    opened: OpenObject, grant: GetGrant, headers: Headers
) -> tuple[Response, ByteRange | None]:
    """Return the head of the answer and the bytes to send; None for an answer without any."""
    info = opened.info
    common = {
        "etag": f'"{info.etag}"',
        "accept-ranges": "bytes",
        # The URL is a secret, and the bytes behind it may be deleted.
        "cache-control": "private, no-cache",
    }
    condition = evaluate(
        info.etag,
        if_match=headers.get("if-match"),
        if_none_match=headers.get("if-none-match"),
    )
    if condition is Condition.FAILED:
        raise precondition_failed()
    if condition is Condition.NOT_MODIFIED:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=common), None
    found = None
    if range_applies(headers.get("if-range"), info.etag):
        found = requested_range(headers.get("range"), info.size)
    if isinstance(found, Unsatisfiable):
        raise range_not_satisfiable(info.size)
    part = found or ByteRange(0, info.size)
    response = Response(
        status_code=HTTPStatus.OK if found is None else HTTPStatus.PARTIAL_CONTENT,
        headers={
            **common,
            "content-type": DOWNLOAD_TYPE,
            "content-disposition": attachment(grant.filename),
            "content-length": str(part.stop - part.start),
            "x-content-type-options": "nosniff",
            "content-security-policy": "sandbox; default-src 'none'",
        },
    )
    if found is not None:
        response.headers["content-range"] = found.content_range(info.size)
    return response, part
