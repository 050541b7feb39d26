"""`sluice status`, `watch`, `abort` and `uploads`."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import asdict
from typing import Any

from sluice_client.cli import exits
from sluice_client.cli.output import Output
from sluice_client.cli.text import size_text
from sluice_client.client import Client
from sluice_client.model import UploadState, UploadStatus


async def status(client: Client, out: Output, upload_id: str) -> int:
    """One upload, as it is now."""
    found = await client.status(upload_id)
    out.result(_record(found), _paragraph(found))
    return exits.OK


async def watch(client: Client, out: Output, upload_id: str) -> int:
    """An upload until it has ended; 0 only when it is COMPLETED."""
    last = UploadState.UNKNOWN
    async with aclosing(client.watch(upload_id)) as snapshots:
        async for snapshot in snapshots:
            out.result(_record(snapshot), _line(snapshot))
            last = snapshot.state
    return exits.OK if last is UploadState.COMPLETED else exits.SOME_FAILED


async def abort(client: Client, out: Output, upload_id: str) -> int:
    """End an upload."""
    ended = await client.abort(upload_id)
    out.result(_record(ended), _line(ended))
    return exits.OK


async def list_uploads(
    client: Client, out: Output, states: list[UploadState], limit: int | None
) -> int:
    """Uploads, newest first."""
    count = 0
    async with aclosing(client.list_uploads(states)) as uploads:
        async for upload in uploads:
            count += 1
            out.result(_record(upload), _line(upload))
            if limit is not None and count >= limit:
                break
    return exits.OK


def _record(found: UploadStatus) -> dict[str, Any]:
    record = asdict(found)
    record["missing"] = [[gap.first, gap.last] for gap in found.missing]
    record["crc32c"] = None if found.crc32c is None else f"{found.crc32c:08x}"
    return record


def _line(found: UploadStatus) -> str:
    whole = "" if found.expected_size is None else f" of {size_text(found.expected_size)}"
    line = (
        f"{found.upload_id}  {found.state:<10}  {size_text(found.received_bytes)}{whole} received,"
        f" {size_text(found.stored_bytes)} stored  {found.drive}:{found.path}"
    )
    if not found.failure_reason:
        return line
    return f"{line}  {found.failure_reason}: {found.failure_detail}"


def _paragraph(found: UploadStatus) -> str:
    if not found.missing or found.state.terminal:
        return _line(found)
    shown = ", ".join(
        str(gap.first) if gap.first == gap.last else f"{gap.first}-{gap.last}"
        for gap in found.missing[:10]
    )
    more = ", …" if len(found.missing) > 10 or found.missing_truncated else ""
    return f"{_line(found)}  missing chunks {shown}{more}"
