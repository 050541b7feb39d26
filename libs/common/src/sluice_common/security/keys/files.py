"""Keys in a file, read again when it changes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

from sluice_common.security.keys.key_ring import KeyRing, UnusableKeys
from sluice_common.security.keys.refreshing import LoadedKeys

MAX_KEY_BYTES: Final = 256 * 1024
"""Largest document of keys: parsing it takes a few milliseconds."""


class FileKeys:
    """Loader of keys from a file.

    The content is compared, not the time of the last change: a mounted file is replaced by renaming
    a link, and may keep its time.

    Args:
        parse: returns the keys of a content; raises `UnusableKeys`.
    """

    retry_seconds = 5.0
    unknown_key_seconds = 1.0
    poll_seconds = 5.0

    def __init__(self, path: Path, parse: Callable[[bytes], KeyRing]) -> None:
        self._path = path
        self._parse = parse
        self._content: bytes | None = None
        self._keys: KeyRing | None = None
        self._reading: asyncio.Future[LoadedKeys] | None = None

    async def load(self) -> LoadedKeys:
        """Return the keys of the file. Raise `UnusableKeys`."""
        # A thread: a mounted file may be on a network. One at a time: while that does not answer,
        # further ones would use up the threads of the process.
        if self._reading is None or self._reading.done():
            self._reading = asyncio.get_running_loop().run_in_executor(None, self._load)
            # Its waiter may have given up: without this, asyncio logs a late error as lost.
            self._reading.add_done_callback(_retrieve_exception)
        return await asyncio.shield(self._reading)

    def _load(self) -> LoadedKeys:
        try:
            with self._path.open("rb") as file:
                content = file.read(MAX_KEY_BYTES + 1)
        except OSError as error:
            raise UnusableKeys(f"{self._path} cannot be read: {error.strerror}") from None
        if len(content) > MAX_KEY_BYTES:
            raise UnusableKeys(f"{self._path} is larger than {MAX_KEY_BYTES} bytes")
        if self._keys is None or content != self._content:
            try:
                self._keys = self._parse(content)
            except UnusableKeys as error:
                raise UnusableKeys(f"{self._path}: {error}") from None
            self._content = content
        return LoadedKeys(self._keys, self.poll_seconds)


def _retrieve_exception(reading: asyncio.Future[LoadedKeys]) -> None:
    if not reading.cancelled():
        reading.exception()
