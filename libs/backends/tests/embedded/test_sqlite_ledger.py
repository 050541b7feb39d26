"""Durability of the embedded ledger: crashes, group commits and restarts."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from sluice_backends.embedded.ledger.ledger import SqliteLedger, open_sqlite_ledger
from sluice_core.errors import Aborted, FailedPrecondition, InvalidArgument, Unavailable
from sluice_core.ledger.store import Session
from sluice_core.ports import ChunkOffer
from sluice_core.uploads.checksums import crc32c
from sluice_core.uploads.model import UploadStatus
from support.ledgers import ROOMY, Driver, FakeClock, sqlite

CHUNK = b"x" * 8


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


async def hard_stop(folder: Path, copy: Path) -> None:
    """Copy the files as a crash would leave them, while the ledger is open."""
    await asyncio.to_thread(shutil.copytree, folder, copy)


async def test_acknowledged_state_survives_a_crash(tmp_path: Path, clock: FakeClock) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    before.mkdir()
    async with sqlite(before, ROOMY, clock) as ledger:
        driver = Driver(ledger, clock)
        upload_id = await driver.create(expected_size=40, metadata={"k": "ü"}, sha256=b"\1" * 32)
        for number in (0, 1, 2, 4):
            await driver.send(upload_id, number, CHUNK)
        await driver.store(upload_id, 1)
        snapshot = await ledger.get(upload_id)
        backlog = await ledger.backlog()
        events = await ledger.upload_events(upload_id)
        nonce = ledger.nonce
        await hard_stop(before, after)
    async with sqlite(after, ROOMY, clock) as ledger:
        driver = Driver(ledger, clock)
        assert ledger.nonce == nonce
        assert await ledger.get(upload_id) == snapshot
        assert await ledger.backlog() == backlog
        assert await ledger.upload_events(upload_id) == events
        assert await driver.missing(upload_id) == [(3, 3)]
        await driver.send(upload_id, 3, CHUNK)
        done = await driver.complete(upload_id, 5)
        assert done.snapshot.crc32c == crc32c(CHUNK * 5)
        assert (await driver.finish(upload_id)).status is UploadStatus.COMPLETED


async def test_restart_keeps_rejected_chunks_and_ends_claims(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with sqlite(tmp_path, ROOMY, clock) as ledger:
        driver = Driver(ledger, clock)
        upload_id = await driver.create()
        await driver.send_all(upload_id, CHUNK * 4, 8)
        held = await driver.claim(upload_id, 2, "one")
        await ledger.reject_chunk(await driver.claim(upload_id, 1), 0)
    async with sqlite(tmp_path, ROOMY, clock) as ledger:
        driver = Driver(ledger, clock)
        taken_over = await ledger.claim_part(upload_id, 2, "two", 15)
        assert taken_over is not None, "the lease of a dead process does not block others"
        with pytest.raises(Aborted, match="FENCED"):
            await ledger.record_part(held, await driver.record_of(held))
        await ledger.record_part(taken_over, await driver.record_of(taken_over))
        assert await driver.missing(upload_id) == [(0, 0)]
        assert (await driver.send(upload_id, 0, CHUNK)).ready_parts == (1,)


async def test_restart_ends_reservations_and_keeps_queued_bytes(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with sqlite(tmp_path, ROOMY, clock) as ledger:
        driver = Driver(ledger, clock)
        upload_id = await driver.create()
        await driver.send(upload_id, 0, CHUNK)
        await driver.admit(upload_id, 1, 8)
        await driver.completed()
    async with sqlite(tmp_path, ROOMY, clock) as ledger:
        backlog = await ledger.backlog()
        assert (backlog.queued_bytes, backlog.reserved_bytes, backlog.open_uploads) == (8, 0, 1)


WRITER = """
import asyncio, sys
from pathlib import Path
from support.ledgers import ROOMY, Driver, FakeClock, sqlite

async def one(driver, upload_id, numbers):
    for number in numbers:
        await driver.send(upload_id, number, b"x" * 8)
        print(number, flush=True)

async def main():
    async with sqlite(Path(sys.argv[1]), ROOMY, FakeClock()) as ledger:
        driver = Driver(ledger, FakeClock())
        upload_id = await driver.create(chunk_size=8)
        print(upload_id, flush=True)
        async with asyncio.TaskGroup() as tasks:
            for k in range(8):
                tasks.create_task(one(driver, upload_id, range(k, 1_000_000, 8)))

