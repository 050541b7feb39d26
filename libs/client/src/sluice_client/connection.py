"""A connection to a server, and single calls on it: metadata in, typed errors out."""

from __future__ import annotations

import logging
import uuid
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
import grpc.aio

from sluice_client.channels import Channels
from sluice_client.errors import (
    DeadlineExceeded,
    InvalidArgument,
    SluiceError,
    TlsFailed,
    TokenExpired,
    Unauthenticated,
    Unavailable,
)
from sluice_client.options import ClientOptions
from sluice_client.status import from_rpc_error
from sluice_client.targets import Target
from sluice_client.tls.failures import client_certificate_refused, is_silent, tls_required
from sluice_client.tls.probe import ends_after_handshake, speaks_tls
from sluice_client.tokens import Tokens

Answer = TypeVar("Answer")

_sdk_log = logging.getLogger("sluice_client")

_NEVER_ARRIVED = frozenset({"SERVER_UNREACHABLE", "CONNECTION_BROKEN"})
_RENEWABLE = frozenset({"TOKEN_EXPIRED", "BAD_TOKEN"})
"""Refusals that another token may avoid. BAD_TOKEN is one after a key was withdrawn early."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What the error of a call needs to know about it."""

    request_id: str
    token_version: int


class Connection:
    """One or more channels to one address. Open it, then close it.

    Args:
        target: `host:port` or `http://host:port` in plain text, `https://host:port` by TLS, or a
            gRPC target such as `unix:/path` or `dns:///name:port`.
        tokens: sent as `authorization: Bearer …`; shared by the connections of a client.
        options: of the client.
        count: number of TCP connections.

    Raises:
        InvalidArgument: BAD_TARGET, or INSECURE_TOKEN: the token would leave this machine in plain
            text.
    """

    def __init__(self, target: str, tokens: Tokens, options: ClientOptions, count: int) -> None:
        self.target = target
        self._parsed = Target.parse(target)
        if tokens.is_given and not (self._parsed.is_tls or self._parsed.is_local):
            _require_allowed(self._parsed, options)
        if self._parsed.is_tls and options.tls.skip_verification:
            _sdk_log.warning(
                "the certificate of %s is trusted on first use and not verified: whoever controls"
                " the network can read the token and the files",
                target,
            )
        self.reached = False
        """Whether the server has ever answered, even with an error."""
        self._channels = Channels(self._parsed, options, count)
        self._tokens = tokens

    @property
    def channels(self) -> Sequence[grpc.aio.Channel]:
        return self._channels.all

    @property
    def channel(self) -> grpc.aio.Channel:
        """The channel for unary calls."""
        return self._channels.all[0]

    async def open(self) -> None:
        """Read the files of token and TLS.

        Raise OSError when one cannot be read, InvalidArgument BAD_TOKEN or BAD_TLS_FILES when one
        is not what it should be. The server is not asked yet.
        """
        await self._tokens.open()
        await self._channels.open()

    async def close(self) -> None:
        await self._channels.close()

    async def prepare(self) -> tuple[grpc.aio.Metadata, Attempt]:
        """Return the metadata of one call, with files that changed taken into account.

        The call has to begin before the next await, inside `in_use` or with `hold`.
        """
        request_id = uuid.uuid4().hex
        metadata = grpc.aio.Metadata(("x-request-id", request_id))
        token = await self._tokens.current()
        if token is not None:
            metadata.add("authorization", f"Bearer {token}")
        # Read together with the token: `current` may be followed by a renewal of another call.
        attempt = Attempt(request_id, self._tokens.version)
        try:
            await self._channels.refresh()
        except TlsFailed as error:
            error.is_transient = self.reached
            raise
        return metadata, attempt

    def hold(self) -> Callable[[], None]:
        """Keep the channels of a call open until the returned function is called."""
        return self._channels.hold()

    async def unary(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Any, Answer],
        request: Any,
        timeout_seconds: float,
    ) -> Answer:
        """Make one attempt of a unary call."""
        metadata, attempt = await self.prepare()
        with self._channels.in_use():
            try:
                answer = await method(request, timeout=timeout_seconds, metadata=metadata)
            except grpc.aio.AioRpcError as error:
                raise await self.error(error, attempt) from error
        self.answered(attempt)
        return answer

    async def pushed(
        self,
        method: grpc.aio.UnaryStreamMultiCallable[Any, Answer],
        request: Any,
        timeout_seconds: float | None,
    ) -> AsyncGenerator[Answer, None]:
        """Yield the messages of one server stream. Leaving the iterator early cancels the call."""
        metadata, attempt = await self.prepare()
        with self._channels.in_use():
            call = method(request, timeout=timeout_seconds, metadata=metadata)
            try:
                async for answer in call:
                    self.answered(attempt)
                    yield answer
            except grpc.aio.AioRpcError as error:
                raise await self.error(error, attempt) from error
            finally:
                call.cancel()

    def answered(self, attempt: Attempt) -> None:
        """Record that the server has taken a call, and its token."""
        self.reached = True
        self._tokens.confirm(attempt.token_version)

    async def error(self, error: grpc.aio.AioRpcError, attempt: Attempt) -> SluiceError:
        """Return the typed error. Record whether it came from the server.

        After TOKEN_EXPIRED or BAD_TOKEN, ask for a new token: the error is retryable when there is
        one. Every refusal for something else than the token confirms the token.
        """
        translated = from_rpc_error(error, self.target, attempt.request_id)
        if translated.reason == "SERVER_UNREACHABLE" and is_silent(error.details() or ""):
            translated = await self._silence_explained() or translated
        if isinstance(translated, Unauthenticated):
            if translated.reason in _RENEWABLE:
                translated.is_renewed = await self._tokens.renew(
                    attempt.token_version, expired=isinstance(translated, TokenExpired)
                )
        elif _accepts_token(translated):
            self._tokens.confirm(attempt.token_version)
        if isinstance(translated, TlsFailed):
            # A refused client certificate is a guess: such a server may also be stopping.
            guessed = translated.reason == "CLIENT_CERTIFICATE_REFUSED"
            translated.is_transient = self.reached or guessed
        elif translated.reason not in _NEVER_ARRIVED:
            self.reached = True
        return translated

    async def _silence_explained(self) -> TlsFailed | None:
        """Find out why the server ends every new connection without a word."""
        endpoint = self._parsed.endpoint
        if endpoint is None:
            return None
        if not self._parsed.is_tls:
            if self.reached:
                return None
            host, port = endpoint
            address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            return tls_required(address) if await speaks_tls(host, port) else None
        if await ends_after_handshake(*endpoint):
            return client_certificate_refused(self.target)
        return None


def _accepts_token(error: SluiceError) -> bool:
    """Return whether the server refused the call after it had accepted the token.

    A proxy, or a server without its keys, may answer UNAVAILABLE without a check of the token, and
    a deadline is the client's own.
    """
    if isinstance(error, (Unauthenticated, Unavailable, DeadlineExceeded)):
        return False
    return error.reason != error.code


def _require_allowed(target: Target, options: ClientOptions) -> None:
    """Raise InvalidArgument INSECURE_TOKEN unless plain text is allowed."""
    if not options.allow_insecure:
        raise InvalidArgument(
            "INSECURE_TOKEN",
            f"the token would go to {target.text} in plain text, where anybody on the way can read"
            " it; use https://, or set allow_insecure (SLUICE_ALLOW_INSECURE=true) on a network"
            " that keeps strangers out",
        )
    _sdk_log.warning("the token goes to %s in plain text, because that is allowed", target.text)
