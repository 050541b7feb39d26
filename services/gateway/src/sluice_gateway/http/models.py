"""Bases of what clients send and receive."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class Body(BaseModel):
    """What clients send, in camelCase. Unknown members are refused: they may be misspelled."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", strict=True)


class View(BaseModel):
    """What clients receive, in camelCase."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


def moment(seconds: float) -> datetime:
    """Return the time of Unix seconds."""
    return datetime.fromtimestamp(seconds, UTC)


def optional_moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else moment(seconds)
