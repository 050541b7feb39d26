"""Checks of the stack of deploy/compose.yaml, running and stopping."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from typing import Final

from tools.backends.errors import ServiceError
from tools.backends.progress import say
from tools.images.compose import Service
from tools.images.engine import Engine
from tools.images.polling import wait_until
from tools.images.stack import Stack
from tools.images.traffic import Traffic

LARGE_BYTES: Final = 50_000_000
SMALL_BYTES: Final = 12_000_000
KILLED_SECONDS: Final = 60.0
KILLED: Final = 137
"""Exit code of a process that was killed after its grace period."""


def check_healthy(stack: Stack) -> None:
    """Check that every running service is healthy, and every finished one succeeded."""
    for service in stack.services:
        if service.checks_health:
            stack.wait_healthy(service)
        elif (code := stack.exit_code(service)) != 0:
            raise ServiceError(f"{service.name} ended with {code}:\n{stack.log_tail(service)}")


def check_traffic(traffic: Traffic) -> None:
    """Upload and download a large file and photos, and check the processor's results."""
    traffic.create_drive()
    large = traffic.make_file("large.bin", LARGE_BYTES)
    traffic.upload(large)
    traffic.compare(large)
    traffic.photo("first.jpg")
    traffic.photo_over_http("first.jpg")


def check_kills(stack: Stack, traffic: Traffic) -> None:
    """Kill every service during an upload: this file and the earlier ones must arrive."""
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
    traffic.photo_over_http("last.jpg")


def kill(stack: Stack, service: Service) -> None:
    """Kill the first process of a service with SIGKILL.

    Its restart policy restarts it, or this does.
    """
    pid = stack.pid(service)
    if pid == 0:
        raise ServiceError(f"{service.name} does not run")
    _kill_on_host(stack.engine, pid)
    if service.restart == "no":
        # To the engine, a kill from outside is an exit of the process: wait for it.
        wait_until(lambda: stack.pid(service) == 0, KILLED_SECONDS, f"{service.name} survives")
        stack.start(service)
    wait_until(
        lambda: stack.pid(service) not in (0, pid),
        KILLED_SECONDS,
        f"{service.name} is not started again",
    )


def check_stop(stack: Stack) -> None:
    """Stop every service with SIGTERM: each ends within its grace period, ours with code 0."""
    for service in reversed(_running(stack.services)):
        code = stack.stop(service)
        if code == KILLED or (service.ours and code != 0):
            raise ServiceError(
                f"{service.name} ended with {code} on SIGTERM:\n{stack.log_tail(service)}"
            )


def _running(services: Sequence[Service]) -> list[Service]:
    return [service for service in services if service.checks_health]


def _kill_on_host(engine: Engine, pid: int) -> None:
    # Not the engine's `kill`: it disables the restart policy.
    try:
        os.kill(pid, signal.SIGKILL)
    except (PermissionError, ProcessLookupError):
        # The engine's processes belong to another user or run on another machine.
        script = f"import os, signal; os.kill({pid}, signal.SIGKILL)"
        engine.run(
            *("run", "--rm", "--pid=host", "--user=0", "--cap-add=KILL", "--entrypoint=python"),
            *("sluice-intake", "-c", script),
        )
