"""Rule 19 when two commits meet: the second one comes while the first holds all its locks.

The first transaction is held at its last statement, everything done and nothing committed, until
the others have begun theirs. They are made by another process's catalogue, as two repositories
are. All of them go step by step; transactions in one packet meet in tests/integration/mysql.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from sluice_backends.sql import commits as sql_commits
from sluice_backends.sql import outbox as sql_outbox
from sluice_backends.sql.catalogue import open_catalogue
from sluice_backends.sql.database import Database
from sluice_core.errors import AlreadyExists, NotFound, SluiceError, Unavailable
from sluice_core.ports.catalogue import (
    MAX_DOWNLOAD_URL_SECONDS,
    Catalogue,
    CommitOutcome,
)
from support.commits import DRIVE, TENANT, finished_upload
from support.races import outcome

Call = Coroutine[Any, Any, Any]


class Referee:
    """Holds the first transaction of a meeting, and counts those that have begun."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._armed = False
        self._held = asyncio.Event()
        self._go_on = asyncio.Event()
        self._begun = 0
        self._more_have_begun = asyncio.Condition()
        self._undo: SluiceError | None = None
        append_events, write = sql_outbox.append_events, Database.write

        async def append(*args: Any) -> None:
            await append_events(*args)
            if self._armed:
                self._armed = False
                self._held.set()
                await self._go_on.wait()
                if self._undo is not None:
                    raise self._undo

        def begin(database: Database) -> AbstractAsyncContextManager[Any]:
            return self._counted(write(database))

        async def step_by_step(*_: Any) -> bool:
            return False

        patch.setattr(Database, "commit_batch", step_by_step)
        patch.setattr(sql_commits, "append_events", append)
        patch.setattr(Database, "write", begin)

    @asynccontextmanager
    async def _counted(self, writing: AbstractAsyncContextManager[Any]) -> AsyncIterator[Any]:
        async with self._more_have_begun:
            self._begun += 1
            self._more_have_begun.notify_all()
        async with writing as connection:
            yield connection

    async def meet(
        self, first: Call, *others: Call, undo_first: SluiceError | None = None
    ) -> list[Any]:
        """Answers and errors, the first one's first."""
        self._undo, self._armed, self._begun = undo_first, True, 0
        async with asyncio.timeout(30), asyncio.TaskGroup() as group:
            tasks = [group.create_task(outcome(first))]
            await self._held.wait()
            tasks += [group.create_task(outcome(other)) for other in others]
            async with self._more_have_begun:
                await self._more_have_begun.wait_for(lambda: self._begun > len(others))
            assert not any(task.done() for task in tasks)
            self._go_on.set()
        return [task.result() for task in tasks]


@pytest.fixture
def referee(monkeypatch: pytest.MonkeyPatch) -> Referee:
    return Referee(monkeypatch)


@pytest.fixture
async def elsewhere(url: str, catalogue: Catalogue) -> AsyncIterator[Catalogue]:
    """The same catalogue, as another process has it open."""
    async with open_catalogue(url) as opened:
        yield opened


async def told(catalogue: Catalogue) -> list[tuple[str, str]]:
    """What the outbox says of whom, in order."""
    rows = await catalogue.outbox(1_000)
    return [(row.event.key, row.event.type.rpartition(".")[2]) for row in rows]


async def doomed(catalogue: Catalogue) -> list[str]:
    due = await catalogue.deletions_due(time.time() + 2 * MAX_DOWNLOAD_URL_SECONDS, 1_000)
    return sorted(deletion.object.key for deletion in due)


async def holder(catalogue: Catalogue) -> str:
    return (await catalogue.find_node(TENANT, DRIVE, "a")).node_id


