"""`sluice-processor dlq list|replay|drop`: what was given up, on Kafka or in a data directory."""

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
from sluice_processor.sources.log_dead_letters import LogLetter, LogLetters

SUBCOMMAND: Final = "dlq"


def add_letters_command(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add `dlq` to the command line of the service."""
    parser = commands.add_parser(SUBCOMMAND, help="what was given up: list it, replay it, drop it")
    actions = parser.add_subparsers(dest="action", required=True, metavar="list|replay|drop")
    for name, text in (
        ("list", "print what was given up and why, one JSON object a line"),
        ("replay", "have it tried again, oldest first"),
        ("drop", "forget it, oldest first"),
    ):
        action = actions.add_parser(name, help=text, description=text)
        action.add_argument("--count", type=_count, metavar="N", help="at most so many")
        action.add_argument(
            "--topic",
            default=UPLOADS_TOPIC,
            help="what was given up of this topic of Kafka, e.g. that of S3 notifications"
            " (default: %(default)s)",
        )


async def letters_main(settings: SluiceSettings, arguments: argparse.Namespace) -> None:
    """Run the command. Raises `ConfigurationError` where there can be no letters."""
    match settings.events:
        case Events.KAFKA:
            await _kafka(settings, arguments.topic, arguments.action, arguments.count)
        case Events.LOG:
            letters = LogLetters(DataDir(settings.data_dir).processor)
            await asyncio.to_thread(_log, letters, arguments.action, arguments.count)
        case Events.OFF:
            raise ConfigurationError("SLUICE_EVENTS=off: there are no events to give up")


async def _kafka(settings: SluiceSettings, topic: str, action: str, count: int | None) -> None:
    from sluice_processor.sources.kafka_dead_letters import open_letters

    options, group = settings.to_kafka_options(), settings.processor.group
    with as_configuration_error("SLUICE_KAFKA__BOOTSTRAP_SERVERS"):
        async with open_letters(options, topic, group) as letters:
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


def _log(letters: LogLetters, action: str, count: int | None) -> None:
    for letter in letters.letters()[:count]:
        if action == "replay":
            letters.replay(letter.record.event_id)
        elif action == "drop":
            letters.drop(letter.record.event_id)
        _write(_facts(letter))


def _facts(letter: LogLetter) -> dict[str, str]:
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
    sys.stdout.write(json.dumps(facts, ensure_ascii=False) + "\n")


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError("must be a number from 1 on")
    return int(text)
