"""`sluice audit`: the audit log of the tenant."""

from __future__ import annotations

import re
from contextlib import aclosing
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Final

from sluice_client.cli import exits
from sluice_client.cli.commands.nodes import shown_time
from sluice_client.cli.output import Output
from sluice_client.client import Client
from sluice_client.model import AuditEntry

_AGE: Final = re.compile(r"([0-9]{1,5})([smhd])")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def moment_of(text: str) -> datetime:
    """Return a time in ISO 8601, local unless it has a zone, or an age such as `24h` or `7d`.

    Raise ValueError for any other text.
    """
    age = _AGE.fullmatch(text)
    try:
        if age is not None:
            return datetime.now(UTC) - timedelta(**{_UNITS[age[2]]: int(age[1])})
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(
            f"{text!r} is no time; write 2026-11-30, 2026-11-30T08:00:00Z, 24h or 7d"
        ) from None


async def list_entries(
    client: Client,
    out: Output,
    since: datetime | None,
    until: datetime | None,
    subject: str,
    action: str,
    limit: int | None,
) -> int:
    """List entries, newest first."""
    count = 0
    entries = client.list_audit(since=since, until=until, subject=subject, action=action)
    async with aclosing(entries):
        async for entry in entries:
            count += 1
            out.result(asdict(entry), _line(entry))
            if limit is not None and count >= limit:
                break
    return exits.OK


def _line(entry: AuditEntry) -> str:
    times = f" ×{entry.count}" if entry.count > 1 else ""
    return (
        f"{shown_time(entry.time)}  {entry.outcome + times:<18}  {entry.action:<14}"
        f"  {entry.subject}  {entry.object}  {entry.peer}".rstrip()
    )
