"""Validation of text arguments: UTF-8 is required except in local paths."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from sluice_client.names import is_utf8

_LOCAL_PATHS = frozenset({"paths", "destination"})
"""Parameters that name local files; their names may be any bytes."""


class Command(TyperCommand):
    """Command whose arguments are checked before it runs."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        rest: list[str] = super().parse_args(ctx, args)
        check_arguments(ctx.params)
        return rest


class Group(TyperGroup):
    """Group of commands whose own options are checked in the same way."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        rest: list[str] = super().parse_args(ctx, args)
        check_arguments(ctx.params)
        return rest


def check_arguments(values: dict[str, Any]) -> None:
    """Raise BadParameter for text that no request can carry."""
    for name, value in values.items():
        if name not in _LOCAL_PATHS and not all(is_utf8(text) for text in _texts(value)):
            option = name.replace("_", "-")
            raise typer.BadParameter(f"the value of {option} is not UTF-8; give it as text")


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | tuple):
        for one in value:
            yield from _texts(one)
