"""Problem details (RFC 9457) of the object listener's errors."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from starlette.responses import Response

from sluice_core.errors import SluiceError
from sluice_gateway.http.problems import retry_after_seconds

_BY_CODE: Final[Mapping[str, int]] = {
    "INVALID_ARGUMENT": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "FAILED_PRECONDITION": 409,
    "ALREADY_EXISTS": 409,
    "ABORTED": 409,
    "DATA_LOSS": 422,
    "RESOURCE_EXHAUSTED": 429,
    "INTERNAL": 500,
    "UNIMPLEMENTED": 501,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
_BY_REASON: Final[Mapping[str, int]] = {
    "METHOD_NOT_ALLOWED": 405,
    "MESSAGE_STALLED": 408,
    "LENGTH_REQUIRED": 411,
    "PRECONDITION_FAILED": 412,
    "RANGE_NOT_SATISFIABLE": 416,
}
"""Reasons for which HTTP has a more exact status than that of their gRPC code."""


def problem_response(error: SluiceError) -> Response:
    """Return the answer for an error, with the headers that belong to its status."""
    status = _BY_REASON.get(error.reason, _BY_CODE[error.code])
    problem: dict[str, Any] = {
        "type": f"urn:sluice:reason:{error.reason}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": error.message,
        "reason": error.reason,
    }
    headers = {"cache-control": "no-store"}
    if error.metadata:
        problem["metadata"] = dict(error.metadata)
    if (delay := retry_after_seconds(error)) is not None:
        problem["retryAfterSeconds"] = delay
        # Whole seconds, rounded up: a retry after exactly this time is not too early.
        headers["retry-after"] = str(math.ceil(delay))
    if status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["allow"] = error.metadata["allow"]
    if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
        headers["content-range"] = f"bytes */{error.metadata['size']}"
    content = json.dumps(problem, separators=(",", ":")).encode()
    return Response(content, status, headers, "application/problem+json")
