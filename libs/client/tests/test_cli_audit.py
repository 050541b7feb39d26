"""`sluice audit` and the SDK's method, against a real repository."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sluice_client import AuditEntry, Client, InvalidArgument, Role
from sluice_client.cli.commands.audit import moment_of
from sluice_core.access import audit
from support.command import Command
from support.commits import DRIVE, TENANT
from support.repository import Repository, running_repository

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Repository]:
    async with running_repository(tmp_path) as running:
        yield running


@pytest.fixture
async def command(server: Repository, tmp_path: Path) -> Command:
    made = Command(server.address, tmp_path)
    made.environment["SLUICE_TOKEN"] = TENANT
    return made


async def add_entries(server: Repository, number: int) -> None:
    """Add entries, a second apart from `START` on, of two subjects in turn."""
    await server.catalogue.append_audit(
        [
            audit.AuditEntry(
                TENANT,
                f"s{one % 2}",
                "DeleteNode" if one % 3 else "UpdateNode",
                f"node/{one}",
                "NOT_GRANTED",
                f"r-{one}",
                "10.0.0.1",
                one + 1,
                START.timestamp() + one,
            )
            for one in range(number)
        ]
    )


async def test_a_change_is_listed(command: Command, server: Repository) -> None:
    granted = await command("drive", "grant", DRIVE, "--group", "staff", "--role", "writer")
    assert granted.code == 0, granted.err
    (line,) = (await command("audit", "--json")).lines
    assert {key: line[key] for key in ("subject", "action", "object", "outcome", "count")} == {
        "subject": "tester",
        "action": "GrantDrive",
        "object": f"drive/{DRIVE} writer group:staff",
        "outcome": "OK",
        "count": 1,
    }
    text = (await command("audit")).out.decode()
    assert text.split()[2:5] == ["OK", "GrantDrive", "tester"]
    assert f"drive/{DRIVE} writer group:staff" in text


async def test_the_log_is_filtered_and_limited(command: Command, server: Repository) -> None:
    await add_entries(server, 6)

    async def ids(*arguments: str) -> list[str]:
        lines = (await command("audit", "--json", *arguments)).lines
        return [line["request_id"] for line in lines]

    assert await ids() == ["r-5", "r-4", "r-3", "r-2", "r-1", "r-0"]
    assert await ids("--limit", "2") == ["r-5", "r-4"]
    assert await ids("--subject", "s1") == ["r-5", "r-3", "r-1"]
    assert await ids("--action", "UpdateNode") == ["r-3", "r-0"]
    span = ("--since", "2026-01-02T03:04:06Z", "--until", "2026-01-02T03:04:08+00:00")
    assert await ids(*span) == ["r-2", "r-1"]
    assert await ids("--since", "1h") == []
    shown = (await command("audit", "--subject", "s0", "--limit", "1")).out.decode()
    assert "NOT_GRANTED ×5" in shown


async def test_the_client_fetches_all_pages(server: Repository) -> None:
    number = 1005  # more than the largest page
    await add_entries(server, number)
    async with Client(server.address, token=TENANT) as client:
        found = [entry async for entry in client.list_audit()]
    assert [entry.count for entry in found] == list(range(number, 0, -1))
    last = found[-1]
    assert last == AuditEntry(
        START, "s0", "UpdateNode", "node/0", "NOT_GRANTED", "r-0", "10.0.0.1", 1
    )


async def test_a_time_without_a_zone_is_refused(server: Repository) -> None:
    async with Client(server.address, token=TENANT) as client:
        await client.grant_drive(DRIVE, Role.OWNER, subject="ann")
        with pytest.raises(InvalidArgument, match="BAD_TIME"):
            async for _ in client.list_audit(since=datetime(2026, 1, 2)):
                pass


@pytest.mark.parametrize("option", ["--since", "--until"])
async def test_a_wrong_time_is_explained(tmp_path: Path, option: str) -> None:
    outcome = await Command("127.0.0.1:1", tmp_path)("audit", option, "yesterday")
    assert outcome.code == 2
    assert "is no time; write" in " ".join(outcome.err.split())


def test_times_and_ages_are_read() -> None:
    assert moment_of("2026-01-02T03:04:05Z") == START
    assert moment_of("2026-01-02T05:04:05+02:00") == START
    assert moment_of("2026-01-02") == datetime(2026, 1, 2).astimezone(UTC)
    for text, age in {"90s": timedelta(seconds=90), "7d": timedelta(days=7)}.items():
        assert abs(datetime.now(UTC) - age - moment_of(text)) < timedelta(minutes=1)
    for text in ("", "7", "d", "-1d", "999999d", "2026-13-01", "0001-01-01T00:00:00+14:00"):
        with pytest.raises(ValueError, match="is no time"):
            moment_of(text)
