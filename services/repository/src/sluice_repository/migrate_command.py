"""`sluice-repository migrate`: brings the catalogue's database to the schema of this release."""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import Final

from sluice_backends.sql.migrate import Migration, migrate
from sluice_common.backends.opening import as_configuration_error
from sluice_common.backends.storage import catalogue_database
from sluice_common.settings import SluiceSettings
from sluice_core.configuration import ConfigurationError

SUBCOMMAND: Final = "migrate"


async def migrate_main(
    settings: SluiceSettings, _arguments: argparse.Namespace, _stop: asyncio.Event
) -> None:
    """Migrate, say what was done, and end.

    A run that is interrupted leaves whole steps behind, and the next run goes on from there.

    Raises `ConfigurationError` when there is no catalogue, its database cannot be used, or a newer
    release has migrated it.
    """
    database = catalogue_database(settings)
    if database is None:
        raise ConfigurationError("SLUICE_CATALOGUE=off: there is no catalogue to migrate")
    with as_configuration_error(database.setting):
        done = await migrate(database.url)
    sys.stdout.write(told(done) + "\n")


def told(done: Migration) -> str:
    """What a run did, for an operator."""
    if not done.applied:
        return f"catalogue: nothing to migrate, its schema is {done.revision}"
    return f"catalogue: applied {', '.join(done.applied)}; its schema is {done.revision}"
