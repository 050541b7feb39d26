"""`sluice events tail`: print published events."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import uvloop

from sluice_backends.kafka.options import KafkaOptions
from sluice_backends.kafka.receiving import Start
from sluice_common.events.tail import TailRequest, tail_kafka, tail_log
from sluice_common.process.lifecycle import output_closed
from sluice_common.settings import PREFIX, LogLevel, SluiceSettings, load_settings
from sluice_common.settings.secret_policy import secrets_of
from sluice_common.telemetry.logging import configure_logging
from sluice_common.telemetry.redaction import redact
from sluice_common.telemetry.terminal import printable
from sluice_core.combinations import Events
from sluice_core.configuration import EXIT_CONFIGURATION, ConfigurationError
from sluice_core.errors import SluiceError
from sluice_core.ports.event_publisher import NODES_TOPIC, UPLOADS_TOPIC

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_UNAVAILABLE: Final = 69


def events(args: Sequence[str]) -> int:
    """Run the command; return its exit code.

    Args:
        args: the arguments after `sluice events`.
    """
    parsed = _parser().parse_args(args)
    configure_logging(LogLevel.ERROR)
    # Its errors also raise one of ours, which is printed.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    try:
        return uvloop.run(_tail(parsed))
    except ConfigurationError as error:
        return _failed(str(error), EXIT_CONFIGURATION)
    except SluiceError as error:
        unavailable = error.code in ("UNAVAILABLE", "DEADLINE_EXCEEDED")
        text = f"{error.message.rstrip('.')} [{error.reason}]"
        return _failed(text, EXIT_UNAVAILABLE if unavailable else EXIT_FAILED)
    except BrokenPipeError:
        return output_closed()


async def _tail(parsed: argparse.Namespace) -> int:
    """Tail until the end or a signal; return the exit code."""
    settings = load_settings(data_dir=parsed.data_dir)
    redact.hide(secrets_of(settings, PREFIX))
    request = TailRequest(
        topics=tuple(parsed.topic or (UPLOADS_TOPIC, NODES_TOPIC)),
        start=Start(parsed.start),
        group=parsed.group,
        count=parsed.count,
        follow=not parsed.no_follow,
    )
    this = asyncio.current_task()
    assert this is not None
    signals: list[int] = []

    def stop(number: int) -> None:
        signals.append(number)
        this.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop, number)
    try:
        await _read(settings, parsed, request)
    except asyncio.CancelledError:
        if not signals:
            raise
        return 128 + signals[0]
    return EXIT_OK


async def _read(settings: SluiceSettings, parsed: argparse.Namespace, request: TailRequest) -> None:
    if (options := _kafka(settings, parsed.bootstrap_servers)) is not None:
        await tail_kafka(options, request, _write)
        return
    if request.group is not None:
        raise ConfigurationError(
            "--group: an event log has no consumer groups; use it with --bootstrap-servers"
        )
    folder = settings.data_dir / "events"
    if not folder.is_dir():
        raise ConfigurationError(
            f"there is no event log in {settings.data_dir}; set --data-dir to the data directory,"
            " or --bootstrap-servers to Kafka"
        )
    await tail_log(folder, request, _write)


def _kafka(settings: SluiceSettings, bootstrap_servers: str | None) -> KafkaOptions | None:
    """Return the options of Kafka if the command line or the environment names it."""
    if bootstrap_servers is not None:
        return replace(settings.to_kafka_options(), bootstrap_servers=bootstrap_servers)
    named = "bootstrap_servers" in settings.kafka.model_fields_set
    return settings.to_kafka_options() if named or settings.events is Events.KAFKA else None


def _write(line: str) -> None:
    sys.stdout.write(line + "\n")
    # A program may read the lines as they come.
    sys.stdout.flush()


def _failed(text: str, code: int) -> int:
    sys.stderr.write(redact(f"sluice: {printable(text)}\n"))
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("sluice events", description="Inspect events.")
    commands = parser.add_subparsers(dest="command", required=True)
    tail = commands.add_parser(
        "tail",
        help="print events as they come, one JSON object per line",
        description="Print events, one JSON object per line: CloudEvents attributes and the data. "
        "They come from Kafka if --bootstrap-servers or SLUICE_KAFKA__BOOTSTRAP_SERVERS names "
        "it, else from the event log of this machine's server.",
    )
    tail.add_argument(
        "--topic",
        action="append",
        metavar="TOPIC",
        help=f"may be repeated; default: {UPLOADS_TOPIC} and {NODES_TOPIC}",
    )
    tail.add_argument(
        "--from",
        dest="start",
        choices=[start.value for start in Start],
        default=Start.LATEST.value,
        help="where to start (default: latest)",
    )
    tail.add_argument("--group", metavar="G", help="continue where this consumer group stopped")
    tail.add_argument("--count", type=_count, metavar="N", help="stop after N events")
    tail.add_argument("--no-follow", action="store_true", help="stop at the end of the log")
    tail.add_argument(
        "--bootstrap-servers",
        metavar="HOST:PORT,…",
        help="Kafka (SLUICE_KAFKA__BOOTSTRAP_SERVERS)",
    )
    tail.add_argument(
        "--data-dir",
        type=Path,
        metavar="DIR",
        help="data directory of the server (SLUICE_DATA_DIR)",
    )
    return parser


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("must be a whole number, at least 1")
    return int(text)
