"""Random histories of a quota: the limit holds at every step, and in the end the sums are right."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from sluice_common.process.crash_points import CrashPoint
from sluice_core.errors import ResourceExhausted
from sluice_core.ports.quotas import Quota
from sluice_intake.quotas import UploadRooms
from sluice_repository.options import RepositoryOptions
from sluice_repository.rpc.drives import DriveRegistry
from support.crashes import CrashSimulated, armed
from support.mysql_server import shared_server
from support.roles import DRIVE, TENANT, Upload, World, pieces, small_world

LIMIT = Quota(max_bytes=6_000, max_nodes=8, max_open_uploads=5)
STEPS = 60
KILLS = (
    CrashPoint.AFTER_UPLOAD_PART,
    CrashPoint.AFTER_CLAIM_COMPLETION,
    CrashPoint.AFTER_CATALOGUE_COMMIT,
    CrashPoint.AFTER_FINISH,
)


class History:
    """One random history, with an intake that is killed between its steps."""

    def __init__(self, world: World, seed: int) -> None:
        self.world = world
        self.chance = random.Random(seed)
        self.drives = DriveRegistry(world.catalogue, auto_create=False)
        self.open: list[Upload] = []
        self.refused = 0

    async def step(self) -> None:
        actions = (
            *(self.initiate,) * 4,
            *(self.commit,) * 3,
            self.killed_initiate,
            self.killed_commit,
            self.abort,
            self.expire,
            self.delete,
            self.sweep,
        )
        await self.chance.choice(actions)()

    async def initiate(self) -> None:
        size = self.chance.randrange(1, 2_000)
        path = f"n{self.chance.randrange(12)}"
        drive = (await self.drives.get(TENANT, DRIVE)).drive
        new = self.world.new_upload(path, expected_size=size)
        rooms = UploadRooms(self.world.deps.ledger, self.drives, step_bytes=700)
        try:
            await rooms.reserve_new(drive, new)
        except ResourceExhausted:
            self.refused += 1
        else:
            self.open.append(await self.world.open(new, pieces(size, 500)))

    async def killed_initiate(self) -> None:
        """Reserve room for an upload that is never opened."""
        name = f"dead-{self.chance.random()}"
        try:
            await self.drives.reserve(TENANT, DRIVE, name, self.chance.randrange(1, 2_000))
        except ResourceExhausted:
            self.refused += 1

    async def commit(self) -> None:
        upload = self._take()
        if upload is None:
            return
        for number in range(len(upload.chunks)):
            await self.world.send(upload, number)
        await self.world.complete(upload)
        await self.world.work()

    async def killed_commit(self) -> None:
        with armed(self.chance.choice(KILLS)):
            try:
                await self.commit()
            except CrashSimulated:
                self.world.boot()

    async def abort(self) -> None:
        upload = self._take()
        if upload is not None:
            await self.world.deps.ledger.abort(upload.id)

    async def expire(self) -> None:
        if self.chance.random() < 0.2:
            self.world.clock.advance(8 * 24 * 3600.0)
            self.open.clear()
            await self.world.settle(180.0)

    async def delete(self) -> None:
        page = await self.world.catalogue.list_nodes(TENANT, DRIVE, "", 100, "")
        if page.nodes:
            await self.world.catalogue.delete_node(TENANT, self.chance.choice(page.nodes).node_id)

    async def sweep(self) -> None:
        self.world.clock.advance(self.chance.choice((1.0, 20.0, 61.0)))
        await self.world.sweeper.sweep()
        await self.world.work()

    def _take(self) -> Upload | None:
        if not self.open:
            return None
        return self.open.pop(self.chance.randrange(len(self.open)))

    async def check(self) -> None:
        for drive in (DRIVE, ""):
            _, usage = await self.world.catalogue.get_quota(TENANT, drive)
            assert usage.bytes + usage.reserved_bytes <= LIMIT.max_bytes
            assert usage.nodes + usage.open_uploads <= LIMIT.max_nodes
            assert usage.open_uploads <= LIMIT.max_open_uploads
        page = await self.world.catalogue.list_nodes(TENANT, DRIVE, "", 100, "")
        assert (usage.bytes, usage.nodes) == (sum(n.size for n in page.nodes), len(page.nodes))


@pytest.mark.no_cover
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("database", ["sqlite", "mysql"])
async def test_random_histories_keep_the_quota(tmp_path: Path, database: str, seed: int) -> None:
    on_mysql = database == "mysql"
    options = RepositoryOptions(
        retry_base_seconds=0.01,
        retry_cap_seconds=0.02,
        # The server's clock does not advance with the test's.
        reservation_age_seconds=0.0 if on_mysql else 60.0,
        reconcile_interval_seconds=0.0,
    )
    url = await shared_server().emptied_database() if on_mysql else ""
    async with small_world(tmp_path, options=options, catalogue_url=url) as world:
        history = History(world, seed)
        await world.catalogue.set_quota(TENANT, DRIVE if seed % 2 else "", LIMIT)
        for _ in range(STEPS):
            await history.step()
            await history.check()
        assert history.refused > 0
        for upload in history.open:
            await world.deps.ledger.abort(upload.id)
        await world.settle(300.0)
        await history.check()
        _, usage = await world.catalogue.get_quota(TENANT, DRIVE)
        assert (usage.reserved_bytes, usage.open_uploads) == (0, 0)
        assert world.counted("sluice_usage_corrections_total") == 0
