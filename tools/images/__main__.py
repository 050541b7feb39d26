"""Build, run and check the images of Sluice.

python -m tools.images setup | images | check
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from tools.backends.errors import ServiceError
from tools.backends.progress import say
from tools.images.checks import check_healthy, check_kills, check_stop, check_traffic
from tools.images.compose import Service, images_of, read_services
from tools.images.engine import REQUIRED, Engine, find_engine
from tools.images.image_builds import bases_of, build, dockerfiles, obtain, tag_of
from tools.images.report import Report
from tools.images.setup import set_up
from tools.images.stack import stack_of
from tools.images.standalone import check_standalone
from tools.images.suites import MYSQL_NEWEST, run_container_suite, run_mysql_suites
from tools.images.traffic import Traffic

PARTS: Final = ("standalone", "stack", "suite", "mysql")
STACK: Final = (
    "deploy/compose.yaml starts, every service healthy",
    "a file of 50 MB and a photo, up and back",
    "every service killed while a file goes up",
    "every service ends on SIGTERM",
)
STANDALONE: Final = "the standalone image, and the command in it"
SUITE: Final = "tests/containers"


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    try:
        if options.command == "setup":
            set_up()
            return 0
        try:
            engine = find_engine()
        except ServiceError as error:
            return _without_engine(str(error))
        parts = PARTS if options.command == "check" else ()
        if options.command == "check" and options.only:
            parts = tuple(options.only)
        return _run(engine, parts)
    except ServiceError as error:
        sys.stderr.write(f"{error}\n")
        return 1


def _run(engine: Engine, parts: Sequence[str]) -> int:
    say("images", f"{engine.kind} at {engine.program}")
    services = read_services()
    report = Report()
    expected = _have_images(engine, services, report, mysql="mysql" in parts)
    if report.passed(*expected):
        _check(engine, services, report, parts)
    return report.finish([*expected, *_steps(engine, services, parts)])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.images", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("setup", help="install podman and mmdebstrap where allowed")
    commands.add_parser("images", help="obtain or build every image")
    check = commands.add_parser("check", help="the same, then every check on the images")
    check.add_argument("--only", action="append", choices=PARTS, help="these parts, not all")
    return parser


def _without_engine(reason: str) -> int:
    sys.stderr.write(f"{reason}\n")
    if os.environ.get(REQUIRED) == "1":
        return 1
    sys.stderr.write(f"SKIPPED: no image was checked ({REQUIRED}=1 makes this a failure)\n")
    return 0


def _have_images(
    engine: Engine, services: Sequence[Service], report: Report, *, mysql: bool
) -> list[str]:
    """Obtain and build the images. Return the names of the steps."""
    files = dockerfiles()
    steps = []
    for image in [*bases_of(files), *images_of(services), *([MYSQL_NEWEST] if mysql else [])]:
        steps.append(f"image {image}")
        with report.step(steps[-1]):
            say("images", f"{image}: {obtain(engine, image)}")
    for file in files:
        steps.append(f"build {tag_of(file)}")
        with report.step(steps[-1]):
            build(engine, file)
    return steps


def _check(
    engine: Engine, services: Sequence[Service], report: Report, parts: Sequence[str]
) -> None:
    if "standalone" in parts:
        with report.step(STANDALONE):
            check_standalone(engine)
    if "stack" in parts:
        with TemporaryDirectory(prefix="sluice-images-") as folder:
            _check_stack(engine, services, report, Path(folder))
    if "suite" in parts:
        with report.step(SUITE):
            run_container_suite(engine)
    if "mysql" in parts:
        for image in _mysql_images(engine, services):
            with report.step(_mysql_step(image)):
                run_mysql_suites(engine, image)


def _check_stack(engine: Engine, services: Sequence[Service], report: Report, folder: Path) -> None:
    stack = stack_of(engine, services)
    traffic = Traffic(folder)
    started, moved, killed, ended = STACK
    try:
        with report.step(started):
            stack.up()
            check_healthy(stack)
        if not report.passed(started):
            return
        with report.step(moved):
            check_traffic(traffic)
        if report.passed(moved):
            with report.step(killed):
                check_kills(stack, traffic)
        with report.step(ended):
            check_stop(stack)
    finally:
        stack.down()


def _steps(engine: Engine, services: Sequence[Service], parts: Sequence[str]) -> list[str]:
    return [
        *([STANDALONE] if "standalone" in parts else []),
        *(STACK if "stack" in parts else []),
        *([SUITE] if "suite" in parts else []),
        *(
            [_mysql_step(one) for one in _mysql_images(engine, services)]
            if "mysql" in parts
            else []
        ),
    ]


def _mysql_step(image: str) -> str:
    return f"the catalogue on {image}"


def _mysql_images(engine: Engine, services: Sequence[Service]) -> list[str]:
    """Return the distinct images: a stand-in is one server under two names."""
    (stacked,) = (one for one in images_of(services) if one.partition(":")[0] == "mysql")
    images: dict[str, str] = {}
    for image in (stacked, MYSQL_NEWEST):
        images.setdefault(engine.image_id(image), image)
    return list(images.values())


if __name__ == "__main__":
    sys.exit(main())
