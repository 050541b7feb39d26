"""Load: one job of photos by signed URLs, until all of them are processed.

python -m bench.load.gateway_photos --gateway URL --photos FOLDER
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import uvloop

from bench.load.chunk_sender import LoadFailedError
from bench.load.gateway_client import ENDS, Gateway, gateway
from bench.load.lifecycle import await_start, report

_SENDING: Final = 10
"""Photos in flight, as many as a browser and an app send together."""
_POLL_SECONDS: Final = 0.5
_LIMIT_SECONDS: Final = 600.0
TAKEN_AT: Final = "2024-05-06T07:08:09"
"""EXIF of the photos (bench/load/photos.py)."""


async def _send_all(user: Gateway, contents: Sequence[bytes], job: Any) -> None:
    room = asyncio.Semaphore(_SENDING)

    async def send(item: Any, content: bytes) -> None:
        async with room:
            await user.send(item, content)

    async with asyncio.TaskGroup() as group:
        for item, content in zip(job["items"], contents, strict=True):
            group.create_task(send(item, content))


async def ended(user: Gateway, job_id: str) -> str:
    """Poll the job with its ETag until it has ended; return its status."""
    path, etag = f"/queries/upload-jobs/{job_id}", ""
    deadline = time.monotonic() + _LIMIT_SECONDS
    while time.monotonic() < deadline:
        known = {"if-none-match": etag} if etag else {}
        answer = await user.call("GET", path, **known)
        if answer.status == 200:
            etag = answer.etag
            if (status := str(answer.json["status"])) in ENDS:
                return status
        elif answer.status != 304:
            raise LoadFailedError(f"GET {path}: {answer.status} {answer.json}")
        await asyncio.sleep(_POLL_SECONDS)
    raise LoadFailedError(f"the job has not ended after {_LIMIT_SECONDS:g} s")


async def _fault(user: Gateway, photo_id: str) -> str | None:
    """Return what a photo lacks, or None when it is COMPLETED with thumbnails and EXIF."""
    photo = await user.ok("GET", f"/queries/photos/{photo_id}")
    if photo["status"] != "COMPLETED":
        return f"{photo['status']} {photo['reason']}"
    if not (photo["takenAt"] or "").startswith(TAKEN_AT) or not photo["exif"]:
        return "without EXIF"
    if not photo["thumbnails"]:
        return "without thumbnails"
    for thumbnail in photo["thumbnails"]:
        async with user.http.get(thumbnail["url"]) as answer:
            if answer.status != 200 or not await answer.read():
                return f"thumbnail {thumbnail['size']} is {answer.status}"
    return None


async def faults(base: str, token: str, job_id: str) -> Counter[str]:
    """Return what the photos of a job lack; empty when all are COMPLETED with thumbnails and EXIF.

    Args:
        base: URL of the API.
        token: of the owner.
    """
    async with gateway(base) as anybody:
        user = Gateway(anybody.http, base, token)
        job = await user.ok("GET", f"/queries/upload-jobs/{job_id}")
        found = [await _fault(user, photo["photoId"]) for photo in job["photos"]]
    return Counter(fault for fault in found if fault is not None)


async def run(options: argparse.Namespace) -> None:
    """Print the seconds from the creation of the job to its end as the API shows it."""
    contents = [path.read_bytes() for path in sorted(options.photos.iterdir())]
    async with gateway(options.gateway) as anybody:
        user = await anybody.registered()
        await await_start()
        cpu, begun = time.process_time(), time.perf_counter()
        job = await user.create_job([len(content) for content in contents])
        await _send_all(user, contents, job)
        sent = time.perf_counter() - begun
        status = await ended(user, job["jobId"])
        figures = {
            "photos": len(contents),
            "bytes": sum(map(len, contents)),
            "job": job["jobId"],
            "token": user.token,
            "status": status,
            "sent_seconds": sent,
            "seconds": time.perf_counter() - begun,
            "cpu_seconds": time.process_time() - cpu,
        }
        await report(figures, linger=True)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gateway", required=True, help="URL of the API")
    parser.add_argument("--photos", type=Path, required=True, help="folder")
    parser.add_argument("--in-step", action="store_true", help="always; for bench.processes")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    uvloop.run(run(parse()))
