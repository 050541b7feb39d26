"""Options of every command that say how a connection is secured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Annotated, Any

import typer

_META_KEY = "sluice.security"


@dataclass(frozen=True, slots=True)
class SecurityArguments:
    """The options as given on the command line."""

    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    insecure_skip_verify: bool = False

    @property
    def names_files(self) -> bool:
        return any((self.ca, self.cert, self.key))


def security_of(context: typer.Context) -> SecurityArguments:
    """Return the options given before or after the name of the command; later ones win."""
    found = context.meta.get(_META_KEY)
    return found if isinstance(found, SecurityArguments) else SecurityArguments()


@cache
def options_of_every_command() -> Sequence[Any]:
    """Return the options as parameters for any command or group.

    They leave their values in the context, not in the arguments of the command's function.
    """
    source = typer.Typer()
    source.command()(_declaration)
    # Typer's types for parameters are private.
    command: Any = typer.main.get_command(source)
    return [one for one in command.params if one.name in SecurityArguments.__slots__]


def _keep(context: typer.Context, parameter: typer.CallbackParam, value: Any) -> Any:
    if value:
        given = replace(security_of(context), **{str(parameter.name): value})
        context.meta[_META_KEY] = given
    return value


def _declaration(
    ca: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="CA of the server's certificate; else SLUICE_CA_FILE, else the system's.",
            show_default=False,
            expose_value=False,
            callback=_keep,
        ),
    ] = None,
    cert: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Client certificate; else SLUICE_CERT_FILE.",
            show_default=False,
            expose_value=False,
            callback=_keep,
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Key of the client certificate; else SLUICE_KEY_FILE.",
            show_default=False,
            expose_value=False,
            callback=_keep,
        ),
    ] = None,
    insecure_skip_verify: Annotated[
        bool,
        typer.Option(
            "--insecure-skip-verify",
            help="Trust the server's certificate unseen. For tests only.",
            expose_value=False,
            callback=_keep,
        ),
    ] = False,
) -> None:
    """Declare the options for Typer; never runs."""
