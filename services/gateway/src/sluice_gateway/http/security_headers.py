"""Headers that limit what a browser does with an answer."""

from __future__ import annotations

from http.client import NOT_MODIFIED
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_API_POLICY: Final = "default-src 'none'; frame-ancestors 'none'"
_ALWAYS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
)
_PAGE_TYPES: Final = (b"text/html", b"text/javascript")
"""A script may run as a worker, which has the policy of its own answer."""
_STRICT_TRANSPORT: Final = (b"strict-transport-security", b"max-age=31536000")


def page_policy(object_origins: tuple[str, ...]) -> str:
    """Return the content security policy of pages: own scripts only, none of them inline.

    Args:
        object_origins: of the object store, where pages send photos and fetch thumbnails.
    """
    stores = "".join(f" {each}" for each in object_origins)
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; font-src 'self'; "
        f"img-src 'self' blob: data:{stores}; connect-src 'self'{stores}; "
        "manifest-src 'self'; worker-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'; object-src 'none'"
    )


class SecurityHeaders:
    """Adds the headers to every answer; one that a handler has set stays.

    An answer is not cached unless its handler says so: most belong to one user.

    Args:
        object_origins: see `page_policy`.
        is_https: whether users reach this server by HTTPS.
    """

    def __init__(
        self, app: ASGIApp, object_origins: tuple[str, ...] = (), *, is_https: bool = False
    ) -> None:
        self._app = app
        self._of_pages = page_policy(object_origins).encode("ascii")
        self._added = (*_ALWAYS, *((_STRICT_TRANSPORT,) if is_https else ()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                completed = self._completed(message["status"], message.get("headers", ()))
                message = {**message, "headers": completed}
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)

    def _completed(self, status: int, given: object) -> list[tuple[bytes, bytes]]:
        headers: list[tuple[bytes, bytes]] = list(given)  # type: ignore[call-overload]
        named = {name.lower(): value for name, value in headers}
        is_of_page = named.get(b"content-type", b"").startswith(_PAGE_TYPES)
        policy = self._of_pages if is_of_page else _API_POLICY.encode("ascii")
        # Headers of 304 replace those of the stored answer (RFC 9111, 3.2), and it has no type: a
        # page that was loaded again would get the policy of the API, which allows it no script.
        policies = () if status == NOT_MODIFIED else ((b"content-security-policy", policy),)
        wanted = (
            *self._added,
            *policies,
            (b"cache-control", b"no-store"),
        )
        return [*headers, *(each for each in wanted if each[0] not in named)]
