"""`sluice serve`: the standalone server, when its distribution is installed.

The client knows nothing of the server: it finds the command by its entry point.
"""

from __future__ import annotations

from importlib.metadata import entry_points

import typer

from sluice_client.cli import exits
from sluice_client.cli.output import Output


def serve(arguments: list[str]) -> None:
    """Hand the arguments over and leave by the server's exit code."""
    found = entry_points(group="sluice.commands", name="serve")
    command = next(iter(found), None)
    if command is None:
        Output(json_lines=False).error(
            "the server is not installed here; `pip install sluice-standalone` brings `sluice"
            " serve`, or use a server elsewhere by --server"
        )
        raise typer.Exit(exits.CONFIGURATION)
    raise typer.Exit(int(command.load()(arguments)))
