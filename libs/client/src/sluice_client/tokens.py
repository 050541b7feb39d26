"""Bearer tokens of a client: given as text, as a file that is re-read, or by a function."""

from __future__ import annotations

import asyncio
import os
import stat
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from sluice_client.errors import InvalidArgument, Unavailable
from sluice_client.tasks import in_thread
from sluice_client.watched_files import CHECK_SECONDS, CheckTimer, Signature, signature

TokenSource = str | os.PathLike[str] | Callable[[], Awaitable[str]]
"""A token, the path of a file that has one, or an async function that returns one.

A string is always the token itself: name a file by a `Path`. If the function has a method
`is_due()`, it is asked before each call whether to call the function again.
"""

_MAX_TOKEN_BYTES = 64 * 1024
_MAX_EXPIRED = 3
"""New tokens in a row that were refused as expired."""
_MAX_REFUSED = 1
"""The same for tokens refused with another cause: most often the next one is no better."""
_FORGET_SECONDS = 60.0
"""After this time without a renewal the count starts again: what issued them may be mended."""
_FUNCTION_SECONDS = 30.0


class _Source(Protocol):
    @property
    def may_change(self) -> bool:
        """Whether the source may have another token soon, without being asked for one."""
        ...

    async def fetch(self, *, force: bool) -> str:
        """Return the token. With `force`, the last one was refused."""
        ...

    def is_due(self) -> bool:
        """Return whether to fetch the token again before the next call."""
        ...


class Tokens:
    """The token of one connection, and its renewal.

    A token has a version, so that calls remember a number and never the token. Nothing here has a
    repr with the token in it, and no error names it.
    """

    replacement_seconds = 5.0
    """How long an expired file is waited for, if its token was good before: clocks differ."""

    def __init__(
        self,
        source: TokenSource | None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        function_seconds: float = _FUNCTION_SECONDS,
    ) -> None:
        """Raise InvalidArgument BAD_TOKEN for text that cannot be a token."""
        self._source: _Source | None = None
        self._token: str | None = None
        if isinstance(source, str):
            self._token = checked_token(source, "the token")
        elif isinstance(source, os.PathLike):
            self._source = _TokenFile(Path(source), clock)
        elif source is not None:
            self._source = _TokenFunction(source, function_seconds)
        self._is_given = source is not None
        self._clock = clock
        self._sleep = sleep
        self._lock = asyncio.Lock()
        self._renewals = 0
        self._renewed_at = clock()
        self._ended_renewals = 0
        self._good_version: int | None = None
        self.version = 0

    @property
    def is_given(self) -> bool:
        """Whether calls carry a token at all."""
        return self._is_given

    async def open(self) -> None:
        """Read a file's first token. Raise OSError when it cannot be read, or BAD_TOKEN."""
        if isinstance(self._source, _TokenFile):
            await self.current()

    async def current(self) -> str | None:
        """Return the token for the next call; None when calls carry none.

        A file is checked for a change at most every `CHECK_SECONDS`. A function is called for the
        first token, and when it says that one is due; see `renew`.
        """
        if self._source is None:
            return self._token
        if self._token is None or (self._source.is_due() and not self._lock.locked()):
            async with self._lock:
                if self._token is None or self._source.is_due():
                    self._take(await self._source.fetch(force=False))
        return self._token

    async def renew(self, version: int, *, expired: bool = True) -> bool:
        """Return whether there is another token than the refused one of `version`.

        Calls that failed together share one renewal. A source has no other token after three that
        were expired when they came, or one that was refused otherwise (`expired` is False), until
        a call is not refused or a minute has passed.
        """
        ended = self._ended_renewals
        async with self._lock:
            if self.version != version:
                return True
            if self._ended_renewals != ended:
                # The renewal that this call waited for has found no other token.
                return False
            if self._source is None or not self._may_renew(expired):
                return False
            await self._fetch_another(version, waits=expired and version == self._good_version)
            self._ended_renewals += 1
            if self.version == version:
                return False
            self._renewals += 1
            self._renewed_at = self._clock()
            return True

    def _may_renew(self, expired: bool) -> bool:
        if self._clock() - self._renewed_at >= _FORGET_SECONDS:
            self._renewals = 0
        return self._renewals < (_MAX_EXPIRED if expired else _MAX_REFUSED)

    async def _fetch_another(self, version: int, *, waits: bool) -> None:
        """Ask the source for another token. With `waits`, give a file time to be replaced."""
        assert self._source is not None
        deadline = self._clock() + self.replacement_seconds
        self._take(await self._source.fetch(force=True))
        while self.version == version and waits and self._source.may_change:
            if self._clock() >= deadline:
                return
            await self._sleep(CHECK_SECONDS)
            self._take(await self._source.fetch(force=True))

    def confirm(self, version: int) -> None:
        """Note that a call with the token of `version` was not refused for it.

        Only the newest one counts: a stream may outlive its token and be answered all the same.
        """
        if version == self.version:
            self._renewals = 0
            self._good_version = version

    def _take(self, token: str) -> None:
        if token != self._token:
            self._token = token
            self.version += 1


