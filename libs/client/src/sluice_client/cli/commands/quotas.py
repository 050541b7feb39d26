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

_SIZE: Final = re.compile(r"([0-9]{1,18})([KMGTP]i?B?|B)?", re.IGNORECASE)
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
    reserved = f" (and {size_text(usage.reserved_bytes)} reserved)" if usage.reserved_bytes else ""
    parts = (
        f"{size_text(usage.bytes)}{reserved}{_of(quota.max_bytes, size_text(quota.max_bytes))}",
        f"{usage.nodes:,}{_of(quota.max_nodes, f'{quota.max_nodes:,}')} nodes",
        f"{usage.open_uploads:,}{_of(quota.max_open_uploads, f'{quota.max_open_uploads:,}')}"
        " open uploads",
    )
    out.result({"drive": drive, **asdict(usage)}, f"{drive or 'tenant':<24}  {', '.join(parts)}")


def _of(limit: int, text: str) -> str:
    return f" of {text}" if limit else ""
