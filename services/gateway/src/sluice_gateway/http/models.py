"""Bases of what clients send and receive."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, FailFast
from pydantic.alias_generators import to_camel


class Body(BaseModel):
    """What clients send, in camelCase. Unknown members are refused: they may be misspelled."""

    model_config = ConfigDict(alias_generator=to_camel, extra="forbid", strict=True)


class _FirstErrorOnly(FailFast):
    """pydantic's constraint, which can be a member of a union."""

    __hash__ = object.__hash__


_Item = TypeVar("_Item")
BodyList = Annotated[list[_Item], _FirstErrorOnly()]
"""A list that clients send. Its first bad item is the only one reported: each error takes time on
the event loop, and a list may hold as many bad items as a body has room for."""


class View(BaseModel):
    """What clients receive, in camelCase."""

    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


def moment(seconds: float) -> datetime:
    """Return the time of Unix seconds."""
    return datetime.fromtimestamp(seconds, UTC)


def optional_moment(seconds: float | None) -> datetime | None:
    return None if seconds is None else moment(seconds)
