"""Updates as the JSON that clients get, the same by STOMP and by server-sent events."""

from __future__ import annotations

import json

from sluice_core.live.updates import Update


def update_message(update: Update, sequence: int) -> dict[str, str | int | None]:
    """Return the fields of an update; `photoId` is null when it is about the job itself.

    Args:
        sequence: what the client may resume after; 0 if it may not resume from here.
    """
    return {
        "jobId": update.job_id,
        "photoId": update.photo_id or None,
        "status": update.status,
        "progress": update.progress,
        "sequence": sequence,
        "bytesSent": update.bytes_sent,
        "bytesTotal": update.bytes_total,
        "reason": update.reason or None,
    }


def to_json(message: object) -> bytes:
    """Return compact UTF-8 JSON. It holds no line ends, so it fits a line of an event stream."""
    return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()
