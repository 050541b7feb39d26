"""The catalogue ports on a SQL database: SQLite, MySQL or MariaDB."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import text

from sluice_backends.sql.audit import SqlAudit
from sluice_backends.sql.commits import SqlCommits
from sluice_backends.sql.database import open_database
from sluice_backends.sql.drives import SqlDrives
from sluice_backends.sql.grants import SqlGrants
from sluice_backends.sql.inspection import SqlInspection
from sluice_backends.sql.leases import SqlLeases
from sluice_backends.sql.migrate import check_schema, missing_migrations
from sluice_backends.sql.nodes import SqlNodes
from sluice_backends.sql.objects import SqlObjects
from sluice_backends.sql.options import MysqlOptions
from sluice_backends.sql.outbox import SqlOutbox
from sluice_backends.sql.photos.idempotency import SqlIdempotency
from sluice_backends.sql.photos.jobs import SqlUploadJobs
from sluice_backends.sql.photos.parts import SqlUploadParts
from sluice_backends.sql.photos.photos import SqlPhotos
from sluice_backends.sql.photos.refresh_tokens import SqlRefreshTokens
from sluice_backends.sql.photos.tags import SqlTags
from sluice_backends.sql.photos.users import SqlUsers
from sluice_backends.sql.processing import SqlProcessing
from sluice_backends.sql.quotas import SqlQuotas
from sluice_backends.sql.usage import SqlUsage
from sluice_core.ledger.options import Clock


class SqlCatalogue(
    SqlDrives,
    SqlGrants,
    SqlQuotas,
    SqlUsage,
    SqlNodes,
    SqlCommits,
    SqlProcessing,
    SqlObjects,
    SqlOutbox,
    SqlLeases,
    SqlAudit,
    SqlInspection,
    SqlUsers,
    SqlRefreshTokens,
    SqlUploadJobs,
    SqlPhotos,
    SqlUploadParts,
    SqlTags,
    SqlIdempotency,
):
    """All query families on one database; see `GatewayCatalogue` for the guarantees."""

    async def ping(self) -> None:
        async with self._db.read() as connection:
            await connection.execute(text("SELECT 1"))

    async def missing_migrations(self) -> int:
        return await missing_migrations(self._db)

    def connection_wait_seconds(self) -> float:
        return self._db.waits.longest_seconds


@asynccontextmanager
async def open_catalogue(
    url: str,
    *,
    fsync: bool = False,
    clock: Clock = time.time,
    mysql: MysqlOptions | None = None,
) -> AsyncIterator[SqlCatalogue]:
    """Open the catalogue at `url`, e.g. `sqlite:////var/lib/sluice/catalogue.db` or
    `mysql+aiomysql://sluice:PASSWORD@db/sluice`.

    Args:
        fsync: whether a commit survives a power cut (SQLite; a server has its own setting).
        clock: seconds since the epoch, for timestamps of rows. Leases use the server's clock.
        mysql: limits of the use of a server.

    Raise `FailedPrecondition` CATALOGUE_URL_UNSUPPORTED, CATALOGUE_SERVER_TOO_OLD or SCHEMA_TOO_OLD
    (run `migrate` first). Raise `Unavailable` CATALOGUE_UNAVAILABLE, or CATALOGUE_ACCESS_DENIED
    when the server denies access or has no such database.
    """
    async with open_database(url, fsync=fsync, clock=clock, mysql=mysql) as database:
        await check_schema(database)
        yield SqlCatalogue(database)
