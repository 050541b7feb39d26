"""The file with the signing keys, which the replicas of a gateway share."""

from __future__ import annotations

import asyncio
import fcntl
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Final

import structlog

from sluice_common.security.keys.files import MAX_KEY_BYTES
from sluice_common.security.keys.key_ring import KeyRing, UnusableKeys
from sluice_core.configuration import ConfigurationError
from sluice_core.errors import Unavailable
from sluice_gateway.auth.signing_keys import (
    RotationPolicy,
    SigningKey,
    from_bytes,
    is_rotation_due,
    key_ring,
    public_keys,
    rotated,
    signing_key,
    to_bytes,
)
from sluice_gateway.metrics import AccountMetrics

SETTING: Final = "SLUICE_GATEWAY__KEYS_FILE"
CHECK_SECONDS: Final = 5.0
_RETRY_SECONDS: Final = 1.0

_log = structlog.get_logger(__name__)


class KeyFile:
    """Reads, makes and rotates the keys. Blocking; every method may be called from any thread.

    Processes that rotate at once exclude each other by a lock, so that the file never loses a key
    that one of them signs with. A reader needs no lock: the file is replaced as a whole.
    """

    def __init__(self, path: Path, policy: RotationPolicy) -> None:
        self._path = path
        self._policy = policy
        self._last_read: tuple[bytes, tuple[SigningKey, ...]] = (b"", ())

    def read(self) -> tuple[SigningKey, ...]:
        """Return the keys; none if there is no file. Raise `UnusableKeys`.

        Importing private keys takes long and holds the interpreter's lock: 40 ms for one of RSA.
        So the same content is imported once.
        """
        try:
            with self._path.open("rb") as file:
                content = file.read(MAX_KEY_BYTES + 1)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise UnusableKeys(f"{self._path} cannot be read: {error.strerror}") from None
        if len(content) > MAX_KEY_BYTES:
            raise UnusableKeys(f"{self._path} is larger than {MAX_KEY_BYTES} bytes")
        known, keys = self._last_read
        if content == known:
            return keys
        try:
            keys = from_bytes(content)
        except UnusableKeys as error:
            raise UnusableKeys(f"{self._path}: {error}") from None
        self._last_read = (content, keys)
        return keys

    def rotate(self, now: float) -> tuple[SigningKey, ...]:
        """Do what is due and return the keys.

        Raise `UnusableKeys` for a damaged file, OSError if it cannot be written.
        """
        found = self.read()
        if not is_rotation_due(found, self._policy, now):
            return found
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with self._locked():
            # Another process may have rotated while this one waited.
            found = self.read()
            if not is_rotation_due(found, self._policy, now):
                return found
            wanted = rotated(found, self._policy, now)
            self._write(wanted)
        return wanted

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = os.open(
            self._path.with_name(f"{self._path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600
        )
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _write(self, keys: Sequence[SigningKey]) -> None:
        """Replace the file atomically and durably; only its owner may read it."""
        draft = self._path.with_name(f"{self._path.name}.new")
        draft.unlink(missing_ok=True)  # of a killed process
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(to_bytes(keys))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


class SigningKeys:
    """The keys of this process, kept up to date; also `TokenKeys` for its own authenticator.

    Create it with `open_signing_keys`.
    """

    def __init__(
        self,
        file: KeyFile,
        policy: RotationPolicy,
        metrics: AccountMetrics,
        clock: Callable[[], float],
    ) -> None:
        self._file = file
        self._policy = policy
        self._metrics = metrics
        self._clock = clock
        self._keys: tuple[SigningKey, ...] = ()
        self._failure = ""
        self._loads_begun = 0
        self._last_good_load = 0
        self._refreshing = asyncio.Lock()
        self.keys: KeyRing | None = None
        """Verifies tokens of all keys that are not withdrawn."""

    def current(self) -> SigningKey:
        """Return the key for a new token. Raise `Unavailable` AUTH_KEYS_UNAVAILABLE without one."""
        if not self._keys:
            raise Unavailable(
                "AUTH_KEYS_UNAVAILABLE",
                "The server cannot sign tokens at the moment; try again.",
                retry_after_seconds=1.0,
            )
        return signing_key(self._keys, self._policy, self._clock())

    def published(self) -> bytes:
        """Return the JSON Web Key Set."""
        return public_keys(self._keys)

    async def find_unknown(self) -> float | None:
        """Read the file for a token whose key another replica may have made.

        Return None if it was read after this call, otherwise the seconds until the next try.
        Concurrent callers share a read, so that invented key ids cost one read at a time.
        """
        required = self._loads_begun + 1
        async with self._refreshing:
            if self._last_good_load < required:
                await self._refresh()
        return None if self._last_good_load >= required else _RETRY_SECONDS

    async def open(self) -> None:
        """Load the keys, or make the first one. A file with keys need not be writable.

        Raise `UnusableKeys` for a damaged file, OSError if there is none and none can be made.
        """
        try:
            await self._load()
        except OSError as error:
            await self._read_only()
            if not self._keys:
                raise
            self._report(_not_writable(error))

    async def _load(self) -> None:
        self._loads_begun += 1
        number = self._loads_begun
        self._take(await asyncio.to_thread(self._file.rotate, self._clock()))
        self._last_good_load = number

    async def run(self) -> None:
        """Keep the keys up to date until cancelled."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            async with self._refreshing:
                await self._refresh()

    async def _refresh(self) -> None:
        """Load the keys; keep the last good ones when that fails, and log it once."""
        try:
            await self._load()
            self._failure = ""
        except UnusableKeys as error:
            self._report(str(error))
        except OSError as error:
            await self._read_only()
            self._report(_not_writable(error))

    def _report(self, failure: str) -> None:
        if failure != self._failure:
            self._failure = failure
            _log.warning("signing_keys.rotate_failed", detail=failure)

    async def _read_only(self) -> None:
        self._loads_begun += 1
        number = self._loads_begun
        try:
            found = await asyncio.to_thread(self._file.read)
        except UnusableKeys:
            return
        if found:
            self._take(found)
            self._last_good_load = number

    def _take(self, keys: tuple[SigningKey, ...]) -> None:
        if keys == self._keys:
            return
        self.keys = key_ring(keys)
        if self._keys:
            _log.info("signing_keys.changed", keys=len(keys))
        self._keys = keys
        self._metrics.signing_keys.set(len(keys))
        self._metrics.signing_key_created.set(self.current().created_at)


def _not_writable(error: OSError) -> str:
    # A mounted secret: it is rotated by replacing it.
    return f"the file cannot be written: {error.strerror}"


@asynccontextmanager
async def open_signing_keys(
    path: Path,
    policy: RotationPolicy,
    metrics: AccountMetrics,
    clock: Callable[[], float] = time.time,
) -> AsyncIterator[SigningKeys]:
    """Load the keys, or make the first one; keep them up to date while the block runs.

    Raise `ConfigurationError` if the file cannot be used.
    """
    keys = SigningKeys(KeyFile(path, policy), policy, metrics, clock)
    try:
        await keys.open()
    except UnusableKeys as error:
        raise ConfigurationError(f"{SETTING}: {error}") from None
    except OSError as error:
        raise ConfigurationError(
            f"{SETTING}: {path} cannot be written: {error.strerror}; name another file"
        ) from None
    async with asyncio.TaskGroup() as group:
        task = group.create_task(keys.run(), name="signing-keys")
        try:
            yield keys
        finally:
            task.cancel()
