"""A provider of OpenID Connect: discovery and keys over HTTP, with faults."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from support import tokens
from support.tokens import SigningKey

DISCOVERY = "/.well-known/openid-configuration"
JWKS = "/keys"


class IdentityProvider:
    """The provider's state; a test changes it while it serves.

    requests: the paths asked for.
    status: of every answer.
    cache_control: of the key set.
    answers: replaces the body of a path.
    hold: called before each answer.
    """

    def __init__(self, *keys: SigningKey) -> None:
        self.keys: tuple[SigningKey, ...] = keys
        self.requests: list[str] = []
        self.status = 200
        self.cache_control = ""
        self.answers: dict[str, bytes] = {}
        self.headers: dict[str, str] = {}
        self.hold: Callable[[], object] = lambda: None
        self.issuer = ""
        self.document: dict[str, Any] = {}

    @property
    def key_requests(self) -> int:
        return self.requests.count(JWKS)

    def body(self, path: str) -> bytes:
        if path in self.answers:
            return self.answers[path]
        if path == JWKS:
            return tokens.key_set(*self.keys)
        return json.dumps(self.document).encode()

    def claims(self, now: float, **changes: Any) -> dict[str, Any]:
        """Return the claims of a valid token of this provider."""
        return tokens.claims(now, **{"iss": self.issuer, **changes})


@contextmanager
def identity_provider(*keys: SigningKey) -> Iterator[IdentityProvider]:
    """Serve on a loopback address inside the block."""
    provider = IdentityProvider(*keys)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            provider.requests.append(self.path)
            provider.hold()
            body = provider.body(self.path)
            self.send_response(provider.status)
            self.send_header("content-length", str(len(body)))
            if self.path == JWKS and provider.cache_control:
                self.send_header("cache-control", provider.cache_control)
            for name, value in provider.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        provider.issuer = f"http://127.0.0.1:{server.server_port}"
        provider.document = {"issuer": provider.issuer, "jwks_uri": f"{provider.issuer}{JWKS}"}
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield provider
        finally:
            server.shutdown()
            thread.join()
