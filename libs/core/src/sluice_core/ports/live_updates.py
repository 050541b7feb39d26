"""Port of live updates: who publishes them and who listens need not be in one process."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from sluice_core.live.log import LiveLog
from sluice_core.live.updates import Audience, ProgressTick, Update


@dataclass(frozen=True, slots=True)
class Listening:
    """A user's log as this process knows it, and an event that is set after each change of it.

    Reading the log is no I/O. Clear the event before reading, so that no change is missed.
    """

    log: LiveLog
    changed: asyncio.Event


class LiveUpdates(Protocol):
    """Logs of updates, one for each user, shared by all processes of a deployment.

    Best effort beside the catalogue, which has the truth: an update may be lost with the backend,
    and then `LiveLog.after` answers None to cursors from before.
    """

    async def publish(self, audience: Audience, updates: Sequence[Update]) -> None:
        """Append updates in order, as one atomic step, after their transaction has committed.

        Idempotent: an update that is not newer than the log's (`merge_update`) is ignored.

        Raise `Unavailable` or `ResourceExhausted`; a caller that gives up loses a wake-up only,
        because polling clients and snapshots read the catalogue.
        """
        ...

    async def post_progress(self, audience: Audience, ticks: Sequence[ProgressTick]) -> None:
        """Merge ticks into the log (`merge_tick`), as one atomic step. Idempotent.

        Only for photos that the caller knows to be under way: a photo that the log does not have
        is taken to be UPLOADING.

        Raise `Unavailable` or `ResourceExhausted`.
        """
        ...

    async def latest(self, audience: Audience, keys: Sequence[str]) -> list[Update | None]:
        """Return the states of photos or jobs by their ids, None where the log has none.

        For queries, which add the progress to what the catalogue has.

        Raise `Unavailable`.
        """
        ...

    def listen(self, audience: Audience) -> AbstractAsyncContextManager[Listening]:
        """Follow a user's log during the context; entered once the log is up to date.

        Later changes by any process arrive within a second, usually within milliseconds.

        Raise `Unavailable` when the log cannot be read at entering. Afterwards the log is followed
        again as soon as the backend answers.
        """
        ...
