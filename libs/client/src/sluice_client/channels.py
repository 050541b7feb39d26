"""gRPC channels to one address, replaced under running calls when the TLS files change."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import grpc.aio

from sluice_client.options import ClientOptions
from sluice_client.targets import Target
from sluice_client.tls.material import Material, TlsFiles, pinned

_MAX_MESSAGE_BYTES = 64 * 1024 * 1024
"""Responses to this client are far smaller; the server limits what it accepts."""

_CHANNEL_OPTIONS: tuple[tuple[str, Any], ...] = (
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


class _Generation:
    """The channels of one set of credentials, and the number of calls on them."""

    def __init__(self, target: Target, material: Material | None, count: int) -> None:
        self.channels = [_channel(target, material) for _ in range(count)]
        self._calls = 0
        self._closing: asyncio.Task[None] | None = None
        self._is_retired = False

    def enter(self) -> None:
        self._calls += 1

    def leave(self) -> None:
        self._calls -= 1
        self._close_if_unused()

    def retire(self) -> None:
        """Close the channels once their calls have ended: closing them would cancel the calls."""
        self._is_retired = True
        self._close_if_unused()

    @property
    def is_closed(self) -> bool:
        return self._closing is not None and self._closing.done()

    async def close(self) -> None:
        """Cancel the calls and close the channels."""
        await self._start_closing()

    def _close_if_unused(self) -> None:
        if self._is_retired and not self._calls:
            self._start_closing()

    def _start_closing(self) -> asyncio.Task[None]:
        if self._closing is None:
            self._closing = asyncio.get_running_loop().create_task(self._close_all())
        return self._closing

    async def _close_all(self) -> None:
        for channel in self.channels:
            await channel.close(grace=None)


class Channels:
    """The channels of one address, for stubs and for calls.

    Channels of gRPC have the credentials that they were made with. When the TLS files change, the
    next call gets new channels, and the old ones close after their last call. A server that ended
    a connection meets the new credentials at the next one.

    Args:
        target: the address.
        options: of the client.
        count: number of TCP connections.
    """

    def __init__(self, target: Target, options: ClientOptions, count: int) -> None:
        self._target = target
        self._count = count
        self._files = TlsFiles(options.tls, options.root_certificates) if target.is_tls else None
        self._pins = options.tls.skip_verification
        self._pin: Material | None = None
        self._built_from: Material | None = None
        self._current: _Generation | None = None
        self._retired: list[_Generation] = []
        self._lock = asyncio.Lock()
        self.all: Sequence[grpc.aio.Channel] = [
            cast(grpc.aio.Channel, _FollowingChannel(self.generation, index))
            for index in range(count)
        ]
        """For stubs: each call goes to the channel that is current when it begins."""

    async def open(self) -> None:
        """Read the TLS files. Raise OSError or InvalidArgument BAD_TLS_FILES."""
        if self._files is not None:
            await self._files.open()

    async def refresh(self) -> None:
        """Prepare the channels for a call. Raise TlsFailed or Unavailable while there are none."""
        if self._files is None:
            if self._current is None:
                self._current = _Generation(self._target, None, self._count)
            return
        if self._current is not None and self._lock.locked():
            # Another call checks the files; this one uses what there is.
            return
        async with self._lock:
            await self._files.refresh()
            # Compared, not reported by `refresh`: a cancelled call would lose the report.
            if self._current is None or self._files.material != self._built_from:
                await self._replace(self._files.material)

    async def _replace(self, found: Material) -> None:
        material = found
        if self._pins:
            if self._pin is None:
                self._pin = await pinned(material, self._target.text, self._target.endpoint)
            material = Material(
                self._pin.ca, material.certificate, material.key, self._pin.server_name
            )
        # The new ones first: without them, the old ones stay.
        replacement = _Generation(self._target, material, self._count)
        old, self._current = self._current, replacement
        self._built_from = found
        self._retired = [one for one in self._retired if not one.is_closed]
        if old is not None:
            self._retired.append(old)
            old.retire()

    def generation(self) -> _Generation:
        assert self._current is not None, "refresh comes before every call"
        return self._current

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep the current channels open for a call that begins inside."""
        release = self.hold()
        try:
            yield
        finally:
            release()

    def hold(self) -> Callable[[], None]:
        """Keep the current channels open until the returned function is called, once or more."""
        held: list[_Generation] = [self.generation()]
        held[0].enter()

        def release() -> None:
            if held:
                held.pop().leave()

        return release

    async def close(self) -> None:
        """Cancel all calls and close all channels."""
        for one in (*self._retired, self._current):
            if one is not None:
                await one.close()


class _FollowingChannel:
    """The parts of a channel that generated stubs use."""

    def __init__(self, generation: Callable[[], _Generation], index: int) -> None:
        self._generation = generation
        self._index = index

    def unary_unary(self, *args: Any, **kwargs: Any) -> Any:
        return self._method("unary_unary", args, kwargs)

    def unary_stream(self, *args: Any, **kwargs: Any) -> Any:
        return self._method("unary_stream", args, kwargs)

    def stream_unary(self, *args: Any, **kwargs: Any) -> Any:
        return self._method("stream_unary", args, kwargs)

    def stream_stream(self, *args: Any, **kwargs: Any) -> Any:
        return self._method("stream_stream", args, kwargs)

    def _method(self, kind: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        generation: _Generation | None = None
        method: Any = None

        def call(*call_args: Any, **call_kwargs: Any) -> Any:
            nonlocal generation, method
            current = self._generation()
            if current is not generation:
                channel = current.channels[self._index]
                method, generation = getattr(channel, kind)(*args, **kwargs), current
            return method(*call_args, **call_kwargs)

        return call


def _channel(target: Target, material: Material | None) -> grpc.aio.Channel:
    options = list(_CHANNEL_OPTIONS)
    if target.is_local:
        # gRPC would send even these calls, and the token in them, to the proxy of http_proxy.
        options.append(("grpc.enable_http_proxy", 0))
    if material is None:
        return grpc.aio.insecure_channel(target.address, options=options)
    if material.server_name is not None:
        options.append(("grpc.ssl_target_name_override", material.server_name))
    return grpc.aio.secure_channel(target.address, material.credentials(), options=options)
