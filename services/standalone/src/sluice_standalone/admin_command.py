"""`sluice admin`: the operators' commands of all services, also on a data directory."""

from __future__ import annotations

from sluice_common.process.start import prepare_process

prepare_process()  # before the imports below, which import grpc

import argparse  # noqa: E402
import asyncio  # noqa: E402
from collections.abc import AsyncIterator, Mapping, Sequence  # noqa: E402
from contextlib import AsyncExitStack, asynccontextmanager  # noqa: E402
from pathlib import Path  # noqa: E402

from sluice_backends.embedded.ledger.reader import open_sqlite_ledger_reader  # noqa: E402
from sluice_common.backends.opening import as_configuration_error  # noqa: E402
from sluice_common.process.command import run_command, service_parser  # noqa: E402
from sluice_common.process.data_dir import DataDir, as_data_dir_error  # noqa: E402
from sluice_common.settings import SluiceSettings  # noqa: E402
from sluice_core.configuration import ConfigurationError  # noqa: E402
from sluice_processor.sources.dlq_command import SUBCOMMAND as DLQ  # noqa: E402
from sluice_processor.sources.dlq_command import add_dlq_command, dlq_main  # noqa: E402
from sluice_repository.admin.backends import (  # noqa: E402
    AdminBackends,
    open_present_catalogue,
    open_service_backends,
    open_stored_objects,
)
from sluice_repository.admin.command import add_actions, admin_main  # noqa: E402
from sluice_repository.metrics import RepositoryMetrics  # noqa: E402
from sluice_standalone.backends import open_backends  # noqa: E402
from sluice_standalone.data_dir import DataDirInUse, check_layout, open_data_dir  # noqa: E402
from sluice_standalone.recorded_settings import check_settings  # noqa: E402


def admin(args: Sequence[str]) -> int:
    """Run the command; return its exit code.

    Args:
        args: the arguments after `sluice admin`.
    """
    parser = service_parser(
        "sluice admin",
        "Commands for operators, who have the settings of the services in the environment, or the"
        " data directory of `sluice serve`.",
    )
    parser.add_argument(
        "--data-dir", type=Path, metavar="DIR", help="directory of all data (SLUICE_DATA_DIR)"
    )
    commands = parser.add_subparsers(
        dest="command",
        metavar="COMMAND",
        required="--show-settings" not in args,
        help="what to do:",
    )
    add_actions(commands)
    add_dlq_command(commands)
    return run_command(parser, args, _main, _overrides)


@asynccontextmanager
async def open_any_backends(
    settings: SluiceSettings, metrics: RepositoryMetrics, writes: bool
) -> AsyncIterator[AdminBackends]:
    """Open shared backends, or those in a data directory.

    A command that only looks reads the directory beside its server. One that writes needs it for
    itself, because the server keeps parts of it in memory.

    Raise `ConfigurationError` for a directory without data, for one of another layout or whose
    server ran with other settings and, for writes, for one with a running server or without a
    record of its settings.
    """
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        if not settings.supported_combination.standalone_only:
            yield await enter(open_service_backends(settings, metrics, writes))
            return
        data_dir = DataDir(settings.data_dir)
        if not data_dir.ledger.exists():
            raise ConfigurationError(
                f"SLUICE_DATA_DIR: {data_dir.root} has no data of a server; name its directory with"
                " --data-dir"
            )
        if writes:
            yield await enter(_open_for_writes(settings, metrics))
            return
        with as_data_dir_error(data_dir.root):
            check_layout(data_dir)
        check_settings(data_dir, settings, required=False)
        with as_configuration_error(f"SLUICE_DATA_DIR: {data_dir.root}"):
            ledger = await enter(
                open_sqlite_ledger_reader(data_dir.ledger, settings.to_ledger_options())
            )
        yield AdminBackends(
            ledger,
            None,
            None,
            await enter(open_stored_objects(settings, metrics, beside_owner=True)),
            await enter(open_present_catalogue(settings, writes=False)),
            settings.bucket,
        )


@asynccontextmanager
async def _open_for_writes(
    settings: SluiceSettings, metrics: RepositoryMetrics
) -> AsyncIterator[AdminBackends]:
    async with AsyncExitStack() as stack:
        try:
            data_dir = stack.enter_context(open_data_dir(settings.data_dir))
        except DataDirInUse:
            raise ConfigurationError(
                f"SLUICE_DATA_DIR: a server is using {settings.data_dir}, and sweeps itself every"
                f" {settings.sweeper.interval_seconds:g} s (SLUICE_SWEEPER__INTERVAL_SECONDS); stop"
                " it to sweep from here"
            ) from None
        check_settings(data_dir, settings, required=True)
        opened = await stack.enter_async_context(open_backends(settings, metrics, data_dir))
        yield AdminBackends(
            opened.coordination.ledger,
            opened.coordination.chunks,
            opened.coordination.queue,
            opened.storage.objects,
            opened.storage.catalogue,
            settings.bucket,
            queue_outlives=False,
        )


async def _main(
    settings: SluiceSettings, arguments: argparse.Namespace, stop: asyncio.Event
) -> None:
    if arguments.command == DLQ:
        await dlq_main(settings, arguments)
        return
    await admin_main(settings, arguments, stop, open_any_backends)


def _overrides(arguments: argparse.Namespace) -> Mapping[str, object]:
    return {"data_dir": arguments.data_dir}
