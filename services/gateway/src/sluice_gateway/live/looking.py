"""A look at the states behind the updates: what a process that died has not published."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import structlog

from sluice_core.errors import SluiceError
from sluice_core.live.updates import Update
from sluice_gateway.live.hub import LiveHub, TopicReader, audience_of

LOOK_SECONDS: Final = 0.4
"""A change is published after the second look that finds it unpublished: within a second."""
_JOBS_OF_A_QUERY: Final = 1000
_UPDATES_OF_A_CALL: Final = 100

_log = structlog.get_logger(__name__)


class StateLook:
    """Compares the jobs that clients of this replica hear with the catalogue.

    An update is published after its commit, so a process that is killed in between publishes
    nothing, and the repeated event finds nothing to change. Only versions are read, many in one
    query; a job that has ended for its clients costs nothing.
    """

    def __init__(self, hub: LiveHub) -> None:
        self._hub = hub
        self._missing: dict[str, int] = {}
        """Versions by job that the look before found unpublished."""
        self._published: dict[str, int] = {}
        self._is_failing = False

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                await self.look()
            except SluiceError as error:
                if not self._is_failing:  # once, not twice a second
                    _log.warning("live.look_failed", error=str(error))
                self._is_failing = True
            except Exception:  # noqa: BLE001 - a defect here must not end the gateway
                _log.exception("live.look_failed")
            else:
                self._is_failing = False

    async def look(self) -> None:
        """Publish what was unpublished at the look before as well. Raise `SluiceError`."""
        readers: dict[str, TopicReader] = {}
        for reader in list(self._hub.readers):
            # Of several readers of one job the furthest: what it has heard is published.
            other = readers.setdefault(reader.job_id, reader)
            if reader.published_version > other.published_version:
                readers[reader.job_id] = reader
        job_ids = sorted(job_id for job_id, reader in readers.items() if not reader.has_ended)
        missing: dict[str, int] = {}
        for at in range(0, len(job_ids), _JOBS_OF_A_QUERY):
            page = job_ids[at : at + _JOBS_OF_A_QUERY]
            versions = await self._hub.topics.versions(page)
            missing |= {
                job_id: version
                for job_id, version in versions.items()
                if version > max(readers[job_id].published_version, self._published.get(job_id, 0))
            }
        for job_id in missing.keys() & self._missing.keys():
            await self._publish(readers[job_id])
            self._published[job_id] = missing[job_id]
        self._published = {
            job_id: version for job_id, version in self._published.items() if job_id in readers
        }
        self._missing = missing

    async def _publish(self, reader: TopicReader) -> None:
        async with self._hub.turns:
            states: Sequence[Update] = await self._hub.topics.snapshot(
                reader.principal, reader.topic
            )
        user = audience_of(reader.principal)
        for at in range(0, len(states), _UPDATES_OF_A_CALL):
            # Those that are known have no effect.
            await self._hub.updates.publish(user, states[at : at + _UPDATES_OF_A_CALL])
        _log.info("update.published_late", jobId=reader.job_id)


@asynccontextmanager
async def looking(hub: LiveHub) -> AsyncIterator[None]:
    """Look while the block runs."""
    async with asyncio.TaskGroup() as group:
        task = group.create_task(StateLook(hub).run(), name="state look")
        try:
            yield
        finally:
            task.cancel()