class _TokenFile:
    """A token in a file. Once read, a failure to read it again keeps the last token."""

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._path = path
        self._timer = CheckTimer(clock)
        self._signature: Signature | None = None
        self._token: str | None = None
        self._is_regular = True

    @property
    def may_change(self) -> bool:
        return self._is_regular

    async def fetch(self, *, force: bool) -> str:
        is_due = self._timer.is_due()
        # A pipe, such as <(…) of a shell, was read to its end.
        if self._token is None or (self._is_regular and (is_due or force)):
            try:
                # The thread keeps what it has read: this call may be cancelled meanwhile.
                await in_thread(self._read, force)
            except (OSError, InvalidArgument):
                # It may be missing or empty while it is replaced; the server refuses an old token.
                if self._token is None:
                    raise
        assert self._token is not None
        return self._token

    def _read(self, force: bool) -> None:
        """Read the token if the file has changed. Blocking."""
        with self._path.open("rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                self._is_regular = False
                self._token = self._parsed(file.read(_MAX_TOKEN_BYTES + 1))
                return
            before = signature(self._path)
            if before == self._signature and not force:
                return
            data = file.read(_MAX_TOKEN_BYTES + 1)
        self._token = self._parsed(data)
        # What changed meanwhile is read again at the next check.
        self._signature = before if signature(self._path) == before else None

    def _parsed(self, data: bytes) -> str:
        if len(data) > _MAX_TOKEN_BYTES:
            raise _bad("the token file is larger than 64 KiB; name the file that has the token")
        return checked_token(data.decode("ascii", "replace"), "the token file")

    def is_due(self) -> bool:
        return True  # `fetch` reads it only after a while


class _TokenFunction:
    """A token that a function of the caller returns; its errors reach the caller unchanged."""

    may_change = False

    def __init__(self, function: Callable[[], Awaitable[str]], seconds: float) -> None:
        self._function = function
        self._seconds = seconds
        self._due: Callable[[], bool] = getattr(function, "is_due", lambda: False)

    def is_due(self) -> bool:
        return self._due()

    async def fetch(self, *, force: bool) -> str:
        timeout = asyncio.timeout(self._seconds)
        try:
            async with timeout:
                token = await self._function()
        except TimeoutError:
            if not timeout.expired():
                raise
            raise Unavailable(
                "TOKEN_TIMEOUT",
                f"the token function has not returned for {self._seconds:.0f} s; check its issuer",
            ) from None
        return checked_token(token, "the token function")


def checked_token(token: object, source: str) -> str:
    """Return the token without white space around it. Raise InvalidArgument BAD_TOKEN.

    The text of the error never repeats the token.
    """
    if not isinstance(token, str):
        raise _bad(f"{source} has no text; give the token as a string")
    token = token.strip()
    if not token:
        raise _bad(f"{source} is empty; give the token as it was issued")
    if token.lower().startswith("bearer "):
        raise _bad(f"{source} begins with the word Bearer; give the token alone")
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise _bad(f"{source} holds characters that no token has; give it as it was issued")
    return token


def _bad(text: str) -> InvalidArgument:
    return InvalidArgument("BAD_TOKEN", text)
