"""User actions on running services: uploads and downloads of files, and a photo."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from PIL import Image

from tools.backends.errors import ServiceError
from tools.demo_http import upload_over_http
from tools.demo_photos import DemoFailed
from tools.images.polling import wait_until
from tools.pictures import CORNERS, as_stored, close, corners, quadrants, saved

INTAKE: Final = "127.0.0.1:50051"
REPOSITORY: Final = "127.0.0.1:50052"
GATEWAY: Final = "127.0.0.1:8080"
COMMAND_SECONDS: Final = 300.0
PHOTO_SECONDS: Final = 180.0
ORIENTATION: Final = 6
"""The camera was held upright: width and height are swapped in the file."""


class Traffic:
    """The `sluice` command of this workspace, and files of random bytes in a folder."""

    def __init__(self, folder: Path, drive: str = "files") -> None:
        self.folder = folder
        self.drive = drive
        self._environment = {**os.environ, "SLUICE_STATE_DIR": str(folder / "state")}

    def create_drive(self) -> None:
        self.sluice(REPOSITORY, "drive", "create", self.drive)

    def make_file(self, name: str, size: int) -> Path:
        file = self.folder / name
        file.write_bytes(os.urandom(size))
        return file

    def upload(self, file: Path) -> None:
        self.sluice(INTAKE, "upload", str(file), "--drive", self.drive)

    def start_upload(self, file: Path) -> subprocess.Popen[str]:
        """Start an upload without waiting for it."""
        return subprocess.Popen(
            self._command(INTAKE, "upload", str(file), "--drive", self.drive),
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def finish(self, upload: subprocess.Popen[str]) -> None:
        try:
            output, _ = upload.communicate(timeout=COMMAND_SECONDS)
        except subprocess.TimeoutExpired as error:
            upload.kill()
            raise ServiceError("an upload did not finish") from error
        if upload.returncode != 0:
            raise ServiceError(f"an upload ended with {upload.returncode}:\n{output}")

    def compare(self, file: Path) -> None:
        """Download and compare. Raise `ServiceError` on a difference."""
        back = self.folder / f"{file.name}.back"
        back.unlink(missing_ok=True)
        self.sluice(REPOSITORY, "get", f"{self.drive}:{file.name}", str(back))
        if _digest(back) != _digest(file):
            raise ServiceError(f"{file.name} came back with other bytes")
        back.unlink()

    def photo(self, name: str) -> None:
        """Check that a photo is processed, rotated upright, and has a thumbnail of the same
        picture.
        """
        file = self.folder / name
        exif = Image.Exif()
        exif[0x0112] = ORIENTATION
        file.write_bytes(saved(as_stored(quadrants(), ORIENTATION), "JPEG", exif=exif.tobytes()))
        self.upload(file)
        processing: dict[str, Any] = {}

        def processed() -> bool:
            output = self.sluice(REPOSITORY, "stat", f"{self.drive}:{name}", "--json")
            processing.update(json.loads(output)["processing"] or {})
            return bool(processing)

        wait_until(processed, PHOTO_SECONDS, f"{name} is not processed")
        size = (processing["width"], processing["height"])
        if (
            processing["state"] != "PROCESSED"
            or size != quadrants().size
            or not processing["thumbnails"]
        ):
            raise ServiceError(f"{name} came to {processing}")
        self._compare_thumbnail(name, processing["thumbnails"][0]["size"])

    def photo_over_http(self, name: str) -> None:
        """Check that a photo comes back as a thumbnail by the HTTP API."""
        folder = self.folder / "over-http"
        folder.mkdir(exist_ok=True)
        (folder / name).write_bytes(saved(as_stored(quadrants(), ORIENTATION), "JPEG"))
        try:
            upload_over_http(GATEWAY, folder, finalize=True)
        except DemoFailed as failed:
            raise ServiceError(str(failed)) from None

    def _compare_thumbnail(self, name: str, size: int) -> None:
        folder = self.folder / "thumbnails"
        folder.mkdir(exist_ok=True)
        options = ("--thumbnail", str(size))
        self.sluice(REPOSITORY, "get", f"{self.drive}:{name}", str(folder), *options)
        (file,) = folder.glob(f"{Path(name).stem}-*")
        with Image.open(io.BytesIO(file.read_bytes())) as image:
            if not close(corners(image), CORNERS):
                raise ServiceError(f"the thumbnail of {name} shows something else")
        file.unlink()

    def sluice(self, server: str, *arguments: str) -> str:
        command = self._command(server, *arguments)
        done = subprocess.run(
            command,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_SECONDS,
            check=False,
        )
        if done.returncode != 0:
            raise ServiceError(
                f"sluice {' '.join(arguments)} ended with {done.returncode}: {done.stderr.strip()}"
            )
        return done.stdout

    def _command(self, server: str, *arguments: str) -> Sequence[str]:
        return [sys.executable, "-m", "sluice_client.cli", "--server", server, *arguments]


def _digest(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
