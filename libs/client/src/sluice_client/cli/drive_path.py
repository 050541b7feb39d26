"""The notation of a node on the command line."""

from __future__ import annotations

from dataclasses import dataclass

from sluice_client.names import is_utf8, normalize_path


@dataclass(frozen=True, slots=True)
class DrivePath:
    """A node as DRIVE:PATH, the path in NFC; the path may be empty where a prefix is accepted."""

    drive: str
    path: str

    @classmethod
    def parse(cls, text: str) -> DrivePath:
        """Parse DRIVE:PATH. Raise ValueError with a sentence for the user."""
        drive, separator, path = text.partition(":")
        if not drive or "/" in drive or not separator:
            raise ValueError(f"{text!r} is not DRIVE:PATH, for example photos:2026/cat.jpg")
        if not is_utf8(text):
            raise ValueError(f"{text!r} is not UTF-8, which the names of drives and nodes are")
        return cls(drive, normalize_path(path.removeprefix("/")))

    def __str__(self) -> str:
        return f"{self.drive}:{self.path}"
