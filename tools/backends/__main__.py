"""The command line of `tools/services.py`."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from typing import Final

from tools.backends.environment import shell_lines
from tools.backends.errors import ChoiceError, ServiceError
from tools.backends.peers import PEERS, get
from tools.backends.progress import say
from tools.backends.state import LOCATION, StateDirectory, is_only_user
from tools.backends.supervisor import SERVICES, described, down, status, up

INTERRUPTED: Final = 130
"""128 plus the number of SIGINT, the convention of shells."""


def run(state: StateDirectory, command: Sequence[str]) -> int:
    """Run the command with the services up; afterwards stop those that this call started."""
    with state.using() as users:
        before = {name for name in SERVICES if state.running(name)}
        try:
            up_where_possible(state)
            return run_command(command, state)
        finally:
            started = [name for name in SERVICES if name not in before and state.running(name)]
            if started and is_only_user(users):
                down(state, started)
            elif started:
                say("all", "left running: another command uses them")


def up_where_possible(state: StateDirectory) -> None:
    """Start all services.

    Report and skip those that this machine lacks; in CI, where a test must not be skipped for a
    missing service, and for a service that was requested by name, raise.
    """
    try:
        up(state, SERVICES)
    except ChoiceError:
        raise
    except ServiceError as error:
        if os.environ.get("SLUICE_REQUIRE_SERVICES") == "1":
            raise
        print(error, file=sys.stderr)
        say("all", "going on without what did not start")


def run_command(command: Sequence[str], state: StateDirectory) -> int:
    environment = {**os.environ, LOCATION: str(state.path)}
    try:
        process = subprocess.Popen(command, env=environment)
    except OSError as error:
        raise ServiceError(f"{command[0]} cannot be started: {error.strerror}") from error
    # Ctrl-C goes to the whole foreground group: the command ends first, then we stop what we
    # started. SIGTERM goes to this process alone and is forwarded.
    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, signal.SIG_IGN),
        signal.SIGTERM: signal.signal(signal.SIGTERM, lambda *_: process.terminate()),
    }
    try:
        code = process.wait()
        return code if code >= 0 else 128 - code
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def show_status(state: StateDirectory) -> int:
    """Print a line per service. Return exit code 1 unless all of them answer."""
    answers = status(state)
    for name, facts in answers.items():
        if facts is not None:
            print(f"{name:<6} {described(facts)}")
        elif state.running(name):
            print(f"{name:<6} runs and does not answer; see {state.home(name) / 'server.log'}")
        else:
            print(f"{name:<6} does not run")
    return 0 if None not in answers.values() else 1


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="services.py",
        description="A real Redis, MariaDB, Apache Kafka and S3 server on this machine.",
        epilog="SLUICE_SERVICES_TLS=1 starts them with TLS alone.",
    )
    commands = parser.add_subparsers(dest="action", required=True, metavar="COMMAND")
    for name, text in (
        ("up", "start what does not run, wait until it answers, print the settings"),
        ("down", "stop what runs; the data stays"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("names", nargs="*", metavar="SERVICE", help=", ".join(SERVICES))
        if name == "down":
            command.add_argument("--wipe", action="store_true", help="remove the data as well")
    commands.add_parser("status", help="what runs and answers")
    commands.add_parser("env", help='print the settings, for eval "$(… env)"')
    command = commands.add_parser("run", help="run a command with all services up")
    command.add_argument("command", nargs=argparse.REMAINDER, metavar="COMMAND")
    command = commands.add_parser("get", help="fetch or build servers to choose besides")
    command.add_argument("names", nargs="*", metavar="PEER", help=", ".join(PEERS))
    parsed = parser.parse_args(arguments)
    known, what = (PEERS, "peer") if parsed.action == "get" else (SERVICES, "service")
    unknown = [name for name in getattr(parsed, "names", []) if name not in known]
    if unknown:
        parser.error(f"there is no {what} {unknown[0]!r}; there are {', '.join(known)}")
    if parsed.action == "run":
        parsed.command = parsed.command[parsed.command[:1] == ["--"] :]
        if not parsed.command:
            parser.error("run what? services.py run -- COMMAND")
    return parsed


def main(arguments: Sequence[str]) -> int:
    parsed = parse(arguments)
    state = StateDirectory.default()
    try:
        match parsed.action:
            case "up":
                up(state, parsed.names or SERVICES)
                print(shell_lines(state.published()))
            case "down":
                down(state, parsed.names or SERVICES, wipe=parsed.wipe)
            case "get":
                get(parsed.names)
            case "env":
                print(shell_lines(state.published()))
            case "status":
                return show_status(state)
            case "run":
                return run(state, parsed.command)
    except ServiceError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; `services.py down` stops what was started", file=sys.stderr)
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