@pytest.mark.rule(19)
async def test_a_commit_that_meets_another_on_its_path_supersedes_it(
    catalogue: Catalogue, elsewhere: Catalogue, referee: Referee
) -> None:
    one, two = finished_upload("a"), finished_upload("a")
    answers = await referee.meet(catalogue.commit_node(one), elsewhere.commit_node(two))
    assert answers == [
        CommitOutcome(created=True),
        CommitOutcome(created=True, superseded_node_id=one.node_id),
    ]
    assert await holder(catalogue) == two.node_id
    assert await told(catalogue) == [
        (one.node_id, "UploadCompleted"),
        (two.node_id, "UploadCompleted"),
        (one.node_id, "NodeDeleted"),
    ]
    assert await doomed(catalogue) == [one.object.key]


@pytest.mark.rule(19)
async def test_a_commit_whose_rival_is_undone_has_the_path_to_itself(
    catalogue: Catalogue, elsewhere: Catalogue, referee: Referee
) -> None:
    one, two = finished_upload("a", if_absent=True), finished_upload("a", if_absent=True)
    undone = Unavailable("TEST", "The process died.")
    answers = await referee.meet(
        catalogue.commit_node(one), elsewhere.commit_node(two), undo_first=undone
    )
    assert answers == [undone, CommitOutcome(created=True)]
    assert await holder(catalogue) == two.node_id
    assert await told(catalogue) == [(two.node_id, "UploadCompleted")]
    assert await doomed(catalogue) == []


@pytest.mark.rule(19)
async def test_if_absent_is_checked_against_what_was_not_yet_committed(
    catalogue: Catalogue, elsewhere: Catalogue, referee: Referee
) -> None:
    one, two, three = (finished_upload("a", if_absent=True) for _ in range(3))
    made, *refused = await referee.meet(
        catalogue.commit_node(one), elsewhere.commit_node(two), elsewhere.commit_node(three)
    )
    assert made == CommitOutcome(created=True)
    assert [type(error) for error in refused] == [AlreadyExists] * 2
    assert {error.reason for error in refused} == {"PATH_EXISTS"}
    assert await holder(catalogue) == one.node_id
    assert await told(catalogue) == [(one.node_id, "UploadCompleted")]


@pytest.mark.rule(18, 19)
async def test_the_same_commit_by_two_completers_makes_one_node(
    catalogue: Catalogue, elsewhere: Catalogue, referee: Referee
) -> None:
    upload = finished_upload("a", if_absent=True)
    answers = await referee.meet(
        *(one.commit_node(upload) for one in (catalogue, elsewhere, elsewhere))
    )
    assert answers == [CommitOutcome(created=number == 0) for number in range(3)]
    assert await told(catalogue) == [(upload.node_id, "UploadCompleted")]


@pytest.mark.rule(19)
async def test_a_replay_that_meets_its_successor_does_not_take_the_path_back(
    catalogue: Catalogue, elsewhere: Catalogue, referee: Referee
) -> None:
    old, new = finished_upload("a"), finished_upload("a")
    await catalogue.commit_node(old)
    answers = await referee.meet(catalogue.commit_node(new), elsewhere.commit_node(old))
    assert answers == [
        CommitOutcome(created=True, superseded_node_id=old.node_id),
        CommitOutcome(created=False),
    ]
    assert await holder(catalogue) == new.node_id
    with pytest.raises(NotFound):
        await catalogue.get_node(TENANT, old.node_id)
    assert await doomed(catalogue) == [old.object.key]


@pytest.mark.rule(19)
async def test_a_deletion_that_meets_the_commit_of_its_nodes_successor_finds_it_gone(
    catalogue: Catalogue, elsewhere: Catalogue, referee: Referee
) -> None:
    old, new = finished_upload("a"), finished_upload("a")
    await catalogue.commit_node(old)
    answers = await referee.meet(
        catalogue.commit_node(new), elsewhere.delete_node(TENANT, old.node_id)
    )
    assert answers == [CommitOutcome(created=True, superseded_node_id=old.node_id), None]
    assert await holder(catalogue) == new.node_id
    assert (await told(catalogue)).count((old.node_id, "NodeDeleted")) == 1
    assert await doomed(catalogue) == [old.object.key]
