"""`sluice-repository migrate`: migration of the catalogue's database to this release's schema."""

from __future__ import annotations

import argparse
import sys
from typing import Final

from sluice_backends.sql.migrate import Migration, migrate
from sluice_common.backends.opening import as_configuration_error
from sluice_common.backends.storage import catalogue_database
from sluice_common.settings import SluiceSettings
from sluice_core.configuration import ConfigurationError

SUBCOMMAND: Final = "migrate"


def add_migrate_command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
) -> None:
    """Add the `migrate` command to the parser of the service."""
    commands.add_parser(
        SUBCOMMAND, help="migrate the catalogue's database to this release's schema, then exit"
    )


async def migrate_main(settings: SluiceSettings) -> None:
    """Migrate the catalogue's database and print what was applied.

    An interrupted run leaves only whole steps applied; the next run continues after them.

    Raise `ConfigurationError` when there is no catalogue, its database cannot be used, or a newer
    release has migrated it.
    """
    database = catalogue_database(settings)
    if database is None:
        raise ConfigurationError(
            "SLUICE_CATALOGUE=off: there is no catalogue to migrate; set it to mysql or sqlite"
        )
    with as_configuration_error(database.setting):
        done = await migrate(database.url)
    sys.stdout.write(_summary(done) + "\n")


def _summary(done: Migration) -> str:
    """Return one line for the operator about what a run did."""
    if not done.applied:
        return f"catalogue: nothing to migrate, its schema is {done.revision}"
    return f"catalogue: applied {', '.join(done.applied)}; its schema is {done.revision}"
