"""gRPC channel by TLS that uses new certificates and authorities without dropping calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, cast

import grpc
import grpc.aio

from sluice_common.security.tls.files import RotatingMaterial, TlsMaterial

CHECK_SECONDS: Final = 1.0
"""Default interval at which the files are compared with those in use."""

OpenChannel = Callable[[grpc.ChannelCredentials], grpc.aio.Channel]


class _Generation:
    """A channel with one set of files, and the number of its calls in progress."""

    def __init__(self, material: TlsMaterial, open_channel: OpenChannel) -> None:
        self.material = material
        self.channel = open_channel(
            grpc.ssl_channel_credentials(material.authorities, material.key, material.chain)
        )
        self.calls = 0

    def started(self, call: Any) -> None:
        self.calls += 1
        call.add_done_callback(self._ended)

    def _ended(self, _call: object) -> None:
        self.calls -= 1


class _Method:
    """A method whose calls go to the newest channel."""

    def __init__(self, channel: RotatingChannel, kind: str, arguments: Any, named: Any) -> None:
        self._channel = channel
        self._kind = kind
        self._arguments = arguments
        self._named = named
        self._generation: _Generation | None = None
        self._method: Any = None

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        generation = self._channel.generation
        if generation is not self._generation:
            make = getattr(generation.channel, self._kind)
            self._method = make(*self._arguments, **self._named)
            self._generation = generation
        call = self._method(*arguments, **named)
        generation.started(call)
        return call


class RotatingChannel:
    """The methods of `grpc.aio.Channel` that stubs use, on a channel that is replaced.

    Credentials of a channel never change. When the files do, new calls go to a new channel; the
    calls in progress end on the old one, which is then closed. So a rotation drops no call, and
    there are never more channels than calls in progress, and one.
    """

    def __init__(self, material: RotatingMaterial, open_channel: OpenChannel) -> None:
        self._material = material
        self._open_channel = open_channel
        self.generation = _Generation(material.current(), open_channel)
        self._retired: list[_Generation] = []

    def unary_unary(self, *arguments: Any, **named: Any) -> _Method:
        return _Method(self, "unary_unary", arguments, named)

    def unary_stream(self, *arguments: Any, **named: Any) -> _Method:
        return _Method(self, "unary_stream", arguments, named)

    def stream_unary(self, *arguments: Any, **named: Any) -> _Method:
        return _Method(self, "stream_unary", arguments, named)

    def stream_stream(self, *arguments: Any, **named: Any) -> _Method:
        return _Method(self, "stream_stream", arguments, named)

    async def watch(self, check_seconds: float) -> None:
        """Follow the files until cancelled."""
        while True:
            await asyncio.sleep(check_seconds)
            # In a thread: the files may lie on a slow file system.
            material = await asyncio.to_thread(self._material.current)
            if material is not self.generation.material:
                self._retired.append(self.generation)
                self.generation = _Generation(material, self._open_channel)
            await self._close_drained()

    async def close(self) -> None:
        """Close every channel; cancel the calls in progress."""
        for generation in (*self._retired, self.generation):
            await generation.channel.close(None)

    async def _close_drained(self) -> None:
        drained = [one for one in self._retired if one.calls == 0]
        self._retired = [one for one in self._retired if one.calls]
        for generation in drained:
            await generation.channel.close(None)


@asynccontextmanager
async def open_rotating_channel(
    material: RotatingMaterial, open_channel: OpenChannel, check_seconds: float
) -> AsyncIterator[grpc.aio.Channel]:
    """Yield a channel for stubs; follow the files while the block runs."""
    channel = RotatingChannel(material, open_channel)
    try:
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(channel.watch(check_seconds), name="rotate a channel")
            try:
                yield cast("grpc.aio.Channel", channel)
            finally:
                watching.cancel()
    finally:
        await channel.close()
