"""Private names of aiokafka that the producer needs; its version is bounded for them."""

from __future__ import annotations

import asyncio
from typing import Any


def sender_task(producer: Any) -> asyncio.Task[None] | None:
    """Return the task that sends batches; None before the producer has started."""
    task: asyncio.Task[None] | None = producer._sender.sender_task
    return task


def discard_batches(producer: Any) -> None:
    """Drop the batches that are not acknowledged, so that `stop()` does not wait for them."""
    producer._message_accumulator._batches.clear()
    producer._message_accumulator._pending_batches.clear()
