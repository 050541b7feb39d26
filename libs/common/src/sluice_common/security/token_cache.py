"""Cache of verified tokens, so that a client's many calls pay for one verification."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from sluice_core.access.principal import Principal


@dataclass(frozen=True, slots=True)
class VerifiedToken:
    """Result of a verification. `key`: thumbprint of the key that signed the token."""

    principal: Principal
    expires_at: float
    key: str
    size_bytes: int


class TokenCache:
    """LRU cache by the SHA-256 of the token, bounded by entries and by bytes of their tokens.

    It holds no token, so that a dump of the memory of this cache gives none away.
    """

    def __init__(self, max_entries: int = 4096, max_bytes: int = 8 * 1024 * 1024) -> None:
        self._max_entries = max_entries
        self._max_bytes = max_bytes
        self._entries: OrderedDict[bytes, VerifiedToken] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, digest: bytes) -> VerifiedToken | None:
        """Return the entry and make it the most recent."""
        entry = self._entries.get(digest)
        if entry is not None:
            self._entries.move_to_end(digest)
        return entry

    def put(self, digest: bytes, entry: VerifiedToken) -> None:
        """Add an entry; evict the least recently used ones beyond the bounds."""
        self.discard(digest)
        self._entries[digest] = entry
        self._bytes += entry.size_bytes
        while len(self._entries) > self._max_entries or self._bytes > self._max_bytes:
            _, evicted = self._entries.popitem(last=False)
            self._bytes -= evicted.size_bytes

    def discard(self, digest: bytes) -> None:
        """Remove an entry, if it exists."""
        entry = self._entries.pop(digest, None)
        if entry is not None:
            self._bytes -= entry.size_bytes
