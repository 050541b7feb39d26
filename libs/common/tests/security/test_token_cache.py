"""The cache of verified tokens: bounded, least recently used first."""

from __future__ import annotations

from sluice_common.security.token_cache import TokenCache, VerifiedToken
from sluice_core.access.principal import Principal


def verified(subject: str, size_bytes: int = 100) -> VerifiedToken:
    return VerifiedToken(Principal("acme", subject, frozenset()), 1.0, "key", size_bytes)


def test_least_recently_used_tokens_are_evicted() -> None:
    cache = TokenCache(max_entries=2)
    cache.put(b"a", verified("a"))
    cache.put(b"b", verified("b"))
    assert cache.get(b"a") is not None
    cache.put(b"c", verified("c"))
    assert cache.get(b"b") is None
    assert cache.get(b"a") is not None
    assert len(cache) == 2


def test_bytes_are_bounded_by_evictions_and_replacements() -> None:
    cache = TokenCache(max_bytes=1000)
    for _ in range(50):
        cache.put(b"same", verified("same", 900))
    assert cache.get(b"same") is not None
    cache.put(b"other", verified("other", 200))
    assert cache.get(b"same") is None
    cache.discard(b"other")
    cache.discard(b"other")
    cache.put(b"full", verified("full", 1000))
    assert cache.get(b"full") is not None
    cache.put(b"huge", verified("huge", 1001))
    assert len(cache) == 0
