"""JSON bodies, stricter than the standard library: one meaning or a refusal."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any, Final, NoReturn

from starlette.requests import Request

from sluice_gateway.http.refusals import malformed_body, unsupported_media_type

MAX_DEPTH: Final = 32
"""Nested arrays and objects; the deepest request of the API has four."""
MAX_MEMBERS: Final = 64
"""Of one object. An unknown member is an error of its own, and a hundred thousand of them take a
second."""
MAX_VALUES: Final = 100_000
"""Of one document; the largest request of the API has 20,000."""
_IN_PLACE_BYTES: Final = 32 * 1024
"""Larger bodies are parsed in a thread: a megabyte of small objects takes 0.2 s."""

_EXACT: Final = 2**53
"""Up to which a double has every integer."""


class _Refused(ValueError):
    """A document that JSON allows and this API does not; the text completes "The body …"."""


async def read_json(request: Request) -> Any:
    """Return the JSON document of a request's body.

    Raise `InvalidArgument` UNSUPPORTED_MEDIA_TYPE for a body that is not declared as JSON, and
    MALFORMED_MESSAGE for one that is malformed, ambiguous or too deep; what the reading raises.
    """
    check_media_type(request)
    body = await request.body()
    if len(body) <= _IN_PLACE_BYTES:
        return parse_json(body)
    return await asyncio.to_thread(parse_json, body)


def check_media_type(request: Request) -> None:
    """Raise `InvalidArgument` UNSUPPORTED_MEDIA_TYPE unless the body is declared as plain JSON.

    A page of another origin can send other types without asking first, JSON only after a
    preflight request (https://fetch.spec.whatwg.org/#simple-header).
    """
    declared = request.headers.getlist("content-type")
    encodings = request.headers.getlist("content-encoding")
    if len(declared) != 1 or any(each.lower() != "identity" for each in encodings):
        raise unsupported_media_type()
    media_type, _, parameters = declared[0].partition(";")
    charset = parameters.replace(" ", "").lower()
    if media_type.strip().lower() != "application/json" or charset not in (
        "",
        "charset=utf-8",
        'charset="utf-8"',
    ):
        raise unsupported_media_type()


def parse_json(body: bytes) -> Any:
    """Return the document. Raise `InvalidArgument` MALFORMED_MESSAGE.

    Refused beyond malformed text: duplicate keys, NaN, infinities, numbers that become one, text
    that UTF-8 cannot encode, and more than `MAX_DEPTH` levels, `MAX_MEMBERS` in one object and
    about `MAX_VALUES` altogether.
    """
    try:
        if body.count(b",") > MAX_VALUES:
            raise _Refused(f"has more than {MAX_VALUES} values")
        document = json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_object,
            parse_constant=_constant,
            parse_float=_number,
        )
        _check(document)
    except _Refused as refused:
        raise malformed_body(str(refused)) from None
    except UnicodeError:
        raise malformed_body("is not valid UTF-8") from None
    except RecursionError:
        raise malformed_body(f"has more than {MAX_DEPTH} levels") from None
    except ValueError:  # also a whole number of thousands of digits
        raise malformed_body("is not valid JSON") from None
    return document


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > MAX_MEMBERS:
        raise _Refused(f"has more than {MAX_MEMBERS} members in one object")
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _Refused("names a member of an object twice")
    return found


def _constant(name: str) -> NoReturn:
    raise _Refused(f"contains {name}, which is no JSON")


def _number(text: str) -> float | int:
    """Return a number with a fraction or an exponent.

    JSON has one kind of numbers: `1.0` is an integer (JSON Schema, 2020-12, core 4.2.3).
    """
    value = float(text)
    if not math.isfinite(value):
        raise _Refused("contains a number beyond the range of a double")
    return int(value) if value.is_integer() and abs(value) <= _EXACT else value


def _check(document: Any) -> None:
    """Check depth and texts. Without recursion: the document may be as deep as the parser goes."""
    level, depth = [document], 0
    while level:
        inner: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                inner.extend(value)
                inner.extend(value.values())
            elif isinstance(value, list):
                inner.extend(value)
            elif isinstance(value, str):
                if not value.isascii():
                    value.encode("utf-8")  # raises UnicodeEncodeError for a lone surrogate
                continue
            else:
                continue
            if depth == MAX_DEPTH:
                raise _Refused(f"has more than {MAX_DEPTH} levels")
        level, depth = inner, depth + 1
