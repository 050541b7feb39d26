"""Calls of a load with a token."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import grpc.aio


class _Authorized:
    """Channel whose calls carry a token.

    Not an interceptor: those put tasks between the load and its messages, whose time would be
    measured.
    """

    def __init__(self, channel: grpc.aio.Channel, token: str) -> None:
        self._channel = channel
        self._metadata = (("authorization", f"Bearer {token}"),)

    def unary_unary(self, *arguments: Any, **options: Any) -> Callable[..., Any]:
        return self._call(self._channel.unary_unary(*arguments, **options))

    def unary_stream(self, *arguments: Any, **options: Any) -> Callable[..., Any]:
        return self._call(self._channel.unary_stream(*arguments, **options))

    def stream_unary(self, *arguments: Any, **options: Any) -> Callable[..., Any]:
        return self._call(self._channel.stream_unary(*arguments, **options))

    def stream_stream(self, *arguments: Any, **options: Any) -> Callable[..., Any]:
        return self._call(self._channel.stream_stream(*arguments, **options))

    def _call(self, multi_callable: Any) -> Callable[..., Any]:
        return partial(multi_callable, metadata=self._metadata)


def authorized(channel: grpc.aio.Channel, token_file: Path | None) -> grpc.aio.Channel:
    """Return the channel with the token of the file in every call; without a file, the channel."""
    if token_file is None:
        return channel
    token = token_file.read_text(encoding="utf-8").strip()
    return cast(grpc.aio.Channel, _Authorized(channel, token))
