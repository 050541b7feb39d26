"""Topics: their names, who may hear them, and what they hold at present."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from sluice_core.access.principal import Principal
from sluice_core.errors import InvalidArgument
from sluice_core.live.updates import Update

_JOB: Final = re.compile(r"/topic/job/([A-Za-z0-9_-]{1,64})")


@dataclass(frozen=True, slots=True)
class JobTopic:
    """One job and its photos: `/topic/job/{jobId}`."""

    job_id: str

    @property
    def destination(self) -> str:
        return f"/topic/job/{self.job_id}"

    def includes(self, update: Update) -> bool:
        return update.job_id == self.job_id


@dataclass(frozen=True, slots=True)
class UserTopic:
    """All jobs of the user: `/user/queue/progress`."""

    destination: str = "/user/queue/progress"

    def includes(self, update: Update) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class SessionTopic:
    """Notices about the session itself, such as the end of its token: `/user/queue/session`."""

    destination: str = "/user/queue/session"

    def includes(self, update: Update) -> bool:
        return False


Topic = JobTopic | UserTopic | SessionTopic


def parse_topic(destination: str) -> Topic:
    """Return the topic of a destination; raise `InvalidArgument` if there is none of this name."""
    for topic in (UserTopic(), SessionTopic()):
        if destination == topic.destination:
            return topic
    job = _JOB.fullmatch(destination)
    if job is None:
        raise InvalidArgument(
            "UNKNOWN_TOPIC",
            "There is no such destination; subscribe to /topic/job/{jobId},"
            " /user/queue/progress or /user/queue/session.",
            field="destination",
        )
    return JobTopic(job[1])


def parse_cursor(text: str | None, field_name: str) -> int | None:
    """Return the sequence after which a client resumes; raise `InvalidArgument` if it is none."""
    if text is None or text == "":
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 16):
        raise InvalidArgument(
            "BAD_SEQUENCE",
            "Not a sequence of an earlier update; leave it out to get a snapshot.",
            field=field_name,
        )
    return int(text)


class Topics(Protocol):
    """What live updates ask of the jobs."""

    async def may_hear(self, principal: Principal, topic: JobTopic | UserTopic) -> bool:
        """Return True if the topic exists and belongs to the principal.

        False alike, and after the same time, for jobs that do not exist and for those of others.
        """
        ...

    async def snapshot(self, principal: Principal, topic: JobTopic | UserTopic) -> Sequence[Update]:
        """Return the present states from the catalogue: of a job and all its photos, or of the
        user's jobs that have not ended. Bytes sent may be 0: progress is not in the catalogue.

        Raise `Unavailable`. Called only after `may_hear` was true; a job that was deleted since
        has no states.
        """
        ...

    async def versions(self, job_ids: Sequence[str]) -> Mapping[str, int]:
        """Return the present versions of these jobs. Raise `Unavailable`."""
        ...
