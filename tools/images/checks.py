"""What has to hold of the stack of deploy/compose.yaml while it runs and when it ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from typing import Final

from tools.backends.errors import ServiceError
from tools.backends.reporting import say
from tools.images.compose import Service
from tools.images.engine import Engine
from tools.images.stack import Stack
from tools.images.traffic import Traffic
from tools.images.waiting import wait_until

LARGE_BYTES: Final = 50_000_000
SMALL_BYTES: Final = 12_000_000
KILLED_SECONDS: Final = 60.0
KILLED: Final = 137
"""The exit code of what had to be killed after its time of grace."""


def check_healthy(stack: Stack) -> None:
    """Every service that runs says that it is healthy; what ends has ended well."""
    for service in stack.services:
        if service.checks_health:
            stack.wait_healthy(service)
        elif (code := stack.exit_code(service)) != 0:
            raise ServiceError(f"{service.name} ended with {code}:\n{stack.log_tail(service)}")


def check_traffic(traffic: Traffic) -> None:
    """A large file goes up and comes back; so does a photo, with what the processor made of it."""
    traffic.create_drive()
    large = traffic.make_file("large.bin", LARGE_BYTES)
    traffic.upload(large)
    traffic.compare(large)
    traffic.photo("first.jpg")


def check_kills(stack: Stack, traffic: Traffic) -> None:
    """Every service is killed while a file goes up: the file arrives, and so do those before."""
    for service in _running(stack.services):
        file = traffic.make_file(f"killed-{service.name}.bin", SMALL_BYTES)
        upload = traffic.start_upload(file)
        kill(stack, service)
        took = stack.wait_healthy(service)
        say(service.name, f"killed; healthy again after {took:.1f} s")
        traffic.finish(upload)
        traffic.compare(file)
    stack.wait_all_healthy()
    traffic.compare(traffic.folder / "large.bin")
    traffic.photo("last.jpg")


def kill(stack: Stack, service: Service) -> None:
    """kill -9 of its first process; it runs again by its restart policy, or is started by us."""
    pid = stack.pid(service)
    if pid == 0:
        raise ServiceError(f"{service.name} does not run")
    _kill_on_host(stack.engine, pid)
    if service.restart == "no":
        # Engines count what they did not do themselves as an end, so it has ended by itself.
        wait_until(lambda: stack.pid(service) == 0, KILLED_SECONDS, f"{service.name} survives")
        stack.start(service)
    wait_until(
        lambda: stack.pid(service) not in (0, pid),
        KILLED_SECONDS,
        f"{service.name} is not started again",
    )


def check_stop(stack: Stack) -> None:
    """On SIGTERM every service ends in its time of grace, ours with 0."""
    for service in reversed(_running(stack.services)):
        code = stack.stop(service)
        if code == KILLED or (service.ours and code != 0):
            raise ServiceError(
                f"{service.name} ended with {code} on SIGTERM:\n{stack.log_tail(service)}"
            )


def _running(services: Sequence[Service]) -> list[Service]:
    return [service for service in services if service.checks_health]


def _kill_on_host(engine: Engine, pid: int) -> None:
    # Not `kill` of the engine: that counts as a wish that the service stays away.
    try:
        os.kill(pid, signal.SIGKILL)
    except (PermissionError, ProcessLookupError):
        # The engine's processes are not ours, or are on a machine of its own.
        script = f"import os, signal; os.kill({pid}, signal.SIGKILL)"
        engine.run(
            *("run", "--rm", "--pid=host", "--user=0", "--cap-add=KILL", "--entrypoint=python"),
            *("sluice-intake", "-c", script),
        )
