"""`sluice drive` and the SDK's methods for drives, against a real repository."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sluice_client import (
    Access,
    Client,
    DrivePolicy,
    FailedPrecondition,
    Integrity,
    InvalidArgument,
    NotFound,
    Role,
)
from support.command import Command
from support.commits import DRIVE, TENANT
from support.repository import Repository, running_repository


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Repository]:
    async with running_repository(tmp_path) as running:
        yield running


@pytest.fixture
async def command(server: Repository, tmp_path: Path) -> Command:
    made = Command(server.address, tmp_path)
    made.environment["SLUICE_TOKEN"] = TENANT
    return made


@pytest.fixture
async def connected(server: Repository) -> AsyncIterator[Client]:
    async with Client(server.address, token=TENANT) as client:
        yield client


async def test_roles_are_granted_listed_and_revoked(command: Command) -> None:
    granted = await command("drive", "grant", DRIVE, "--group", "staff", "--role", "writer")
    assert granted.code == 0, granted.err
    assert granted.out.split()[:2] == [b"writer", b"group"]
    again = await command("drive", "grant", DRIVE, "--subject", "ann", "--role", "owner", "--json")
    assert (again.lines[0]["subject"], again.lines[0]["role"]) == ("ann", "owner")
    listed = (await command("drive", "grants", DRIVE, "--json")).lines
    assert [(one["group"], one["subject"], one["role"]) for one in listed] == [
        ("staff", "", "writer"),
        ("", "ann", "owner"),
    ]
    revoked = await command("drive", "revoke", DRIVE, "--group", "staff", "--json")
    assert revoked.lines == [{"status": "revoked", "drive": DRIVE, "subject": "", "group": "staff"}]
    text = (await command("drive", "grants", DRIVE)).out
    assert text.split()[:2] == [b"owner", b"subject"]
    assert text.split()[-1] == b"ann"


async def test_a_drive_is_closed_and_opened(command: Command, server: Repository) -> None:
    created = await command("drive", "create", "closed", "--access", "grants", "--json")
    assert created.lines[0]["policy"]["access"] == "grants"
    opened = await command("drive", "update", "closed", "--access", "tenant", "--read-only")
    assert opened.code == 0, opened.err
    policy = (await server.catalogue.get_drive(TENANT, "closed")).policy
    assert (policy.access, policy.read_only) == ("tenant", True)
    lines = (await command("drive", "list")).out.splitlines()
    assert [line.split()[:3] for line in lines] == [
        [b"closed", b"read-only", b"tenant"],
        [b"photos", b"read-write", b"tenant"],
    ]


async def test_an_empty_drive_is_deleted(command: Command, server: Repository) -> None:
    commit = await server.store("a")
    refused = await command("drive", "delete", DRIVE)
    assert refused.code == 1
    assert "DRIVE_NOT_EMPTY" in refused.err
    await server.catalogue.delete_node(TENANT, commit.node_id)
    assert (await command("drive", "delete", DRIVE, "--json")).lines == [
        {"status": "deleted", "drive": DRIVE}
    ]
    gone = await command("drive", "delete", DRIVE)
    assert "DRIVE_NOT_FOUND" in gone.err


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["grant", DRIVE, "--role", "reader"], "--subject or --group"),
        (
            ["grant", DRIVE, "--role", "reader", "--subject", "a", "--group", "b"],
            "--subject or --group",
        ),
        (["grant", DRIVE, "--subject", "a", "--role", "boss"], "reader, writer, owner"),
        (["grant", DRIVE, "--subject", "a", "--role", "unknown"], "reader, writer, owner"),
        (["revoke", DRIVE], "--subject or --group"),
        (["update", DRIVE], "nothing to change"),
        (["delete", "a/b"], "not a drive name"),
    ],
)
async def test_wrong_usage_is_explained(
    tmp_path: Path, arguments: list[str], complaint: str
) -> None:
    outcome = await Command("127.0.0.1:1", tmp_path)("drive", *arguments)
    assert outcome.code == 2
    assert complaint in " ".join(outcome.err.split())


async def test_the_sdk_changes_only_the_given_fields(connected: Client) -> None:
    made = await connected.create_drive("d", policy=DrivePolicy(integrity=Integrity.CRC))
    assert made.policy.access is Access.TENANT
    changed = await connected.update_drive("d", access=Access.GRANTS)
    assert changed.policy == DrivePolicy(integrity=Integrity.CRC, access=Access.GRANTS)
    with pytest.raises(TypeError, match="colour"):
        await connected.update_drive("d", colour="red")
    with pytest.raises(InvalidArgument, match="NO_CHANGES"):
        await connected.update_drive("d")


async def test_the_sdk_manages_grants(connected: Client) -> None:
    for number in range(3):
        made = await connected.grant_drive(DRIVE, Role.READER, subject=f"s{number}")
        assert (made.subject, made.group, made.role) == (f"s{number}", "", Role.READER)
        assert made.created_at is not None
    await connected.grant_drive(DRIVE, Role.OWNER, subject="s1")
    await connected.revoke_drive(DRIVE, subject="s0")
    await connected.revoke_drive(DRIVE, subject="s0")
    roles = [(one.subject, one.role) async for one in connected.list_grants(DRIVE)]
    assert roles == [("s1", Role.OWNER), ("s2", Role.READER)]
    for names in ({}, {"subject": "a", "group": "b"}):
        with pytest.raises(InvalidArgument, match="BAD_GRANTEE"):
            await connected.revoke_drive(DRIVE, **names)
    with pytest.raises(InvalidArgument, match="BAD_ROLE"):
        await connected.grant_drive(DRIVE, Role.UNKNOWN, subject="a")


async def test_the_sdk_deletes_an_empty_drive(connected: Client, server: Repository) -> None:
    commit = await server.store("a")
    with pytest.raises(FailedPrecondition, match="DRIVE_NOT_EMPTY"):
        await connected.delete_drive(DRIVE)
    await connected.delete(node_id=commit.node_id)
    await connected.delete_drive(DRIVE)
    with pytest.raises(NotFound, match="DRIVE_NOT_FOUND"):
        await connected.get_drive(DRIVE)
