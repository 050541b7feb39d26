"""Random histories of upload jobs, and what has to be true of them at any time.

Run as a program with a catalogue's URL, it goes on until it is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import sys
from collections import defaultdict
from collections.abc import Sequence

from sluice_backends.sql.catalogue import open_catalogue
from sluice_core.errors import FailedPrecondition, NotFound
from sluice_core.events.registry import parse_record
from sluice_core.photos.changes import PhotoChange
from sluice_core.photos.counts import JOB_ENDS, PhotoCounts
from sluice_core.photos.model import Owner, Photo, UploadJob
from sluice_core.photos.states import (
    NOT_ARRIVED,
    TAKES_PARTS,
    TERMINAL,
    TRANSITIONS,
    UNARRIVED,
    PhotoStatus,
    Reopening,
)
from sluice_core.ports.event_publisher import PHOTOS_TOPIC
from sluice_core.ports.gateway import GatewayCatalogue
from support.commits import TENANT
from support.photo_jobs import ANN, new_job, process_object

S = PhotoStatus
LABELS = ("a", "b", "c")
STATUS_OF = {
    "PhotoQueued": S.QUEUED,
    "PhotoUploadStarted": S.UPLOADING,
    "PhotoUploadCompleted": S.PROCESSING,
    "PhotoProcessingCompleted": S.COMPLETED,
    "PhotoFailed": S.FAILED,
    "PhotoCancelled": S.CANCELLED,
}


class PhotoHistory:
    """Random commands and news about a few jobs of one owner."""

    def __init__(self, catalogue: GatewayCatalogue, seed: int, owner: Owner = ANN) -> None:
        self.catalogue = catalogue
        self.chance = random.Random(seed)
        self.owner = owner
        self.photos: list[Photo] = []

    async def step(self) -> None:
        actions = (
            *(self.create,) * 2,
            *(self.change,) * 8,
            *(self.process,) * 3,
            *(self.reopen,) * 2,
            self.lose,
            self.ask,
            self.delete,
            self.cancel_job,
            *(self.tag,) * 2,
        )
        if not self.photos:
            await self.create()
            return
        # A command that does not fit the state, or a deleted photo.
        with contextlib.suppress(FailedPrecondition, NotFound):
            await self.chance.choice(actions)()

    async def create(self) -> None:
        names = [f"{number}.jpg" for number in range(self.chance.randint(1, 4))]
        self.photos += (await self.catalogue.create_job(new_job(*names, owner=self.owner))).photos

    async def change(self) -> None:
        photos = self.chance.choices(self.photos[-12:], k=self.chance.randint(1, 4))
        await self.catalogue.change_photos(
            [
                PhotoChange(
                    photo.photo_id,
                    self.chance.choice(list(S)),
                    self.chance.choice([None, None, 1, 2]),
                    reason=self.chance.choice(["WHY", NOT_ARRIVED]),
                )
                for photo in photos
            ]
        )

    async def process(self) -> None:
        photo = self._any()
        await process_object(self.catalogue, photo)
        if self.chance.random() < 0.5:
            await self.catalogue.change_photos([PhotoChange(photo.photo_id, S.COMPLETED)])

    async def reopen(self) -> None:
        how = self.chance.choice(list(Reopening))
        await self.catalogue.reopen_photo(self.owner, self._any().photo_id, how)

    async def lose(self) -> None:
        """Delete a node by another way than its photo."""
        await self.catalogue.delete_node(TENANT, self._any().node_id)

    async def ask(self) -> None:
        """Get URLs for a photo, and perhaps a multipart."""
        photo, attempt = self._any(), self.chance.choice([1, 2])
        await self.catalogue.keep_awaiting(photo.photo_id, attempt)
        if self.chance.random() < 0.5:
            await self.catalogue.set_multipart(photo.photo_id, attempt, f"m-{attempt}")

    async def delete(self) -> None:
        await self.catalogue.delete_photo(self.owner, self._any().photo_id)

    async def cancel_job(self) -> None:
        await self.catalogue.cancel_job(self.owner, self._any().job_id)

    async def tag(self) -> None:
        change = self.chance.choice([self.catalogue.add_tags, self.catalogue.remove_tags])
        labels = self.chance.sample(LABELS, k=self.chance.randint(1, 3))
        await change(self.owner, self._any().photo_id, labels)

    def _any(self) -> Photo:
        return self.chance.choice(self.photos[-12:])


async def check_photos(catalogue: GatewayCatalogue, owner: Owner = ANN) -> set[str]:
    """Check every job of the owner against its photos and events; return the names of these."""
    events: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)
    names: set[str] = set()
    for row in await catalogue.outbox(1_000_000):
        message = parse_record(row.event)
        name = message.DESCRIPTOR.name
        if row.event.topic == PHOTOS_TOPIC:
            names.add(name)
            events[row.event.key].append((name, getattr(message, "header").sequence))  # noqa: B009
    contradicted: set[str] = set()
    jobs = (await catalogue.list_jobs(owner, 100_000)).jobs
    for job in jobs:
        found = await catalogue.job_with_photos(owner, job.job_id)
        assert found.job == job
        _check_job(job, found.photos, events[job.job_id])
        for photo in found.photos:
            _check_events(photo, events[photo.node_id])
        contradicted |= await _check_objects(catalogue, found.photos)
    await _check_contradicted(catalogue, contradicted)
    await _check_tags(catalogue, owner)
    return names


def _check_job(job: UploadJob, photos: Sequence[Photo], events: list[tuple[str, int]]) -> None:
    assert job.counts == PhotoCounts.of(photo.status for photo in photos)
    assert job.sent_bytes == sum(each.size for each in photos if each.status not in TAKES_PARTS)
    has_ended = all(photo.status in TERMINAL for photo in photos)
    assert (job.status in JOB_ENDS) is has_ended is (job.finished_at is not None)
    assert events[0] == ("UploadJobCreated", 1)
    ends = [name for name, _ in events[1:]]
    assert set(ends) <= {"UploadJobCompleted", "UploadJobCancelled"}
    assert len(ends) >= has_ended
    assert len(ends) <= has_ended + sum(photo.attempt - 1 for photo in photos)
    sequences = [sequence for _, sequence in events]
    assert sequences == sorted(set(sequences))


def _check_events(photo: Photo, events: list[tuple[str, int]]) -> None:
    """Check that each version has its event, and that the states follow the table."""
    assert [sequence for _, sequence in events] == list(range(1, photo.version + 1))
    walk = [STATUS_OF[name] for name, _ in events if name in STATUS_OF]
    assert walk[-1] is photo.status
    again = 0
    for former, status in itertools.pairwise(walk):
        if former is S.FAILED:
            again += 1
            assert status in (S.QUEUED, S.PROCESSING)
        else:
            assert status in TRANSITIONS[former]
    # A change of tags is no step; a new attempt is.
    assert again == photo.attempt - 1
    assert ("PhotoDeleted" in [name for name, _ in events]) is (photo.deleted_at is not None)


async def _check_objects(catalogue: GatewayCatalogue, photos: Sequence[Photo]) -> set[str]:
    """Check photos against their nodes; return those that the sweeper has to mend."""
    live = await catalogue.candidates([photo.node_id for photo in photos])
    contradicted: set[str] = set()
    for photo in photos:
        results = await catalogue.processing_of(TENANT, [photo.node_id])
        is_live = photo.node_id in live
        is_unwanted = photo.status is S.CANCELLED or photo.deleted_at is not None
        is_missed = photo.status is S.FAILED and photo.reason in UNARRIVED
        is_shown = photo.status is S.COMPLETED and photo.deleted_at is None
        assert not (is_shown and is_live) or results, "a completed photo has a processed object"
        if (is_live and (is_unwanted or is_missed)) or (is_shown and not is_live):
            contradicted.add(photo.photo_id)
    return contradicted


async def _check_contradicted(catalogue: GatewayCatalogue, expected: set[str]) -> None:
    """Check that the sweeper finds all of these, and no others, in slices."""
    found = await catalogue.contradicted_photos(7)
    photos = [*found.photos]
    while found.next_after:
        found = await catalogue.contradicted_photos(7, found.next_after)
        photos += found.photos
    assert [photo.photo_id for photo in photos] == sorted(expected)


async def _check_tags(catalogue: GatewayCatalogue, owner: Owner) -> None:
    photos = (await catalogue.list_photos(owner, 100_000)).photos
    labels = await catalogue.tags_of([photo.photo_id for photo in photos])
    counted = {tag.label: tag.photos for tag in (await catalogue.list_tags(owner, 100)).tags}
    used = [label for of_photo in labels.values() for label in of_photo]
    assert counted == {label: used.count(label) for label in set(used)}


async def _until_killed(url: str) -> None:
    async with open_catalogue(url) as catalogue:
        histories = [PhotoHistory(catalogue, seed) for seed in range(2)]
        for number in itertools.count():
            await asyncio.gather(*(history.step() for history in histories))
            sys.stdout.write(f"{number}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(_until_killed(sys.argv[1]))
