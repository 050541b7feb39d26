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
    """Show one upload, as it is now."""
    upload = await client.status(upload_id)
    out.result(_record(upload), _paragraph(upload))
    return exits.OK


async def watch(client: Client, out: Output, upload_id: str) -> int:
    """Follow an upload until it has ended. Return 0 only when it is COMPLETED."""
    last = UploadState.UNKNOWN
    async with aclosing(client.watch(upload_id)) as snapshots:
        async for snapshot in snapshots:
            out.result(_record(snapshot), _line(snapshot))
            last = snapshot.state
    return exits.OK if last is UploadState.COMPLETED else exits.SOME_FAILED


async def abort(client: Client, out: Output, upload_id: str) -> int:
    """Abort an upload."""
    ended = await client.abort(upload_id)
    out.result(_record(ended), _line(ended))
    return exits.OK


async def list_uploads(
    client: Client, out: Output, states: list[UploadState], limit: int | None
) -> int:
    """List uploads, newest first."""
    count = 0
    async with aclosing(client.list_uploads(states)) as uploads:
        async for upload in uploads:
            count += 1
            out.result(_record(upload), _line(upload))
            if limit is not None and count >= limit:
                break
    return exits.OK


def _record(upload: UploadStatus) -> dict[str, Any]:
    record = asdict(upload)
    record["missing"] = [[gap.first, gap.last] for gap in upload.missing]
    record["crc32c"] = None if upload.crc32c is None else f"{upload.crc32c:08x}"
    return record


def _line(upload: UploadStatus) -> str:
    whole = "" if upload.expected_size is None else f" of {size_text(upload.expected_size)}"
    line = (
        f"{upload.upload_id}  {upload.state:<10}"
        f"  {size_text(upload.received_bytes)}{whole} received,"
        f" {size_text(upload.stored_bytes)} stored  {upload.drive}:{upload.path}"
    )
    if not upload.failure_reason:
        return line
    return f"{line}  {upload.failure_reason}: {upload.failure_detail}"


def _paragraph(upload: UploadStatus) -> str:
    if not upload.missing or upload.state.terminal:
        return _line(upload)
    shown = ", ".join(
        str(gap.first) if gap.first == gap.last else f"{gap.first}-{gap.last}"
        for gap in upload.missing[:10]
    )
    more = ", …" if len(upload.missing) > 10 or upload.missing_truncated else ""
    return f"{_line(upload)}  missing chunks {shown}{more}"
