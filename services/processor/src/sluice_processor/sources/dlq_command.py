"""`sluice-processor dlq list|replay|drop`: dead letters in Kafka or in a data directory."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from collections.abc import Mapping
from typing import Final

from sluice_common.backends.opening import as_configuration_error
from sluice_common.process.data_dir import DataDir
from sluice_common.settings import SluiceSettings
from sluice_core.combinations import Events
from sluice_core.configuration import ConfigurationError
from sluice_core.ports.event_publisher import UPLOADS_TOPIC
from sluice_processor.sources.log_dead_letters import LogDeadLetter, LogDeadLetters

SUBCOMMAND: Final = "dlq"


def add_dlq_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the `dlq` command to the parser of the service."""
    parser = commands.add_parser(SUBCOMMAND, help="list, replay or drop dead letters")
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|replay|drop")
    for name, text in (
        ("list", "print dead letters and their reasons, one JSON object per line"),
        ("replay", "process dead letters again, oldest first"),
        ("drop", "discard dead letters, oldest first"),
    ):
        action = actions.add_parser(name, help=text, description=text)
        action.add_argument("--count", type=_count, metavar="N", help="at most N dead letters")
        action.add_argument(
            "--topic",
            default=UPLOADS_TOPIC,
            help="Kafka topic that the dead letters come from, e.g. that of S3 notifications"
            " (default: %(default)s)",
        )


async def dlq_main(settings: SluiceSettings, arguments: argparse.Namespace) -> None:
    """Run the command. Raise `ConfigurationError` if there can be no dead letters."""
    match settings.events:
        case Events.KAFKA:
            await _kafka(settings, arguments.topic, arguments.action, arguments.count)
        case Events.LOG:
            letters = LogDeadLetters(DataDir(settings.data_dir).processor)
            await asyncio.to_thread(_log, letters, arguments.action, arguments.count)
        case Events.OFF:
            raise ConfigurationError(
                "SLUICE_EVENTS=off: there are no events, and so no dead letters; set SLUICE_EVENTS"
            )


async def _kafka(settings: SluiceSettings, topic: str, action: str, count: int | None) -> None:
    from sluice_processor.sources.kafka_dead_letters import open_dead_letters

    options, group = settings.to_kafka_options(), settings.processor.group
    with as_configuration_error("SLUICE_KAFKA__BOOTSTRAP_SERVERS"):
        async with open_dead_letters(options, topic, group) as letters:
            done = 0
            async for letter in letters.unsettled():
                if done == count:
                    break
                if action == "replay":
                    await letters.replay(letter)
                elif action == "drop":
                    await letters.drop(letter)
                _write(letter.facts)
                done += 1


def _log(letters: LogDeadLetters, action: str, count: int | None) -> None:
    for letter in letters.letters()[:count]:
        if action == "replay":
            letters.replay(letter.record.event_id)
        elif action == "drop":
            letters.drop(letter.record.event_id)
        _write(_facts(letter))


def _facts(letter: LogDeadLetter) -> dict[str, str]:
    return {
        "id": letter.record.event_id,
        "type": letter.record.type,
        "subject": letter.record.key,
        "sluicetenant": letter.record.tenant,
        "reason": letter.cause.reason,
        "detail": letter.cause.detail,
        "attempts": str(letter.cause.attempts),
        "topic": letter.record.topic,
        "time": letter.time,
    }


def _write(facts: Mapping[str, str]) -> None:
    # In ASCII: JSON alone leaves C1 controls and DEL as they are, which terminals obey.
    sys.stdout.write(json.dumps(facts) + "\n")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("must be a whole number, at least 1")
    return int(text)