asyncio.run(main())
"""


def acknowledged_until_killed(folder: Path) -> tuple[str, set[int]]:
    """Run a process that accepts chunks as fast as it can, and kill it during a group."""
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(Path(__file__).parents[4] / "tests")},
    ) as writer:
        assert writer.stdout is not None
        upload_id = writer.stdout.readline().strip()
        lines = [writer.stdout.readline() for _ in range(300)]
        writer.send_signal(signal.SIGKILL)
        rest = writer.stdout.read()
    whole = ("".join(lines) + rest).split("\n")[:-1]  # the last line may be cut
    return upload_id, {int(line) for line in whole}


async def test_kill_9_loses_no_acknowledged_chunk(tmp_path: Path, clock: FakeClock) -> None:
    upload_id, acknowledged = await asyncio.to_thread(acknowledged_until_killed, tmp_path)
    assert len(acknowledged) >= 300
    async with sqlite(tmp_path, replace(ROOMY, budget_bytes=1 << 40), clock) as ledger:
        snapshot = await ledger.get(upload_id)
        missing = await ledger.missing_chunks(upload_id, 1_000)
        absent = {n for gap in missing.ranges for n in range(gap.first, gap.last + 1)}
        assert not acknowledged & absent
        assert snapshot.received_chunks == snapshot.highest_number + 1 - len(absent)
        assert snapshot.received_bytes == 8 * snapshot.received_chunks


async def test_waiting_steps_share_one_commit(tmp_path: Path, clock: FakeClock) -> None:
    commits: list[str] = []
    async with sqlite(tmp_path, ROOMY, clock) as ledger:
        driver = Driver(ledger, clock)
        upload_id = await driver.create()

        def trace(session: Session) -> None:
            connection = session.store._db  # type: ignore[attr-defined]
            connection.set_trace_callback(
                lambda sql: commits.append(sql) if sql == "COMMIT" else None
            )

        assert isinstance(ledger, SqliteLedger)
        await ledger._run(trace)
        await asyncio.gather(*(driver.send(upload_id, number, b"x") for number in range(64)))
        assert (await ledger.get(upload_id)).received_chunks == 64
    assert len(commits) <= 20


async def test_rejected_step_rolls_back_only_itself(tmp_path: Path, clock: FakeClock) -> None:
    async with sqlite(tmp_path, ROOMY, clock) as ledger:
        driver = Driver(ledger, clock)
        upload_id = await driver.create()
        offers = [ChunkOffer(upload_id, number, 1, f"t{number}") for number in range(-3, 3)]
        results = await asyncio.gather(
            *(ledger.accept_chunk(offer, 1) for offer in offers), return_exceptions=True
        )
        refused = [result for result in results if isinstance(result, BaseException)]
        assert len(refused) == 3
        assert all(isinstance(error, InvalidArgument) for error in refused)
        assert (await ledger.get(upload_id)).received_chunks == 3


def _break_off(session: Session, upload_id: str, error: Exception) -> None:
    """Change rows and the record, then fail as a defect or a disk fault does."""
    record = session.require(upload_id)
    record.queued_bytes = 1_000
    session.save(record)
    raise error


@pytest.mark.parametrize("error", [RuntimeError("defect"), sqlite3.OperationalError("disk")])
async def test_step_that_fails_halfway_is_rolled_back(
    tmp_path: Path, clock: FakeClock, error: Exception
) -> None:
    async with sqlite(tmp_path, ROOMY, clock) as ledger:
        assert isinstance(ledger, SqliteLedger)
        driver = Driver(ledger, clock)
        upload_id = await driver.create()
        await driver.send(upload_id, 0, CHUNK)
        before = await ledger.get(upload_id)
        with pytest.raises(Unavailable if isinstance(error, sqlite3.Error) else RuntimeError):
            await ledger._run(_break_off, upload_id, error)
        assert await ledger.get(upload_id) == before
        assert (await ledger.backlog()).queued_bytes == 8
        await driver.send(upload_id, 1, CHUNK)


@pytest.mark.rule(6)
async def test_failed_commit_fails_every_step_of_the_group(
    tmp_path: Path, clock: FakeClock
) -> None:
    async with sqlite(tmp_path, ROOMY, clock) as ledger:
        assert isinstance(ledger, SqliteLedger)
        driver = Driver(ledger, clock)
        upload_id = await driver.create()

        def limit_pages(session: Session, pages: int) -> None:
            session.store._db.execute(f"PRAGMA max_page_count = {pages}")  # type: ignore[attr-defined]

        await ledger._run(limit_pages, 1)  # a full disk, as SQLite sees it
        acknowledged = 0

        async def send_until_full() -> None:
            nonlocal acknowledged
            for number in range(100_000):
                await driver.send(upload_id, number, b"x")
                acknowledged += 1

        with pytest.raises(Unavailable) as refused:
            await send_until_full()
        assert refused.value.reason == "LEDGER_UNAVAILABLE"
        assert acknowledged > 0
        await ledger._run(limit_pages, 1_000_000)
        assert (await ledger.get(upload_id)).received_chunks == acknowledged
        assert (await ledger.backlog()).queued_bytes == acknowledged
        await driver.send(upload_id, acknowledged, b"x")


async def test_cancelled_caller_does_not_affect_its_group(tmp_path: Path, clock: FakeClock) -> None:
    async with sqlite(tmp_path, ROOMY, clock) as ledger:
        driver = Driver(ledger, clock)
        upload_id = await driver.create()
        sending = [
            asyncio.ensure_future(driver.send(upload_id, number, b"x")) for number in range(50)
        ]
        await asyncio.sleep(0)
        for task in sending[::2]:
            task.cancel()
        results = await asyncio.gather(*sending, return_exceptions=True)
        assert sum(isinstance(result, asyncio.CancelledError) for result in results) == 25
        await driver.send(upload_id, 50, b"x")
        assert (await ledger.get(upload_id)).received_chunks >= 26


async def test_closed_ledger_rejects_steps(tmp_path: Path, clock: FakeClock) -> None:
    async with sqlite(tmp_path, ROOMY, clock) as ledger:
        await ledger.ping()
    with pytest.raises(Unavailable) as closed:
        await ledger.ping()
    assert closed.value.reason == "LEDGER_CLOSED"


async def test_closing_completes_waiting_steps(tmp_path: Path, clock: FakeClock) -> None:
    async with sqlite(tmp_path, ROOMY, clock) as ledger:
        driver = Driver(ledger, clock)
        waiting = asyncio.ensure_future(ledger.create(driver.new()))
        await asyncio.sleep(0)
    assert (await waiting).status is UploadStatus.PENDING


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("UPDATE meta SET value = '99' WHERE key = 'format'", "LEDGER_FORMAT"),
        ("DELETE FROM meta WHERE key = 'format'", "LEDGER_FORMAT"),
    ],
)
async def test_file_of_another_format_is_rejected(
    tmp_path: Path, clock: FakeClock, statement: str, reason: str
) -> None:
    async with sqlite(tmp_path, ROOMY, clock):
        pass
    with sqlite3.connect(tmp_path / "ledger.db") as connection:
        connection.execute(statement)
    connection.close()
    with pytest.raises(FailedPrecondition) as refused:
        async with sqlite(tmp_path, ROOMY, clock):
            pass
    assert refused.value.reason == reason


async def test_file_that_is_not_a_ledger_is_rejected(tmp_path: Path, clock: FakeClock) -> None:
    (tmp_path / "ledger.db").write_bytes(b"no database at all" * 100)
    with pytest.raises(Unavailable) as refused:
        async with sqlite(tmp_path, ROOMY, clock):
            pass
    assert refused.value.reason == "LEDGER_UNAVAILABLE"


@pytest.mark.rule(6)
@pytest.mark.parametrize(("fsync", "level"), [(False, 1), (True, 2)])
async def test_fsync_setting_selects_the_synchronous_mode(
    tmp_path: Path, clock: FakeClock, fsync: bool, level: int
) -> None:
    def pragmas(session: Session) -> tuple[int, str]:
        execute = session.store._db.execute  # type: ignore[attr-defined]
        return (
            execute("PRAGMA synchronous").fetchone()[0],
            execute("PRAGMA journal_mode").fetchone()[0],
        )

    path = tmp_path / "ledger.db"
    async with open_sqlite_ledger(path, ROOMY, fsync=fsync, clock=clock) as ledger:
        assert isinstance(ledger, SqliteLedger)
        assert await ledger._run(pragmas) == (level, "wal")


async def test_large_upload_is_purged_in_steps(
    tmp_path: Path, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sluice_core.ledger.sweep._CLEAR_ROWS", 7)
    async with sqlite(tmp_path, ROOMY, clock) as ledger:
        assert isinstance(ledger, SqliteLedger)
        driver = Driver(ledger, clock)
        upload_id = await driver.create()
        await driver.send_all(upload_id, CHUNK * 20, 8)
        await ledger.abort(upload_id)
        await ledger.events_published(upload_id, 10)
        for _ in range(2):
            await ledger.cleanup_done(upload_id)
            clock.advance(24 * 3600)
        assert await ledger.purge_due(10) == 1

        def rows(session: Session) -> list[int]:
            return [
                session.store._db.execute(f"SELECT count(*) FROM {table}").fetchone()[0]  # type: ignore[attr-defined]
                for table in ("uploads", "identities", "chunks", "parts", "events", "debris")
            ]

        assert await ledger._run(rows) == [0] * 6
