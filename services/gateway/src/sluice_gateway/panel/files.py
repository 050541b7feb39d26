"""The files of the bundle, read once: content, compressed content, type and entity tags."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import PurePosixPath
from typing import Final

import structlog

from sluice_core.errors import Unavailable

INDEX: Final = "index.html"

_MEDIA_TYPES: Final[Mapping[str, str]] = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".map": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
    ".webp": "image/webp",
    ".woff2": "font/woff2",
}
"""Not those of the machine, which may take scripts for plain text."""
_UNKNOWN_TYPE: Final = "application/octet-stream"
_COMPRESSED_TYPES: Final = frozenset({".ico", ".png", ".webp", ".woff2"})
_MIN_COMPRESSED_BYTES: Final = 512
"""Below, the headers of an answer outweigh what compression saves."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Representation:
    """Bytes of a file in one content coding, and their strong entity tag without its quotes."""

    content: bytes
    etag: str


@dataclass(frozen=True, slots=True)
class PanelFile:
    """One file. `compressed`: by gzip; None where that saves nothing."""

    media_type: str
    identity: Representation
    compressed: Representation | None


class PanelFiles:
    """Files of the bundle by their path, such as `/assets/index.js`.

    Lookups compare whole paths with those that were found at the start: a request cannot name any
    other file, whatever is in its path.
    """

    def __init__(self, by_path: Mapping[str, PanelFile]) -> None:
        self._by_path: Final = dict(by_path)

    @property
    def paths(self) -> tuple[str, ...]:
        """Paths of all files but the page itself, which is served under many."""
        return tuple(path for path in self._by_path if path != f"/{INDEX}")

    def find(self, path: str) -> PanelFile | None:
        """Return the file with this path, or None."""
        return self._by_path.get(path)

    def page(self) -> PanelFile:
        """Return the page. Raise `Unavailable` PANEL_MISSING without one."""
        found = self.find(f"/{INDEX}")
        if found is None:
            raise Unavailable(
                "PANEL_MISSING",
                "The pages of the panel are not installed, the API is; install sluice-gateway"
                " again, or build them with `npm run build` in web/ and restart.",
            )
        return found


@cache
def bundled_files() -> PanelFiles:
    """Return the bundle of this package, read and compressed at the first call (about 50 ms)."""
    return read_files(files("sluice_gateway.panel") / "bundle")


def read_files(folder: Traversable) -> PanelFiles:
    """Return the files of a folder and of those below it. It may be missing."""
    found = PanelFiles({path: _panel_file(path, content) for path, content in _walk(folder, "")})
    if found.find(f"/{INDEX}") is None:
        _log.warning("panel.missing", hint="the gateway serves its API without pages")
    return found


def _walk(folder: Traversable, prefix: str) -> Iterator[tuple[str, bytes]]:
    if not folder.is_dir():
        return
    for entry in sorted(folder.iterdir(), key=lambda each: each.name):
        path = f"{prefix}/{entry.name}"
        if entry.is_dir():
            yield from _walk(entry, path)
        else:
            yield path, entry.read_bytes()


def _panel_file(path: str, content: bytes) -> PanelFile:
    suffix = PurePosixPath(path).suffix
    etag = hashlib.blake2b(content, digest_size=12).hexdigest()
    compressed = None
    if suffix not in _COMPRESSED_TYPES and len(content) >= _MIN_COMPRESSED_BYTES:
        smaller = gzip.compress(content, mtime=0)
        if len(smaller) < len(content):
            # Other bytes need another strong tag (RFC 9110, 8.8.3.3).
            compressed = Representation(smaller, f"{etag}-gzip")
    media_type = _MEDIA_TYPES.get(suffix, _UNKNOWN_TYPE)
    return PanelFile(media_type, Representation(content, etag), compressed)
