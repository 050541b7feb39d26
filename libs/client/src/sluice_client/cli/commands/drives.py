"""`sluice drive`: create, list, update, delete, grant, revoke and grants."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import asdict
from typing import Any

from sluice_client.cli import exits
from sluice_client.cli.commands.nodes import shown_time
from sluice_client.cli.output import Output
from sluice_client.client import Client
from sluice_client.model import Access, Drive, DrivePolicy, Grant, Role


async def create(
    client: Client, out: Output, name: str, bucket: str, key_prefix: str, policy: DrivePolicy
) -> int:
    """Create a drive."""
    drive = await client.create_drive(name, bucket=bucket, key_prefix=key_prefix, policy=policy)
    out.result(_drive_record(drive), f"created {drive.name}")
    return exits.OK


async def list_all(client: Client, out: Output) -> int:
    """List all drives."""
    async with aclosing(client.list_drives()) as drives:
        async for drive in drives:
            out.result(_drive_record(drive), _drive_line(drive))
    return exits.OK


async def update(client: Client, out: Output, name: str, changes: dict[str, Any]) -> int:
    """Change the policy of a drive."""
    drive = await client.update_drive(name, **changes)
    out.result(_drive_record(drive), _drive_line(drive))
    return exits.OK


async def delete(client: Client, out: Output, name: str) -> int:
    """Delete an empty drive."""
    await client.delete_drive(name)
    out.result({"status": "deleted", "drive": name}, f"deleted {name}")
    return exits.OK


async def grant(
    client: Client, out: Output, name: str, role: Role, subject: str, group: str
) -> int:
    """Give a role."""
    made = await client.grant_drive(name, role, subject=subject, group=group)
    out.result({"drive": name, **asdict(made)}, _grant_line(made))
    return exits.OK


async def revoke(client: Client, out: Output, name: str, subject: str, group: str) -> int:
    """Take a role away."""
    await client.revoke_drive(name, subject=subject, group=group)
    out.result(
        {"status": "revoked", "drive": name, "subject": subject, "group": group},
        f"revoked {subject or group}",
    )
    return exits.OK


async def list_grants(client: Client, out: Output, name: str) -> int:
    """List the grants of a drive."""
    async with aclosing(client.list_grants(name)) as grants:
        async for one in grants:
            out.result({"drive": name, **asdict(one)}, _grant_line(one))
    return exits.OK


def _drive_record(drive: Drive) -> dict[str, Any]:
    return asdict(drive)


def _drive_line(drive: Drive) -> str:
    policy = drive.policy
    mode = "read-only" if policy.read_only else "read-write"
    access = "grants only" if policy.access is Access.GRANTS else "tenant"
    return f"{drive.name:<24}  {mode:<10}  {access:<11}  {policy.integrity:<22}  {drive.bucket}"


def _grant_line(grant: Grant) -> str:
    kind = "group" if grant.group else "subject"
    name = grant.group or grant.subject
    return f"{grant.role:<8}{kind:<9}{shown_time(grant.created_at)}  {name}"
