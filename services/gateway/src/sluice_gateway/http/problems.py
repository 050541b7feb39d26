"""Problem details (RFC 9457) of errors: the HTTP equivalent of `sluice_common.rpc.errors`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from starlette.responses import Response

from sluice_core.errors import SluiceError
from sluice_gateway.http.refusals import InvalidRequest, RateLimited

MEDIA_TYPE: Final = "application/problem+json"

_MAX_DETAIL_CHARS: Final = 1024
_MAX_METADATA_ENTRIES: Final = 16
_MAX_VALUE_CHARS: Final = 256

CHECKSUM_MISMATCH: Final = 460
"""A status of tus, which HTTP does not have."""

_TITLES: Final[Mapping[int, str]] = {
    413: "Content Too Large",
    422: "Unprocessable Content",
    CHECKSUM_MISMATCH: "Checksum Mismatch",
}
"""Names of RFC 9110, which Python has from 3.13 on, and of tus."""

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
    "MESSAGE_TOO_LARGE": 413,
    "METADATA_TOO_LARGE": 431,
    "QUOTA_EXCEEDED": 507,  # waiting, as 429 suggests, would not help
    "UNSUPPORTED_MEDIA_TYPE": 415,
    "LENGTH_REQUIRED": 411,
    "PRECONDITION_FAILED": 412,
    "RANGE_NOT_SATISFIABLE": 416,
    "TUS_VERSION_UNSUPPORTED": 412,
    "UPLOAD_CHECKSUM_MISMATCH": CHECKSUM_MISMATCH,
    "UPLOAD_GONE": 410,
    "UPLOAD_IS_FINAL": 403,
    "UPLOAD_LENGTH_EXCEEDED": 413,
    "UPLOAD_TOO_LARGE": 413,
}
"""Reasons for which HTTP has a more exact status than that of their gRPC code."""
_TEMPORARY: Final = frozenset({429, 503, 504})
RETRY_SECONDS: Final = 1.0
"""Delay before a repeat where the error does not say."""
_LAST_OF_CONNECTION: Final = frozenset({408, 413, 431})
"""The rest of such a request is not read, so its connection cannot serve another."""


def http_status(error: SluiceError) -> int:
    """Return the HTTP status of an error."""
    if error.reason in _BY_REASON:
        return _BY_REASON[error.reason]
    if error.code == "INVALID_ARGUMENT" and error.field is not None:
        return 422
    return _BY_CODE[error.code]


def problem_of(error: SluiceError, request_id: str, trace_id: str) -> dict[str, Any]:
    """Return the members of the problem document; long text is cut.

    `log_detail` is not sent: the request id identifies its log line.
    """
    status = http_status(error)
    problem: dict[str, Any] = {
        "type": f"urn:sluice:reason:{error.reason}",
        "title": _title(status),
        "status": status,
        "detail": error.message[:_MAX_DETAIL_CHARS],
        "reason": error.reason,
        "requestId": request_id,
        "traceId": trace_id,
    }
    if isinstance(error, InvalidRequest):
        problem["errors"] = [
            {"field": each.field, "detail": each.detail[:_MAX_DETAIL_CHARS]}
            for each in error.problems
        ]
    elif error.field is not None:
        problem["errors"] = [{"field": error.field, "detail": problem["detail"]}]
    delay = retry_after_seconds(error)
    if delay is not None:
        problem["retryAfterSeconds"] = delay
    if error.metadata:
        entries = list(error.metadata.items())[:_MAX_METADATA_ENTRIES]
        problem["metadata"] = {
            key[:_MAX_VALUE_CHARS]: value[:_MAX_VALUE_CHARS] for key, value in entries
        }
    return problem


def retry_after_seconds(error: SluiceError) -> float | None:
    """Return the delay that an answer names; each that says "not now" names one.

    Not every backend knows how long it will be down.
    """
    if error.retry_after_seconds is not None:
        return max(error.retry_after_seconds, 0.0)
    return RETRY_SECONDS if http_status(error) in _TEMPORARY else None


def _title(status: int) -> str:
    return _TITLES.get(status) or HTTPStatus(status).phrase


def problem_response(error: SluiceError, request_id: str, trace_id: str) -> Response:
    """Return the answer for an error, with the headers that belong to its status."""
    problem = problem_of(error, request_id, trace_id)
    status: int = problem["status"]
    headers = {"cache-control": "no-store"}
    if status == HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = challenge(error.reason)
    if (delay := retry_after_seconds(error)) is not None:
        # Whole seconds, rounded up: a retry after exactly this time is not too early.
        headers["retry-after"] = str(math.ceil(delay))
    if isinstance(error, RateLimited):
        headers |= error.headers
    if "allow" in error.metadata and status == HTTPStatus.METHOD_NOT_ALLOWED:
        headers["allow"] = error.metadata["allow"]
    if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and "size" in error.metadata:
        headers["content-range"] = f"bytes */{error.metadata['size']}"
    if status in _LAST_OF_CONNECTION:
        headers["connection"] = "close"
    # ASCII: a name in an error may hold what UTF-8 cannot encode.
    content = json.dumps(problem, separators=(",", ":")).encode("ascii")
    return Response(content, status, headers, MEDIA_TYPE)


def challenge(reason: str) -> str:
    """Return `WWW-Authenticate` (RFC 6750, 3): no error code without credentials."""
    if reason == "NO_CREDENTIALS":
        return 'Bearer realm="sluice"'
    return 'Bearer realm="sluice", error="invalid_token"'
