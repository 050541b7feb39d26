"""Readers of a topic end up with the truth, whatever they miss in between."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from sluice_backends.memory.live import MemoryLiveUpdates
from sluice_core.access.principal import Principal
from sluice_core.live.updates import ProgressTick, Update
from sluice_gateway.live.hub import LiveHub, TopicReader, audience_of
from sluice_gateway.live.options import LiveOptions
from sluice_gateway.live.origins import Origins
from sluice_gateway.live.sessions import Sessions
from sluice_gateway.live.topics import JobTopic, UserTopic
from support.live_gateway import JobTable, NamedUsers, user
from support.live_updates import photo_update

ANN = user("ann")
USER = audience_of(ANN)
PHOTOS = [f"p{n}" for n in range(3)]

COMMIT, PUBLISH, READ, COME_BACK, TICK = "commit", "publish", "read", "come back", "tick"
STEPS = st.lists(
    st.tuples(
        st.sampled_from([COMMIT, COMMIT, PUBLISH, PUBLISH, READ, COME_BACK, TICK]),
        st.sampled_from(PHOTOS),
        st.integers(0, 3),
    ),
    min_size=5,
    max_size=40,
)


class Scene:
    """A catalogue, publications that may be late or out of order, and a client."""

    def __init__(self, capacity: int) -> None:
        self.jobs = JobTable()
        self.jobs.add("job-1", "ann", *(photo_update(photo) for photo in PHOTOS))
        self.updates = MemoryLiveUpdates(capacity)
        options = LiveOptions(batch_updates=2)
        self.hub = LiveHub(
            self.updates, self.jobs, NamedUsers(), Origins([]), Sessions(options), options
        )
        self.unpublished: list[Update] = []
        self.view: dict[str, Update] = {}
        self.sequence: int | None = None

    @property
    def truth(self) -> dict[str, Update]:
        return {state.key: state for state in self.jobs.states["job-1"]}

    def commit(self, photo: str) -> None:
        before = self.truth[photo]
        after = photo_update(photo, "PROCESSING", version=before.version + 1, sent=1000)
        self.jobs.states["job-1"] = [*({**self.truth, photo: after}).values()]
        self.unpublished.append(after)

    async def publish(self, which: int) -> None:
        if self.unpublished:
            update = self.unpublished.pop(which % len(self.unpublished))
            await self.updates.publish(USER, [update])

    async def read(self, reader: TopicReader) -> None:
        """Apply what a client gets; it resumes after the newest sequence of a message."""
        batch = await reader.read()
        if batch.is_snapshot:
            self.view.clear()
        for entry in batch.entries:
            self.view[entry.update.key] = entry.update
            self.sequence = max(self.sequence or 0, entry.sequence)


@settings(max_examples=300)
@given(STEPS, st.integers(1, 5), st.sampled_from([JobTopic("job-1"), UserTopic()]))
async def test_reader_ends_up_with_the_truth(
    steps: Sequence[tuple[str, str, int]], capacity: int, topic: JobTopic | UserTopic
) -> None:
    scene = Scene(capacity)
    async with scene.updates.listen(USER) as listening:

        def come_back() -> TopicReader:
            return TopicReader(scene.hub, ANN, topic, listening, scene.sequence)

        reader = come_back()
        for kind, photo, number in steps:
            if kind == COMMIT:
                scene.commit(photo)
            elif kind == PUBLISH:
                await scene.publish(number)
            elif kind == READ:
                await scene.read(reader)
            elif kind == COME_BACK:
                reader = come_back()
            else:
                tick = ProgressTick("job-1", photo, number * 100, 1000)
                await scene.updates.post_progress(USER, [tick])
        while scene.unpublished:
            await scene.publish(0)
        while reader.has_more:
            await scene.read(reader)
        assert scene.view.keys() == set(PHOTOS)
        for photo, state in scene.truth.items():
            view = scene.view[photo]
            assert view.version == state.version or state.version == 1
            if state.status == "PROCESSING":
                assert view == state


async def test_other_jobs_do_not_reach_the_reader_of_one() -> None:
    scene = Scene(capacity=50)
    async with scene.updates.listen(USER) as listening:
        reader = TopicReader(scene.hub, ANN, JobTopic("job-1"), listening, None)
        await scene.read(reader)
        await scene.updates.publish(USER, [photo_update(f"q{n}", job_id="job-2") for n in range(5)])
        while reader.has_more:
            batch = await reader.read()
            assert not batch.entries
        assert reader.cursor == listening.log.last


def test_principal_of_another_tenant_is_another_user() -> None:
    other = Principal("other", "ann", frozenset())
    assert audience_of(other) != USER
