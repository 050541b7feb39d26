"""How the photos of a job reach the store. Pure."""

from __future__ import annotations

from enum import StrEnum

from sluice_core.errors import InvalidArgument


class UploadStrategy(StrEnum):
    S3_PRESIGNED = "s3-presigned"
    """By presigned URLs, straight into the store."""
    TUS = "tus"
    """By the resumable protocol tus 1.0, through this server."""


# Clients in use send both spellings.
_NAMES = {
    spelling: strategy
    for strategy in UploadStrategy
    for spelling in (strategy.value, strategy.name)
}

STRATEGY_NAMES = frozenset(_NAMES)


def parse_strategy(name: str, field: str = "strategy") -> UploadStrategy:
    """Return the strategy of this name, e.g. `s3-presigned` or `S3_PRESIGNED`. BAD_STRATEGY."""
    strategy = _NAMES.get(name)
    if strategy is None:
        raise InvalidArgument(
            "BAD_STRATEGY",
            f"The strategy is unknown; use {' or '.join(UploadStrategy)}.",
            field=field,
        )
    return strategy
