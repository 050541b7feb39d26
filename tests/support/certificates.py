"""Certificates that the tests' clients accept or refuse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tools.backends.authority import DAY, Authority, Issued, TlsPaths, replace

__all__ = [
    "DAY",
    "REFUSED",
    "Authority",
    "Issued",
    "Refused",
    "TlsPaths",
    "replace",
    "write_certificates",
    "write_tls",
]


@dataclass(frozen=True, slots=True)
class Refused:
    """A certificate that no client may accept, and what the client says about it."""

    issue: Callable[[Authority], Issued]
    problem: str


REFUSED: Final = {
    "another authority": Refused(
        lambda _: Authority("another").issue(), "is not from a trusted authority"
    ),
    "another host": Refused(
        lambda authority: authority.issue(ips=(), dns=["elsewhere.example"]),
        "does not name this host",
    ),
    "expired": Refused(lambda authority: authority.issue(ends=-DAY / 24), "has expired"),
}
"""Certificates that a client at 127.0.0.1 which trusts the given authority has to refuse."""


def write_tls(folder: Path, authority: Authority, issued: Issued) -> TlsPaths:
    """Write the files of one process and return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = TlsPaths(folder)
    replace(paths.ca, authority.pem)
    issued.write(paths)
    return paths


def write_certificates(folder: Path) -> None:
    """Write `ca.pem`, `cert.pem` and `key.pem`, valid for 127.0.0.1 and one day."""
    authority = Authority()
    write_tls(folder, authority, authority.issue())
