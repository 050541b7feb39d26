"""Conversion of updates to and from the arguments and entries of the scripts."""

from __future__ import annotations

from collections.abc import Iterable

from sluice_backends.redis.client.server import Argument
from sluice_core.live.log import Entry
from sluice_core.live.updates import ProgressTick, Update


def update_arguments(updates: Iterable[Update]) -> list[Argument]:
    """Return the arguments of live_publish.lua."""
    return [
        argument
        for update in updates
        for argument in (
            update.version,
            update.status,
            update.bytes_sent,
            update.bytes_total,
            update.job_id,
            update.photo_id,
            update.reason,
        )
    ]


def tick_arguments(ticks: Iterable[ProgressTick]) -> list[Argument]:
    """Return the arguments of live_progress.lua."""
    return [
        argument
        for tick in ticks
        for argument in (tick.job_id, tick.photo_id, tick.bytes_sent, tick.bytes_total)
    ]


def unpack_entry(packed: bytes) -> Entry:
    """Return an entry of the hash (live/lua/log.lua).

    A later release may append fields; they are ignored, so that both can run side by side.
    """
    sequence, version, status, sent, total, job, photo, reason, *_ = packed.decode().split("\t")
    update = Update(job, photo, status, int(sent), int(total), int(version), reason)
    return Entry(int(sequence), update)
