"""The account routes of a gateway: JSON over HTTP, errors as those of the SDK. Blocking."""

from __future__ import annotations

import http.client
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NoReturn
from urllib.parse import urlsplit

from sluice_client import errors
from sluice_client.errors import InvalidArgument, SluiceError, Unavailable
from sluice_client.options import TlsOptions
from sluice_client.targets import Target

DEFAULT_GATEWAY: Final = "http://127.0.0.1:8080"

_SECONDS: Final = 30.0
_MAX_ANSWER_BYTES: Final = 1024 * 1024
_BY_STATUS: Final[Mapping[int, type[SluiceError]]] = {
    400: errors.InvalidArgument,
    401: errors.Unauthenticated,
    403: errors.PermissionDenied,
    404: errors.NotFound,
    408: errors.DeadlineExceeded,
    409: errors.FailedPrecondition,
    413: errors.InvalidArgument,
    415: errors.InvalidArgument,
    422: errors.InvalidArgument,
    429: errors.ResourceExhausted,
    501: errors.Unimplemented,
    503: errors.Unavailable,
    504: errors.DeadlineExceeded,
}


@dataclass(frozen=True, slots=True)
class GatewaySession:
    """Tokens of a session. `expires_in`: seconds until `token` ends."""

    token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_in: float
    user_id: str
    email: str


class GatewayApi:
    """Calls of one gateway.

    Args:
        url: `https://host:port`, or `http://` on this machine.
        tls: files of TLS.
        allow_insecure: send passwords and tokens in plain text to other machines too.

    Raise InvalidArgument BAD_TARGET, INSECURE_TOKEN, BAD_TLS_FILES.
    """

    def __init__(self, url: str, tls: TlsOptions, *, allow_insecure: bool = False) -> None:
        self.url = _checked_url(url)
        target = Target.parse(self.url)
        if not (target.is_tls or target.is_local or allow_insecure):
            raise InvalidArgument(
                "INSECURE_TOKEN",
                "the password would go to the gateway in plain text, where anybody on the way can"
                " read it; use https://, or set SLUICE_ALLOW_INSECURE=true on a network that keeps"
                " strangers out",
            )
        handlers: list[urllib.request.BaseHandler] = [_NoRedirects()]
        if target.is_tls:
            handlers.append(urllib.request.HTTPSHandler(context=_context(tls)))
        if target.is_local:
            handlers.append(urllib.request.ProxyHandler({}))
        self._opener = urllib.request.build_opener(*handlers)

    def login(self, email: str, password: str) -> GatewaySession:
        """Log in. Raise Unauthenticated WRONG_CREDENTIALS, ResourceExhausted RATE_LIMITED."""
        return self._session("/api/auth/login", {"email": email, "password": password})

    def refresh(self, refresh_token: str) -> GatewaySession:
        """Exchange a refresh token. Raise Unauthenticated SESSION_ENDED."""
        return self._session("/api/auth/refresh", {"refreshToken": refresh_token})

    def logout(self, refresh_token: str) -> None:
        """End the session of a refresh token."""
        self._call("POST", "/api/auth/logout", {"refreshToken": refresh_token})

    def me(self, token: str) -> Mapping[str, Any]:
        """Return the user of a token. Raise Unauthenticated."""
        return self._call("GET", "/api/auth/me", token=token)

    def _session(self, path: str, body: Mapping[str, str]) -> GatewaySession:
        answer = self._call("POST", path, body)
        try:
            user = answer["user"]
            return GatewaySession(
                str(answer["token"]),
                str(answer["refreshToken"]),
                float(answer["expiresIn"]),
                str(user["userId"]),
                str(user["email"]),
            )
        except (KeyError, TypeError, ValueError):
            raise self._no_gateway() from None

    def _call(
        self, method: str, path: str, body: Mapping[str, str] | None = None, token: str = ""
    ) -> dict[str, Any]:
        request = urllib.request.Request(self.url + path, method=method)
        request.add_header("accept", "application/json")
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("content-type", "application/json")
        if token:
            # Not sent on by a redirect, which there is none of.
            request.add_unredirected_header("authorization", f"Bearer {token}")
        try:
            with self._opener.open(request, timeout=_SECONDS) as answer:
                content = answer.read(_MAX_ANSWER_BYTES)
        except urllib.error.HTTPError as answer:
            with answer:
                self._refused(answer.code, answer.read(_MAX_ANSWER_BYTES))
        except (OSError, http.client.HTTPException) as error:
            raise _unreachable(self.url, error) from None
        return self._object(content) if content else {}

    def _refused(self, status: int, content: bytes) -> NoReturn:
        problem = self._object(content)
        kind = _BY_STATUS.get(status, errors.Internal)
        try:
            retry_after = problem.get("retryAfterSeconds")
            raise kind(
                str(problem["reason"]),
                str(problem["detail"]),
                retry_after_seconds=None if retry_after is None else float(retry_after),
                request_id=str(problem.get("requestId", "")),
            )
        except (KeyError, TypeError, ValueError):
            raise self._no_gateway() from None

    def _object(self, content: bytes) -> dict[str, Any]:
        try:
            found = json.loads(content)
        except ValueError:
            raise self._no_gateway() from None
        if not isinstance(found, dict):
            raise self._no_gateway()
        return found

    def _no_gateway(self) -> SluiceError:
        return InvalidArgument(
            "NOT_A_GATEWAY",
            f"{self.url} does not answer like a gateway of Sluice; name one by --gateway or"
            " SLUICE_GATEWAY",
        )


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follows none: a token and a password are for the address that the user named."""

    def redirect_request(self, *_arguments: Any, **_named: Any) -> None:
        return None


def _checked_url(url: str) -> str:
    """Return the URL without a slash at its end. Raise InvalidArgument BAD_TARGET."""
    url = url.strip().rstrip("/")
    try:
        parts = urlsplit(url)
        is_whole = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        is_whole = False
    if not is_whole:
        raise InvalidArgument(
            "BAD_TARGET", f"the address of a gateway is a URL, for example {DEFAULT_GATEWAY}"
        )
    Target.parse(url)
    return url


def _context(tls: TlsOptions) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
        if tls.cert_file is not None:
            context.load_cert_chain(tls.cert_file, tls.key_file)
    except OSError as error:
        raise InvalidArgument(
            "BAD_TLS_FILES",
            f"the files of TLS cannot be used: {error.strerror or type(error).__name__};"
            " give PEM files by --ca, --cert and --key",
        ) from None
    if tls.skip_verification:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _unreachable(url: str, error: Exception) -> SluiceError:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return errors.TlsFailed(
            "SERVER_NOT_TRUSTED",
            f"the certificate of {url} is not trusted: {cause.verify_message}; name its CA",
        )
    what = getattr(cause, "strerror", None) or type(cause).__name__
    return Unavailable(
        "GATEWAY_UNREACHABLE", f"the gateway {url} does not answer ({what}); is it running?"
    )
