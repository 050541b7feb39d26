"""Keys that are refreshed in the background; the last good ones serve while a source is down."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from sluice_common.security.keys.key_ring import KeyRing, UnusableKeys
from sluice_common.security.metrics import TokenMetrics
from sluice_core.concurrency.waiting import wait_at_most

LOAD_SECONDS: Final = 15.0
"""Time limit of one load."""

_FIRST_RETRY_SECONDS: Final = 2.0
"""Delay before a failed load is repeated while there are no keys at all."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LoadedKeys:
    """Keys, and the time after which they are loaded again."""

    keys: KeyRing
    fresh_seconds: float


class KeyLoader(Protocol):
    """A source of keys."""

    retry_seconds: float
    """Delay before a failed load is repeated."""
    unknown_key_seconds: float
    """Shortest time between loads that tokens with unknown keys cause."""

    async def load(self) -> LoadedKeys:
        """Return the current keys. Must not block the event loop.

        Raise `UnusableKeys` when the source does not answer, or with no usable key.
        """
        ...


class RefreshedKeys:
    """The keys of a source.

    Args:
        clock: wall clock of the metrics, in Unix seconds.
        monotonic: clock of the intervals; None for the event loop's.
    """

    def __init__(
        self,
        loader: KeyLoader,
        metrics: TokenMetrics,
        *,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] | None = None,
    ) -> None:
        self._loader = loader
        self._metrics = metrics
        self._clock = clock
        self._monotonic = monotonic or asyncio.get_running_loop().time
        self._due_at = self._monotonic()
        self._unknown_key_at = -loader.unknown_key_seconds + self._monotonic()
        self._is_wanted = asyncio.Event()
        self._is_loading = False
        self._loads_begun = 0
        self._last_good_load = 0
        self._loaded = asyncio.Event()
        self._failure = ""
        self.keys: KeyRing | None = None
        """The last good keys; None before the first."""

    @asynccontextmanager
    async def refreshing(self) -> AsyncIterator[None]:
        """Refresh the keys while the block runs."""
        async with asyncio.TaskGroup() as group:
            task = group.create_task(self._run(), name="auth-keys")
            try:
                yield
            finally:
                task.cancel()

    async def load(self) -> None:
        """Load the keys. Raise `UnusableKeys` and keep the last good ones when that fails."""
        self._is_loading = True
        self._loads_begun += 1
        number = self._loads_begun
        try:
            async with asyncio.timeout(LOAD_SECONDS):
                loaded = await self._loader.load()
            self.keys, self._last_good_load = loaded.keys, number
        except TimeoutError:
            self._failed()
            raise UnusableKeys(f"no answer within {LOAD_SECONDS:g} s") from None
        except UnusableKeys:
            self._failed()
            raise
        finally:
            self._is_loading = False
            self._loaded.set()
            self._loaded = asyncio.Event()
        if self._failure:
            self._failure = ""
            _log.info("auth_keys.refreshed", keys=len(loaded.keys))
        self._due_at = self._monotonic() + loaded.fresh_seconds
        self._metrics.keys.set(len(loaded.keys))
        self._metrics.keys_refreshed.set(self._clock())

    async def refresh(self) -> None:
        """Load the keys and log a failure, which leaves the last good ones in use."""
        try:
            await self.load()
        except UnusableKeys as error:
            self.report(error)
        except Exception:  # noqa: BLE001 - the last good keys must stay in use
            self._failed()
            _log.exception("auth_keys.refresh_failed")

    def report(self, error: UnusableKeys) -> None:
        """Log a failed load, unless the load before it failed alike."""
        if str(error) != self._failure:
            self._failure = str(error)
            _log.warning("auth_keys.refresh_failed", detail=str(error))

    async def find_unknown(self) -> float | None:
        """Look for the unknown key of a token.

        Return None if the keys were loaded by a load that began after this call, so that a key
        which is still unknown was not the source's when the call arrived. Otherwise return the
        seconds after which to try again: nothing is known about the key.

        At most one refresh in `unknown_key_seconds`, so that invented key ids cost nothing.
        Concurrent callers share it.
        """
        required = self._loads_begun + 1
        if not self._is_wanted.is_set() and not self._is_loading:
            if self._search_seconds() > 0.0:
                return self._search_seconds()
            self._unknown_key_at = self._monotonic()
            self._is_wanted.set()
        await wait_at_most(self._loaded, LOAD_SECONDS + 1.0)
        return None if self._last_good_load >= required else max(self._search_seconds(), 1.0)

    def _search_seconds(self) -> float:
        """Return the seconds until an unknown key may cause a refresh; at most 0 if it may now."""
        return self._unknown_key_at + self._loader.unknown_key_seconds - self._monotonic()

    async def _run(self) -> None:
        while True:
            await wait_at_most(self._is_wanted, max(self._due_at - self._monotonic(), 0.0))
            self._is_wanted.clear()
            await self.refresh()

    def _failed(self) -> None:
        retry_seconds = self._loader.retry_seconds
        if self.keys is None:
            retry_seconds = min(retry_seconds, _FIRST_RETRY_SECONDS)
        self._due_at = self._monotonic() + retry_seconds
        self._metrics.key_refresh_failures.inc()
