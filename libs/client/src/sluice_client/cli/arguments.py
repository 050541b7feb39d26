"""What all commands do with their arguments: check text, and take the options of connections.

It imports no gRPC and no asyncio: the help of a command needs neither.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from sluice_client.cli.security import SecurityArguments, options_of_every_command
from sluice_client.names import is_utf8

_LOCAL_PATHS = frozenset({"paths", "destination", "token"})
"""Parameters that name local files; their names may be any bytes."""


@dataclass(frozen=True, slots=True)
class Where:
    """--server, --token-file and the options of TLS, as given before or after the name of the
    command.
    """

    server: str | None = None
    token_file: str | None = None
    security: SecurityArguments = field(default_factory=SecurityArguments)

    def or_else(self, other: Where) -> Where:
        return Where(
            self.server or other.server, self.token_file or other.token_file, self.security
        )


class Command(TyperCommand):
    """Command whose arguments are checked before it runs, with the options of connections."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.extend(options_of_every_command())

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        rest: list[str] = super().parse_args(ctx, args)
        check_arguments(ctx.params)
        return rest


class Group(TyperGroup):
    """Group of commands whose own options are treated in the same way."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params.extend(options_of_every_command())

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
