"""Channels to a server, and single calls on them: metadata in, typed errors out."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Sequence
from typing import Any, TypeVar

import grpc
import grpc.aio

from sluice_client.errors import InvalidArgument
from sluice_client.names import is_utf8
from sluice_client.options import ClientOptions
from sluice_client.status import from_rpc_error

Answer = TypeVar("Answer")

_MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""Responses to this client are far smaller; the server limits what it accepts."""

_CHANNEL_OPTIONS: tuple[tuple[str, int], ...] = (
    # Only retry.py retries: two retrying layers would multiply their attempts.
    ("grpc.enable_retries", 0),
    ("grpc.max_send_message_length", _MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", _MAX_MESSAGE_BYTES),
    # gRPC's own reconnect backoff grows to two minutes; a recovered server should be found sooner.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 3_000),
    # Detects a half-open connection even while a throttled stream is silent.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.ping_timeout_ms", 20_000),  # defaults to a minute, regardless of keepalive
    # Channels of the same address would otherwise share one connection.
    ("grpc.use_local_subchannel_pool", 1),
)


class Connection:
    """One or more channels to one address. Close it, or use it as an async context manager.

    Args:
        target: `host:port` or `http://host:port` in plain text, `https://host:port` by TLS, or a
            gRPC target such as `unix:/path` or `dns:///name:port`.
        token: sent as `authorization: Bearer …`; None sends none.
        options: of the client.
        count: number of TCP connections.
    """

    def __init__(self, target: str, token: str | None, options: ClientOptions, count: int) -> None:
        if not is_utf8(target):
            raise InvalidArgument(
                "BAD_TARGET", "The server's address is not UTF-8; give host:port."
            )
        if token is not None and not (token.isascii() and token.isprintable()):
            raise InvalidArgument(
                "BAD_TOKEN",
                "The token holds characters that no token has; give it as it was issued.",
            )
        self.target = target
        self.reached = False
        """Whether the server has ever answered, even with an error."""
        self._channels = [_channel(target, options) for _ in range(count)]
        self._token = token

    @property
    def channels(self) -> Sequence[grpc.aio.Channel]:
        return self._channels

    @property
    def channel(self) -> grpc.aio.Channel:
        """The channel for unary calls."""
        return self._channels[0]

    async def close(self) -> None:
        for channel in self._channels:
            await channel.close(grace=None)

    def metadata(self) -> tuple[grpc.aio.Metadata, str]:
        """Return the metadata of one call and its request id."""
        request_id = uuid.uuid4().hex
        metadata = grpc.aio.Metadata(("x-request-id", request_id))
        if self._token is not None:
            metadata.add("authorization", f"Bearer {self._token}")
        return metadata, request_id

    async def unary(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Any, Answer],
        request: Any,
        timeout_seconds: float,
    ) -> Answer:
        """Make one attempt of a unary call."""
        metadata, request_id = self.metadata()
        try:
            answer = await method(request, timeout=timeout_seconds, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            raise self.error(error, request_id) from error
        self.reached = True
        return answer

    async def pushed(
        self,
        method: grpc.aio.UnaryStreamMultiCallable[Any, Answer],
        request: Any,
        timeout_seconds: float | None,
    ) -> AsyncGenerator[Answer, None]:
        """Yield the messages of one server stream. Leaving the iterator early cancels the call."""
        metadata, request_id = self.metadata()
        call = method(request, timeout=timeout_seconds, metadata=metadata)
        try:
            async for answer in call:
                self.reached = True
                yield answer
        except grpc.aio.AioRpcError as error:
            raise self.error(error, request_id) from error
        finally:
            call.cancel()

    def error(self, error: grpc.aio.AioRpcError, request_id: str) -> Exception:
        """Return the typed error. Record whether it came from the server."""
        translated = from_rpc_error(error, self.target, request_id)
        if translated.reason not in ("SERVER_UNREACHABLE", "CONNECTION_BROKEN"):
            self.reached = True
        return translated


def _channel(target: str, options: ClientOptions) -> grpc.aio.Channel:
    scheme, separator, rest = target.partition("://")
    address = rest.rstrip("/") if separator and scheme in ("http", "https", "grpc", "grpcs") else ""
    if not target or (separator and scheme in ("http", "https", "grpc", "grpcs") and not address):
        raise InvalidArgument("BAD_TARGET", "The server's address is empty; give host:port.")
    if address and scheme in ("https", "grpcs"):
        credentials = grpc.ssl_channel_credentials(options.root_certificates)
        return grpc.aio.secure_channel(address, credentials, options=_CHANNEL_OPTIONS)
    return grpc.aio.insecure_channel(address or target, options=_CHANNEL_OPTIONS)
