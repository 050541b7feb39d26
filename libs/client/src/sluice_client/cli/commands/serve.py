"""Server commands, available when their distribution is installed; found by their entry points."""

from __future__ import annotations

from importlib.metadata import entry_points

from sluice_client.cli import exits
from sluice_client.cli.output import Output


def serve(arguments: list[str]) -> int:
    """Run `sluice serve`: pass the arguments on and return the server's exit code."""
    return _hand_over(
        "serve",
        arguments,
        "the server is not installed here; `pip install sluice-standalone` brings `sluice"
        " serve`, or use a server elsewhere by --server",
    )


def events(arguments: list[str]) -> int:
    """Run `sluice events`: pass the arguments on and return the exit code of that command."""
    return _hand_over(
        "events",
        arguments,
        "the commands of events are not installed here; `pip install sluice-common` brings them",
    )


def token(arguments: list[str]) -> int:
    """Run `sluice token`: pass the arguments on and return the exit code of that command."""
    return _hand_over(
        "token",
        arguments,
        "tokens are made where the server's data is; `pip install sluice-standalone` brings"
        " `sluice token`",
    )


def admin(arguments: list[str]) -> int:
    """Run `sluice admin`: pass the arguments on and return the exit code of that command."""
    return _hand_over(
        "admin",
        arguments,
        "the commands of operators are not installed here; `pip install sluice-standalone` brings"
        " `sluice admin`, and the images of the services have `sluice-repository admin`",
    )


def _hand_over(name: str, arguments: list[str], missing: str) -> int:
    entries = entry_points(group="sluice.commands", name=name)
    command = next(iter(entries), None)
    if command is None:
        Output(json_lines=False).error(missing)
        return exits.CONFIGURATION
    return int(command.load()(arguments))
