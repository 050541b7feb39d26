"""Password hashes: Argon2id, off the event loop, with bounded concurrency."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Final, Protocol, TypeVar

from cryptography.exceptions import InvalidKey
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from sluice_core.errors import Unavailable

T = TypeVar("T")

MEMORY_KIB: Final = 19 * 1024
ITERATIONS: Final = 2
LANES: Final = 1
"""The parameters that OWASP's Password Storage Cheat Sheet recommends: about 40 ms of one core."""

_SALT_BYTES: Final = 16
_HASH_BYTES: Final = 32
_WORKERS: Final = 2
_MAX_WAITING: Final = 64
"""Checks that may wait, for about two seconds at most; each needs 19 MiB only while it runs."""


class Durations(Protocol):
    def observe(self, amount: float) -> None: ...


class Passwords:
    """Hashes and verifies passwords; close it after its last use.

    The library releases the GIL while it hashes.
    """

    def __init__(self, durations: Durations) -> None:
        self._durations = durations
        self._executor = ThreadPoolExecutor(_WORKERS, thread_name_prefix="passwords")
        self._pending = 0
        self._decoy = _decoy()

    def close(self) -> None:
        """Wait for hashes in progress; drop those that have not begun. Blocking."""
        self._executor.shutdown(cancel_futures=True)

    async def hash(self, password: bytes) -> str:
        """Return the hash in PHC form, with a new salt. Raise `Unavailable` LOGIN_BUSY."""
        return await self._run(lambda: _hash(password))

    async def verify(self, password: bytes, password_hash: str | None) -> bool:
        """Return whether the hash is of this password; never for None, at the same cost.

        Raise `Unavailable` LOGIN_BUSY.
        """
        checked = self._decoy if password_hash is None else password_hash
        is_right = await self._run(lambda: _verify(password, checked))
        return is_right and password_hash is not None

    async def _run(self, work: Callable[[], T]) -> T:
        if self._pending >= _MAX_WAITING + _WORKERS:
            raise Unavailable(
                "LOGIN_BUSY", "Too many log-ins at once; try again.", retry_after_seconds=1.0
            )
        began = time.perf_counter()
        self._pending += 1
        future = self._executor.submit(work)
        # The thread goes on when the caller has disconnected, and counts until it is done.
        loop = asyncio.get_running_loop()
        future.add_done_callback(lambda _: _call_soon(loop, self._finished))
        try:
            return await asyncio.wrap_future(future)
        finally:
            self._durations.observe(time.perf_counter() - began)

    def _finished(self) -> None:
        self._pending -= 1


def _call_soon(loop: asyncio.AbstractEventLoop, call: Callable[[], None]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(call)


@cache
def _decoy() -> str:
    """Return a hash for unknown accounts: verifying it costs as much as verifying a real one."""
    return _hash(os.urandom(_HASH_BYTES))


def _hash(password: bytes) -> str:
    return str(_argon2(os.urandom(_SALT_BYTES)).derive_phc_encoded(password))


def _verify(password: bytes, password_hash: str) -> bool:
    try:
        Argon2id.verify_phc_encoded(password, password_hash)
    except InvalidKey:
        return False
    return True


def _argon2(salt: bytes) -> Argon2id:
    return Argon2id(
        salt=salt, length=_HASH_BYTES, iterations=ITERATIONS, lanes=LANES, memory_cost=MEMORY_KIB
    )
