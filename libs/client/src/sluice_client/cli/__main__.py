"""Entry point of the `sluice` command."""

from __future__ import annotations

from sluice_client.cli.app import app


def main() -> None:
    """Run the command line; exits with the codes of `exits.py`."""
    app(prog_name="sluice")


if __name__ == "__main__":
    main()
