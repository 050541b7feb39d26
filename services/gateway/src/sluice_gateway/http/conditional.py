"""Conditional GET (RFC 9110, 13): an unchanged answer is not sent again."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Final

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

_TAG: Final = re.compile(r'(?:W/)?"([\x21\x23-\x7e\x80-\xff]*)"')
_CACHE_CONTROL: Final = "private, no-cache"
"""Kept by the browser of the user alone, and never used without asking."""


def etag_of(parts: Iterable[object]) -> str:
    """Return the tag of an answer that these values determine, without its quotes."""
    digest = hashlib.blake2b(digest_size=12)
    for part in parts:
        digest.update(f"{part}\n".encode())
    return digest.hexdigest()


def known_etags(request: Request) -> frozenset[str]:
    """Return the tags of the answers that the client has, without their quotes."""
    return frozenset(_TAG.findall(request.headers.get("if-none-match", "")))


def conditional(request: Request, etag: str, view: BaseModel) -> Response:
    """Return the answer, or 304 if the client has it."""
    if etag in known_etags(request):
        return not_modified(etag)
    content = view.model_dump_json(by_alias=True)
    return Response(content, 200, _headers(etag), "application/json")


def not_modified(etag: str) -> Response:
    """Return 304."""
    return Response(None, 304, _headers(etag))


def _headers(etag: str) -> dict[str, str]:
    # Weak: the same state, not necessarily the same bytes.
    return {"etag": f'W/"{etag}"', "cache-control": _CACHE_CONTROL}
