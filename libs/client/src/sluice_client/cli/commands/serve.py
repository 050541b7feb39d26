"""Commands of the server's side, when their distribution is installed.

The client knows nothing of the server: it finds these commands by their entry points.
"""

from __future__ import annotations

from importlib.metadata import entry_points

import typer

from sluice_client.cli import exits
from sluice_client.cli.output import Output


def serve(arguments: list[str]) -> None:
    """`sluice serve`: hand the arguments over and leave by the server's exit code."""
    _hand_over(
        "serve",
        arguments,
        "the server is not installed here; `pip install sluice-standalone` brings `sluice"
        " serve`, or use a server elsewhere by --server",
    )


def events(arguments: list[str]) -> None:
    """`sluice events`: likewise."""
    _hand_over(
        "events",
        arguments,
        "the commands of events are not installed here; `pip install sluice-common` brings them",
    )


def _hand_over(name: str, arguments: list[str], missing: str) -> None:
    found = entry_points(group="sluice.commands", name=name)
    command = next(iter(found), None)
    if command is None:
        Output(json_lines=False).error(missing)
        raise typer.Exit(exits.CONFIGURATION)
    raise typer.Exit(int(command.load()(arguments)))
