"""What all sessions of a replica share, and the reading of a topic."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final
from weakref import WeakSet

from sluice_common.security.authentication import Authenticator, is_key_withdrawn
from sluice_core.access.principal import Principal
from sluice_core.errors import NotFound
from sluice_core.live.log import Entry
from sluice_core.live.updates import Audience, Update, merge_update
from sluice_core.photos.counts import JOB_ENDS
from sluice_core.ports.live_updates import Listening, LiveUpdates
from sluice_gateway.live.clocks import Clock, system_clock
from sluice_gateway.live.options import LiveOptions
from sluice_gateway.live.origins import Origins
from sluice_gateway.live.sessions import Sessions
from sluice_gateway.live.token_end import TokenEnd
from sluice_gateway.live.topics import JobTopic, Topics, UserTopic
from sluice_gateway.metrics import LiveMetrics

_ENDS: Final = frozenset(status.value for status in JOB_ENDS)


@dataclass(frozen=True, slots=True)
class LiveHub:
    """The dependencies of sessions."""

    updates: LiveUpdates
    topics: Topics
    authenticator: Authenticator
    origins: Origins
    sessions: Sessions
    options: LiveOptions = field(default_factory=LiveOptions)
    metrics: LiveMetrics = field(default_factory=LiveMetrics)
    clock: Clock = system_clock
    readers: WeakSet[TopicReader] = field(default_factory=WeakSet)
    """Of jobs, as long as their sessions hold them."""
    turns: asyncio.Semaphore = field(init=False)
    """To read the catalogue, first come, first served."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "turns", asyncio.Semaphore(self.options.catalogue_reads))

    def token_end(self, principal: Principal) -> TokenEnd:
        """Return when the session of a principal ends with its token."""
        withdrawn = partial(is_key_withdrawn, self.authenticator, principal)
        return TokenEnd(principal, self.options.token_warning_seconds, withdrawn)

    async def require_hearing(self, principal: Principal, topic: JobTopic | UserTopic) -> None:
        """Raise `NotFound` unless the topic belongs to the principal."""
        if isinstance(topic, JobTopic):
            async with self.turns:
                is_heard = await self.topics.may_hear(principal, topic)
        else:
            is_heard = await self.topics.may_hear(principal, topic)
        if not is_heard:
            raise NotFound(
                "JOB_NOT_FOUND", "There is no such job; create one, or check the id.", field="jobId"
            )


def audience_of(principal: Principal) -> Audience:
    """Return whose updates a principal hears: their own."""
    return Audience(principal.tenant, principal.subject)


@dataclass(frozen=True, slots=True)
class Batch:
    """Updates to send.

    Args:
        is_snapshot: the updates replace all that the client has of the topic.
        position: sequence up to which the client is up to date once it has all of them.
    """

    entries: Sequence[Entry]
    is_snapshot: bool
    position: int


class TopicReader:
    """Reads a topic from where its subscriber is: what changed since, or else a snapshot.

    Holds a cursor and nothing else, so a subscriber may be as slow as it likes. The sequence of
    a snapshot is taken before the catalogue is read: changes in between come once more, after it.
    The entries of a snapshot have the sequence 0, the last one its real sequence: a client that
    has seen half of it cannot resume.

    Args:
        cursor: sequence after which to begin; None begins with a snapshot.
    """

    def __init__(
        self,
        hub: LiveHub,
        principal: Principal,
        topic: JobTopic | UserTopic,
        listening: Listening,
        cursor: int | None,
    ) -> None:
        self.topic = topic
        self.principal: Final = principal
        self.job_id: Final = topic.job_id if isinstance(topic, JobTopic) else ""
        self._job: Update | None = None
        self._hub = hub
        self._log = listening.log
        self._cursor = cursor
        self._batch_updates = hub.options.batch_updates
        if self.job_id:
            hub.readers.add(self)

    @property
    def cursor(self) -> int | None:
        """Sequence of the newest update that was read; None before the first."""
        return self._cursor

    @property
    def has_more(self) -> bool:
        """Whether `read` has something to return, or to find out."""
        return self._cursor is None or self._cursor != self._log.last

    @property
    def published_version(self) -> int:
        """Version of the job that the client has heard, or will hear; 0 if it has heard none."""
        job = self._newest_job
        return 0 if job is None else job.version

    @property
    def has_ended(self) -> bool:
        """Whether the client knows, or will hear, that the job has ended."""
        job = self._newest_job
        return job is not None and job.status in _ENDS

    @property
    def _newest_job(self) -> Update | None:
        known = self._log.find(self.job_id)
        if known is None or (self._job is not None and known.version < self._job.version):
            return self._job
        return known

    async def read(self) -> Batch:
        """Return the next updates in order, none if there is nothing new. Raise `Unavailable`."""
        batch = self.read_log()
        return await self.read_catalogue() if batch is None else batch

    def read_log(self) -> Batch | None:
        """Return the next updates in order, None if only a snapshot brings the client further."""
        if self._cursor is None:
            return None
        entries = self._log.after(self._cursor, self._batch_updates)
        if entries is None:
            return None
        is_last = len(entries) < self._batch_updates
        self._cursor = self._log.last if is_last else entries[-1].sequence
        heard = [entry for entry in entries if self.topic.includes(entry.update)]
        self._note(entry.update for entry in heard)
        return Batch(heard, is_snapshot=False, position=self._cursor)

    async def read_catalogue(self) -> Batch:
        """Return a snapshot, after waiting for a turn. Raise `Unavailable`."""
        async with self._hub.turns:
            position = self._log.last
            states = await self._hub.topics.snapshot(self.principal, self.topic)
        current = [self._newest(state) for state in states]
        self._cursor = position
        self._note(states)
        last = len(current) - 1
        entries = [Entry(position if n == last else 0, each) for n, each in enumerate(current)]
        return Batch(entries, is_snapshot=True, position=position)

    def _note(self, updates: Iterable[Update]) -> None:
        """Note how far the client knows the job."""
        for update in updates:
            if not update.photo_id:
                self._job = update

    def _newest(self, state: Update) -> Update:
        """Add to a state of the catalogue what only the log has: progress, or a newer state."""
        known = self._log.find(state.key)
        merged = merge_update(known, state)
        if merged is not None:
            return merged
        assert known is not None
        return known
