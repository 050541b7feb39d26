"""Errors of HTTP itself: routes, methods, headers and bodies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sluice_core.errors import (
    DeadlineExceeded,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    ResourceExhausted,
    Unavailable,
    Unimplemented,
)

_MAX_FIELDS: Final = 20
"""Fields that one answer names."""


@dataclass(frozen=True, slots=True)
class FieldProblem:
    """One field that is not valid. `field`: its path in the body, with dots between the names."""

    field: str
    detail: str


class InvalidRequest(InvalidArgument):
    """The request is well-formed, and some of its fields are not valid."""

    def __init__(self, problems: Sequence[FieldProblem]) -> None:
        self.problems: Final = tuple(problems[:_MAX_FIELDS])
        first = self.problems[0]
        super().__init__(
            "INVALID_REQUEST", f"{first.field}: {first.detail}; correct it.", field=first.field
        )


@dataclass(frozen=True, slots=True)
class RateLimitPolicy:
    """A limit as clients learn it: `amount` within `window_seconds`.

    Its headers are those of draft-ietf-httpapi-ratelimit-headers.
    """

    name: str
    amount: int
    window_seconds: int

    @property
    def header(self) -> str:
        """Value of `RateLimit-Policy`."""
        return f'"{self.name}";q={self.amount};w={self.window_seconds}'


class RateLimited(ResourceExhausted):
    """The caller is above a limit."""

    def __init__(self, policy: RateLimitPolicy, wait_seconds: float) -> None:
        self.policy: Final = policy
        super().__init__(
            "RATE_LIMITED",
            f"More than {policy.amount} {policy.name} in {policy.window_seconds} s; try again "
            "after the delay.",
            retry_after_seconds=math.ceil(wait_seconds * 1000) / 1000,
        )

    @property
    def headers(self) -> dict[str, str]:
        left = math.ceil(self.retry_after_seconds or 0.0)
        return {
            "ratelimit-policy": self.policy.header,
            "ratelimit": f'"{self.policy.name}";r=0;t={left}',
        }


def route_not_found() -> NotFound:
    """Return the error for a path without a route."""
    return NotFound(
        "ROUTE_NOT_FOUND", "There is nothing at this path; /openapi.json lists the routes."
    )


def method_not_allowed(allowed: str) -> Unimplemented:
    """Return the error for a route that exists with other methods only.

    Args:
        allowed: these methods, for the header `Allow`; empty if they are unknown.
    """
    return Unimplemented(
        "METHOD_NOT_ALLOWED",
        "The route does not have this method; use one of those in the header Allow.",
        metadata={"allow": allowed} if allowed else {},
    )


def unsupported_media_type() -> InvalidArgument:
    """Return the error for a body that is not declared as JSON, or is compressed."""
    return InvalidArgument(
        "UNSUPPORTED_MEDIA_TYPE",
        "The body is not plain JSON; send content-type: application/json, not compressed.",
    )


def malformed_body(what: str) -> InvalidArgument:
    """Return the error for a body that cannot be read; `what` says why."""
    return InvalidArgument("MALFORMED_MESSAGE", f"The body {what}; send one JSON document.")


def malformed_request() -> InvalidArgument:
    """Return the error for bytes that are no HTTP request."""
    return InvalidArgument(
        "MALFORMED_MESSAGE", "The request is not valid HTTP/1.1; correct the client."
    )


def body_too_large(max_bytes: int) -> ResourceExhausted:
    """Return the error for a body above the limit."""
    return ResourceExhausted(
        "MESSAGE_TOO_LARGE",
        f"The body of a request has at most {max_bytes} bytes; send less in one request.",
        metadata={"max_bytes": str(max_bytes)},
    )


def headers_too_large(max_bytes: int) -> ResourceExhausted:
    """Return the error for request line and headers above the limit."""
    return ResourceExhausted(
        "METADATA_TOO_LARGE",
        f"Path and headers of a request have at most {max_bytes} bytes; send less.",
        metadata={"max_bytes": str(max_bytes)},
    )


def too_many_bodies() -> Unavailable:
    """Return the error for a body for which there is no memory at the moment."""
    return Unavailable(
        "UNFINISHED_MESSAGES",
        "The server holds too many bodies of requests at once; try again.",
        retry_after_seconds=1.0,
    )


def too_many_connections() -> Unavailable:
    """Return the error for a connection above a limit."""
    return Unavailable(
        "TOO_MANY_CONNECTIONS",
        "The server has too many connections, or too many of this address; close some, or try"
        " again.",
        retry_after_seconds=5.0,
    )


def body_stalled() -> DeadlineExceeded:
    """Return the error for a body that does not arrive."""
    return DeadlineExceeded(
        "MESSAGE_STALLED",
        "The body of the request did not arrive in time; send it without a pause.",
        retry_after_seconds=0.0,
    )


def host_not_allowed() -> PermissionDenied:
    """Return the error for a name that is not this machine's (DNS rebinding)."""
    return PermissionDenied(
        "HOST_NOT_ALLOWED",
        "This server has no keys and answers to loopback names only; use http://127.0.0.1.",
    )


def origin_not_allowed() -> PermissionDenied:
    """Return the error for a page of another origin."""
    return PermissionDenied(
        "ORIGIN_NOT_ALLOWED",
        "Pages of this origin may not use this server; its operator lists the origins that may.",
    )
