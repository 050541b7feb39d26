"""`sluice ls`, `stat` and `rm`."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sluice_client.cli import exits
from sluice_client.cli.drive_path import DrivePath
from sluice_client.cli.output import Output
from sluice_client.client import Client
from sluice_client.model import Node, Processing, ProcessingState

_LOCATION_NAMES = {"taken_at": "gps_time"}
"""Labels of location facts whose names another fact of the picture has."""


async def ls(client: Client, out: Output, place: DrivePath, limit: int | None) -> int:
    """List nodes under a prefix, by path."""
    count = 0
    async with aclosing(client.list_nodes(place.drive, place.path)) as nodes:
        async for node in nodes:
            if limit is not None and count >= limit:
                break
            count += 1
            record = _node_record(node)
            del record["processing"]  # listings do not include it
            out.result(record, f"{node.size:>14,}  {shown_time(node.updated_at)}  {node.path}")
    return exits.OK


async def stat(client: Client, out: Output, place: DrivePath) -> int:
    """Show one node."""
    node = await client.stat(drive=place.drive, path=place.path)
    record = _node_record(node)
    if out.json_lines:
        out.result(record, "")
        return exits.OK
    del record["processing"]
    for name, value in [*record.items(), *_processing_lines(node.processing)]:
        out.result({}, f"{name:<18}{'-' if value is None else value}")
    return exits.OK


async def rm(client: Client, out: Output, place: DrivePath) -> int:
    """Delete one node."""
    node_id = await client.delete(drive=place.drive, path=place.path)
    out.result(
        {"status": "deleted", "drive": place.drive, "path": place.path, "node_id": node_id},
        f"deleted {place}",
    )
    return exits.OK


def _processing_lines(processing: Processing | None) -> list[tuple[str, object]]:
    """Return the processor's results as lines of text."""
    if processing is None:
        return [("processing", "QUEUED")]
    lines: list[tuple[str, object]] = [
        ("processing", processing.state.value),
        ("found type", processing.content_type),
    ]
    if processing.state is ProcessingState.FAILED:
        lines.append(("reason", f"{processing.reason}: {processing.detail}"))
    if processing.damaged:
        lines.append(
            ("note", "damaged: the file violates its format, but the results shown are complete")
        )
    if processing.width:
        frames = f", {processing.frames} frames" if processing.frames > 1 else ""
        lines.append(("dimensions", f"{processing.width} x {processing.height}{frames}"))
    lines += [(name, value) for name, value in processing.exif.items()]
    if processing.location is not None:
        lines += [
            (_LOCATION_NAMES.get(name, name), processing.location[name])
            for name in processing.location
        ]
    for one in processing.thumbnails:
        picture = f"{one.width} x {one.height}, {one.content_type}, {one.size_bytes:,} bytes"
        lines.append((f"thumbnail {one.size}", picture))
    return lines


def _node_record(node: Node) -> dict[str, Any]:
    record = asdict(node)
    record["crc32c"] = f"{node.crc32c:08x}"
    record["sha256"] = None if node.sha256 is None else node.sha256.hex()
    return record


def shown_time(moment: datetime | None) -> str:
    """Return the time as text."""
    return "-" if moment is None else moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")
