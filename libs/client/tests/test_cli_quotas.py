"""`sluice quota` and the SDK's methods for quotas, against a real repository."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sluice_client import Client, Quota, ResourceExhausted, Usage
from sluice_client.cli import exits
from sluice_client.cli.commands.quotas import parse_size
from support.command import Command
from support.commits import DRIVE, TENANT
from support.repository import Repository, running_repository

GIB = 1024**3


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Repository]:
    async with running_repository(tmp_path) as running:
        yield running


@pytest.fixture
async def command(server: Repository, tmp_path: Path) -> Command:
    made = Command(server.address, tmp_path)
    made.environment["SLUICE_TOKEN"] = TENANT
    return made


async def test_limits_are_set_shown_and_removed(command: Command, server: Repository) -> None:
    await server.store("a", b"12345")
    made = await command("quota", "set", DRIVE, "--max-bytes", "2GiB", "--max-nodes", "7", "--json")
    assert made.code == 0, made.err
    assert made.lines == [
        {
            "drive": DRIVE,
            "quota": {"max_bytes": 2 * GIB, "max_nodes": 7, "max_open_uploads": 0},
            "bytes": 5,
            "nodes": 1,
            "reserved_bytes": 0,
            "open_uploads": 0,
        }
    ]
    await server.catalogue.reserve(TENANT, DRIVE, "u", 2048)
    shown = (await command("quota", "show", DRIVE)).out.decode()
    assert shown.split(maxsplit=1)[0] == DRIVE
    assert shown.split(maxsplit=1)[1] == (
        "5 B (and 2 KiB reserved) of 2 GiB, 1 of 7 nodes, 1 open uploads\n"
    )
    removed = await command("quota", "set", DRIVE)
    assert removed.code == 0, removed.err
    assert not (await server.catalogue.get_drive(TENANT, DRIVE)).has_quota


async def test_tenant_has_limits_of_its_own(command: Command) -> None:
    made = await command("quota", "set", "--tenant", "--max-open-uploads", "3", "--json")
    assert made.lines[0]["quota"]["max_open_uploads"] == 3
    shown = await command("quota", "show", "--tenant", "--json")
    assert (shown.lines[0]["drive"], shown.lines[0]["quota"]["max_open_uploads"]) == ("", 3)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["set"], "or --tenant"),
        (["set", DRIVE, "--tenant"], "or --tenant"),
        (["show"], "or --tenant"),
        (["set", DRIVE, "--max-bytes", "many"], "is no size"),
        (["set", DRIVE, "--max-nodes", "-1"], "max-nodes"),
        (["show", "a/b"], "not a drive name"),
    ],
)
async def test_wrong_usage_is_explained(
    tmp_path: Path, arguments: list[str], complaint: str
) -> None:
    outcome = await Command("127.0.0.1:1", tmp_path)("quota", *arguments)
    assert outcome.code == 2
    assert complaint in " ".join(outcome.err.split())


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("500", 500), ("3B", 3), ("2k", 2048), ("1KiB", 1024), ("5GB", 5 * GIB)],
)
def test_sizes_are_parsed(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "-1", "1.5G", "G", "1 X", "1e9", "٣"])
def test_other_texts_are_no_sizes(text: str) -> None:
    with pytest.raises(ValueError, match="is no size"):
        parse_size(text)


async def test_the_sdk_sets_and_gets_quotas(server: Repository) -> None:
    async with Client(server.address, token=TENANT) as client:
        quota = Quota(max_bytes=10, max_nodes=2, max_open_uploads=1)
        for _ in range(2):
            assert await client.set_quota(DRIVE, quota) == Usage(quota, 0, 0, 0, 0)
        assert await client.get_usage() == Usage(Quota(), 0, 0, 0, 0)
        assert await client.get_usage(DRIVE) == Usage(quota, 0, 0, 0, 0)


def test_exceeded_quota_is_not_retried_and_explained() -> None:
    error = ResourceExhausted("QUOTA_EXCEEDED", "The quota of the drive is 5 bytes.")
    assert not error.retryable
    assert exits.exit_code(error) == exits.SOME_FAILED
    assert "sluice quota show" in exits.explain(error)
