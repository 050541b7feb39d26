"""Port of the virus scanner, and its errors."""

from __future__ import annotations

from typing import Protocol

from sluice_core.errors import Unavailable


class Scanner(Protocol):
    """Scans whole objects. No call within its time is an answer: an object never passes unseen."""

    async def scan(self, fd: int, size: int) -> str | None:
        """Return what was found in a clean name, or None for a clean object.

        Args:
            fd: a file with the object. Its offset may be anywhere, and is left there.
            size: of the object in bytes.

        Raise `Unavailable` SCANNER_UNAVAILABLE, and `ImageRefused` TOO_LARGE for an object that
        the scanner does not take.
        """
        ...


def scanner_unavailable(detail: str) -> Unavailable:
    """Return the error for a scanner that gave no verdict; the node is tried again later."""
    return Unavailable(
        "SCANNER_UNAVAILABLE",
        f"The virus scanner gave no verdict: {detail}. Start it, or correct its settings.",
    )
