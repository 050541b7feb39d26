"""`sluice quota`: set and show."""

from __future__ import annotations

import re
from dataclasses import asdict
from typing import Final

from sluice_client.cli import exits
from sluice_client.cli.output import Output
from sluice_client.cli.text import size_text
from sluice_client.client import Client
from sluice_client.model import Quota, Usage

_SIZE: Final = re.compile(r"(\d{1,18})([KMGTP]i?B?|B)?", re.IGNORECASE)
_POWERS: Final = " KMGTP"


def parse_size(text: str) -> int:
    """Return the bytes of a size such as 500, 10GiB or 2T; units are powers of 1024.

    Raise `ValueError` for anything else.
    """
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no size; give bytes, or a size such as 500MiB or 2TiB")
    unit = (match[2] or "").upper().rstrip("B").rstrip("I")
    return int(match[1]) << 10 * _POWERS.index(unit or " ")


async def set_limits(client: Client, out: Output, drive: str, quota: Quota) -> int:
    """Set the limits of a drive or of the tenant."""
    _print(out, drive, await client.set_quota(drive, quota))
    return exits.OK


async def show(client: Client, out: Output, drive: str) -> int:
    """Show limits and usage."""
    _print(out, drive, await client.get_usage(drive))
    return exits.OK


def _print(out: Output, drive: str, usage: Usage) -> None:
    quota = usage.quota
    used_bytes = size_text(usage.bytes)
    if usage.reserved_bytes:
        used_bytes += f" + {size_text(usage.reserved_bytes)} reserved"
    lines = (
        ("bytes", used_bytes, size_text(quota.max_bytes) if quota.max_bytes else ""),
        ("nodes", f"{usage.nodes:,}", f"{quota.max_nodes:,}" if quota.max_nodes else ""),
        (
            "open uploads",
            f"{usage.open_uploads:,}",
            f"{quota.max_open_uploads:,}" if quota.max_open_uploads else "",
        ),
    )
    text = "\n".join(f"{name:<14}{used} of {limit or 'no limit'}" for name, used, limit in lines)
    out.result({"drive": drive, **asdict(usage)}, f"{drive or 'the whole tenant'}\n{text}")
