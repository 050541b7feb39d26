"""Keys of signed URLs in a file, replaced regularly."""

from __future__ import annotations

import asyncio
import json
import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sluice_backends.disk import (
    make_directories,
    sync_directory,
    unlink_quietly,
    write_whole,
)
from sluice_backends.files.signed_urls import MAX_LIFETIME_SECONDS, UrlKey
from sluice_core.configuration import ConfigurationError

ROTATION_SECONDS: Final = 30 * 24 * 3600.0
_SECRET_BYTES: Final = 32
_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class _StoredKey:
    key: UrlKey
    created_at: float
    """Unix seconds."""


class UrlKeyFile:
    """`UrlKeys` of one process in a file that only its user can read.

    URLs stay valid across a restart. A key that was replaced verifies for another
    MAX_LIFETIME_SECONDS and is then removed. To revoke all URLs at once, stop the server and
    delete the file. Create it with `open_url_keys`.
    """

    def __init__(
        self, path: Path, keys: Sequence[_StoredKey], clock: Callable[[], float], rotation: float
    ) -> None:
        self._path = path
        self._keys = tuple(keys)  # in the order of their creation
        self._clock = clock
        self._rotation_seconds = rotation
        self._rotating = asyncio.Lock()

    async def signing_key(self) -> UrlKey:
        if self._is_due():
            async with self._rotating:
                if self._is_due():
                    await self.rotate()
        return self._keys[-1].key

    def find(self, key_id: str) -> UrlKey | None:
        now = self._clock()
        for stored in _usable(self._keys, now):
            if stored.key.key_id == key_id:
                return stored.key
        return None

    async def rotate(self) -> None:
        """Replace the signing key."""
        now = self._clock()
        keys = (*_usable(self._keys, now), _new_key(now))
        # Written first: a URL of a key that a crash forgets would be worthless.
        await asyncio.to_thread(_write, self._path, keys)
        self._keys = keys

    def _is_due(self) -> bool:
        return self._clock() - self._keys[-1].created_at >= self._rotation_seconds


async def open_url_keys(
    path: Path,
    *,
    clock: Callable[[], float] = time.time,
    rotation_seconds: float = ROTATION_SECONDS,
) -> UrlKeyFile:
    """Return the keys in the file; make the first one if there is no file.

    Raise `ConfigurationError` if the file cannot be used.
    """
    try:
        keys = await asyncio.to_thread(_load, path, clock())
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be used: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise ConfigurationError(
            f"{path} holds no keys of URLs; delete it to make new ones, and the URLs that were "
            "issued become invalid"
        ) from None
    return UrlKeyFile(path, keys, clock, rotation_seconds)


def _usable(keys: Sequence[_StoredKey], now: float) -> tuple[_StoredKey, ...]:
    """Return the newest key, and those replaced so recently that their URLs may live."""
    return tuple(
        stored
        for n, stored in enumerate(keys, 1)
        if n == len(keys) or now < keys[n].created_at + MAX_LIFETIME_SECONDS
    )


def _new_key(now: float) -> _StoredKey:
    return _StoredKey(UrlKey(secrets.token_hex(8), secrets.token_bytes(_SECRET_BYTES)), now)


def _load(path: Path, now: float) -> tuple[_StoredKey, ...]:
    try:
        stored: Any = json.loads(path.read_bytes())
    except FileNotFoundError:
        keys: tuple[_StoredKey, ...] = (_new_key(now),)
        make_directories(path.parent, fsync=True)
        _write(path, keys)
        return keys
    if stored["format"] != _FORMAT:
        raise ValueError(stored["format"])
    keys = tuple(
        _StoredKey(UrlKey(str(one["id"]), bytes.fromhex(one["secret"])), float(one["created_at"]))
        for one in stored["keys"]
    )
    if not keys or any(len(one.key.secret) < _SECRET_BYTES for one in keys):
        raise ValueError("no key, or a short one")
    return keys


def _write(path: Path, keys: Sequence[_StoredKey]) -> None:
    """Replace the file in one step."""
    content = {
        "format": _FORMAT,
        "keys": [
            {
                "id": one.key.key_id,
                "secret": one.key.secret.hex(),
                "created_at": one.created_at,
            }
            for one in keys
        ],
    }
    temporary = path.with_name(f"{path.name}.new")
    unlink_quietly(temporary)  # of a killed process
    write_whole(temporary, json.dumps(content).encode(), fsync=True)
    temporary.rename(path)
    sync_directory(path.parent)
