"""The log-in of a user on this machine: one file, which only they can read."""

from __future__ import annotations

import errno
import fcntl
import ipaddress
import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import platformdirs

from sluice_client.errors import InvalidArgument
from sluice_client.logins.gateway_api import GatewaySession
from sluice_client.targets import Target
from sluice_client.uploads.journal import home_dir

SETTING: Final = "SLUICE_CONFIG_DIR"
_NAME: Final = "login.json"
_VERSION: Final = 1
_MAX_BYTES: Final = 256 * 1024
_LONGEST_MARGIN_SECONDS: Final = 60.0
_LOOPBACK: Final = "loopback"


@dataclass(frozen=True, slots=True)
class StoredLogin:
    """Tokens of one session, and where they may be sent.

    gateway: its URL.
    hosts: of the gateway and of the servers that the user named when they logged in.
    renew_at, expires_at: of `token`, Unix seconds.
    """

    gateway: str
    hosts: tuple[str, ...]
    user_id: str
    email: str
    token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    renew_at: float
    expires_at: float

    @classmethod
    def of(
        cls, gateway: str, hosts: tuple[str, ...], session: GatewaySession, now: float
    ) -> StoredLogin:
        """Return the log-in of a new session.

        Args:
            now: Unix seconds, from before the call that returned the session.
        """
        margin = min(_LONGEST_MARGIN_SECONDS, session.expires_in / 4)
        return cls(
            gateway=gateway,
            hosts=hosts,
            user_id=session.user_id,
            email=session.email,
            token=session.token,
            refresh_token=session.refresh_token,
            renew_at=now + session.expires_in - margin,
            expires_at=now + session.expires_in,
        )

    def is_for(self, addresses: list[str]) -> bool:
        """Return whether all of these servers may get the token.

        A token must not go to whichever server a command names: it is as good as a password there.
        """
        return all(set(hosts_of([each])) <= set(self.hosts) for each in addresses)


class LoginFile:
    """The file of the log-in. Blocking.

    `locked` excludes other commands: a refresh token works once, and two commands that renew at
    once would end the session.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / _NAME

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock inside the block; wait for it."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        lock = os.open(self.path.with_suffix(".lock"), flags, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def load(self) -> StoredLogin | None:
        """Return the log-in; None if there is none.

        Raise InvalidArgument BAD_LOGIN_FILE for a file that is damaged, or that others can read.
        """
        try:
            with self.path.open("rb") as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                content = file.read(_MAX_BYTES)
        except FileNotFoundError:
            return None
        if mode & 0o077:
            raise _bad("other users of this machine can read the file of your log-in")
        try:
            found = json.loads(content)
            if found.pop("version") != _VERSION:
                raise ValueError("another version")
            return StoredLogin(**{**found, "hosts": tuple(found["hosts"])})
        except (AttributeError, KeyError, TypeError, ValueError):
            raise _bad("the file of your log-in is damaged") from None

    def save(self, login: StoredLogin) -> None:
        """Replace the file atomically and durably. The lock must be held."""
        draft = self.path.with_suffix(".new")
        draft.unlink(missing_ok=True)  # of a killed command, perhaps with another mode
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        with os.fdopen(os.open(draft, flags, 0o600), "w", encoding="utf-8") as file:
            json.dump({"version": _VERSION, **asdict(login)}, file)
            file.flush()
            # A lost refresh token is a lost session: the one before it is used up.
            os.fsync(file.fileno())
        draft.replace(self.path)

    def remove(self) -> None:
        """Remove the file; no-op if there is none."""
        self.path.unlink(missing_ok=True)


def config_dir(environment: Mapping[str, str]) -> Path:
    """Return the user's configuration directory of Sluice.

    Raise FileNotFoundError when none is set and the user has no home: never create a home.
    """
    named = environment.get(SETTING)
    if named:
        return Path(named)
    if not os.path.isabs(environment.get("XDG_CONFIG_HOME", "")) and home_dir() is None:
        raise FileNotFoundError(errno.ENOENT, "there is no home directory", os.path.expanduser("~"))
    return platformdirs.user_config_path("sluice")


def hosts_of(addresses: list[str]) -> tuple[str, ...]:
    """Return the host names of addresses; all names of this machine are one.

    A Unix socket is this machine.
    """
    found = dict.fromkeys(
        _LOOPBACK if _is_loopback(host) else host.lower()
        for address in addresses
        for host in (Target.parse(address).hosts or ("localhost",))
    )
    return tuple(found)


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _bad(text: str) -> InvalidArgument:
    return InvalidArgument(
        "BAD_LOGIN_FILE", f"{text}; remove it by `sluice logout`, then log in again"
    )
