"""Ids of parametrized tests from the functions that open the adapters of a contract."""

from __future__ import annotations

from typing import cast


def name_of(factory: object) -> str:
    """Return the function's name."""
    return cast(str, getattr(factory, "__name__", "adapter"))
