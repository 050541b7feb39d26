"""The photos of `make demo` over HTTP: signed URLs, as browsers and phones send them."""

from __future__ import annotations

import io
import json
import secrets
import time
import urllib.request
from pathlib import Path
from typing import Any, Final

from PIL import Image

from tools.demo_photos import DemoFailed

TYPES: Final = {".jpeg": "image/jpeg", ".jpg": "image/jpeg", ".png": "image/png"}
MAX_BYTES: Final = 5 * 1024 * 1024
"""Larger photos go up in parts."""
MAX_PHOTOS: Final = 20
SECONDS: Final = 120.0
_TIMEOUT: Final = 60


class Api:
    """The HTTP API with the session of a new user."""

    def __init__(self, gateway: str) -> None:
        self._base = f"http://{gateway}"
        self._headers: dict[str, str] = {}
        credentials = {
            "email": f"{secrets.token_hex(8)}@example.com",
            "password": secrets.token_urlsafe(16),
        }
        session = self.call("POST", "/api/auth/register", credentials)
        self._headers["authorization"] = f"Bearer {session['token']}"

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Send JSON and return the JSON of the answer."""
        headers = {**self._headers, "content-type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._base + path, data, headers, method=method)
        with urllib.request.urlopen(request, timeout=_TIMEOUT) as answer:
            return json.load(answer)


def upload_over_http(gateway: str, folder: Path, *, finalize: bool = False) -> int:
    """Put photos of a folder to signed URLs and look at the thumbnails; return how many.

    Args:
        finalize: for a store that notifies nobody.

    Raise `DemoFailed` if one of them is not completed.
    """
    files = [
        path
        for path in sorted(folder.iterdir())
        if path.suffix in TYPES and path.stat().st_size <= MAX_BYTES
    ][:MAX_PHOTOS]
    api = Api(gateway)
    wanted = [
        {"filename": path.name, "mimeType": TYPES[path.suffix], "bytes": path.stat().st_size}
        for path in files
    ]
    job = api.call("POST", "/commands/upload-jobs", {"files": wanted})
    for path, item in zip(files, job["items"], strict=True):
        request = urllib.request.Request(
            item["presignedUrl"], path.read_bytes(), item["headers"], method="PUT"
        )
        urllib.request.urlopen(request, timeout=_TIMEOUT).close()
        if finalize:
            api.call("POST", f"/commands/upload/{item['photoId']}/finalize")
    status = _ended(api, job["jobId"])
    if status != "COMPLETED":
        raise DemoFailed(f"the job over HTTP is {status}")
    for item in job["items"]:
        link = api.call("GET", f"/queries/photos/{item['photoId']}/download-url?variant=256")
        with urllib.request.urlopen(link["url"], timeout=_TIMEOUT) as answer:
            size = Image.open(io.BytesIO(answer.read())).size
        if max(size) > 256:
            raise DemoFailed(f"a thumbnail of {item['filename']} has {size} pixels")
    return len(files)


def _ended(api: Api, job_id: str) -> str:
    """Poll a job until its end; return its status."""
    deadline = time.monotonic() + SECONDS
    while True:
        status: str = api.call("GET", f"/queries/upload-jobs/{job_id}")["status"]
        if status not in ("QUEUED", "IN_PROGRESS") or time.monotonic() > deadline:
            return status
        time.sleep(0.2)
