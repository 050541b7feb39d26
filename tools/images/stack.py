"""All services of deploy/compose.yaml, run by Docker's Compose or one by one with podman."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Final

from tools.backends.errors import ServiceError
from tools.backends.progress import say
from tools.images.compose import FILE, Service
from tools.images.engine import Engine
from tools.images.polling import wait_until

PROJECT: Final = "sluice"
NETWORK: Final = "sluice_default"
UP_SECONDS: Final = 900.0
HEALTHY_SECONDS: Final = 180.0
STOP_SECONDS: Final = 120.0


class Stack(ABC):
    """The services as containers of one engine."""

    def __init__(self, engine: Engine, services: Sequence[Service]) -> None:
        self.engine = engine
        self.services = services

    @abstractmethod
    def up(self) -> None:
        """Start all services, each once its dependencies are healthy."""

    @abstractmethod
    def container(self, service: Service) -> str: ...

    @abstractmethod
    def is_healthy(self, service: Service) -> bool: ...

    @abstractmethod
    def down(self) -> None:
        """Remove containers, network and volumes."""

    def pid(self, service: Service) -> int:
        """Return the PID of its first process on the engine's machine; 0 when it does not run."""
        return int(self.engine.inspect(self.container(service))["State"]["Pid"])

    def exit_code(self, service: Service) -> int:
        return int(self.engine.inspect(self.container(service))["State"]["ExitCode"])

    def wait_healthy(self, service: Service) -> float:
        """Return the seconds until it was healthy. Raise `ServiceError` with the end of its log."""
        try:
            return wait_until(
                lambda: self.is_healthy(service),
                HEALTHY_SECONDS,
                f"{service.name} does not become healthy",
            )
        except ServiceError as error:
            checked = self.last_check(service)
            raise ServiceError(f"{error}: {checked}\n{self.log_tail(service)}") from error

    def last_check(self, service: Service) -> str:
        """Return the output of its last health check."""
        state = self.engine.inspect(self.container(service))["State"]
        health = state.get("Health") or state.get("Healthcheck") or {}
        outputs = [str(one["Output"]).strip() for one in health.get("Log") or ()]
        return outputs[-1] if outputs else "it printed nothing"

    def wait_all_healthy(self) -> None:
        for service in self.services:
            if service.checks_health:
                self.wait_healthy(service)

    def stop(self, service: Service) -> int:
        """Send SIGTERM, and SIGKILL after its grace period. Return its exit code."""
        self.engine.run("stop", self.container(service), seconds=STOP_SECONDS)
        return self.exit_code(service)

    def start(self, service: Service) -> None:
        self.engine.run("start", self.container(service))

    def log_tail(self, service: Service, lines: int = 30) -> str:
        return self.engine.logs(self.container(service), lines)


class ComposeStack(Stack):
    """Stack run by `docker compose`."""

    def up(self) -> None:
        self._compose("up", "--build", "--detach", "--quiet-pull", seconds=UP_SECONDS)

    def container(self, service: Service) -> str:
        return self._compose("ps", "--all", "--quiet", service.name).strip()

    def is_healthy(self, service: Service) -> bool:
        state = self.engine.inspect(self.container(service))["State"]
        return bool(state["Running"]) and state["Health"]["Status"] == "healthy"

    def down(self) -> None:
        self._compose("down", "--volumes", "--timeout", "30", seconds=UP_SECONDS)

    def _compose(self, *arguments: str, seconds: float = STOP_SECONDS) -> str:
        return self.engine.run("compose", "--file", str(FILE), *arguments, seconds=seconds)


class PodmanStack(Stack):
    """Stack run by `podman run`, in the order of `depends_on`.

    Debian's podman has no Compose, and without systemd it runs no health checks and no restarts:
    this class does what Compose would.
    """

    def up(self) -> None:
        self.down()
        self.engine.run("network", "create", NETWORK)
        for service in self.services:
            for name, condition in service.needs.items():
                self._wait_for(name, condition)
            say(service.name, f"starting from {service.image}")
            self.engine.run(*self._run_command(service))

    def container(self, service: Service) -> str:
        return f"{PROJECT}-{service.name}-1"

    def is_healthy(self, service: Service) -> bool:
        # Runs the check, as a systemd timer does elsewhere.
        return self.engine.succeeds("healthcheck", "run", self.container(service), seconds=30.0)

    def down(self) -> None:
        for service in reversed(self.services):
            name = self.container(service)
            self.engine.run("rm", "--force", "--ignore", "--time", "30", name)
        self.engine.succeeds("network", "rm", "--force", NETWORK)
        for volume in self._volumes():
            self.engine.succeeds("volume", "rm", "--force", volume)

    def _wait_for(self, name: str, condition: str) -> None:
        (service,) = (one for one in self.services if one.name == name)
        match condition:
            case "service_healthy":
                self.wait_healthy(service)
            case "service_completed_successfully":
                code = int(self.engine.run("wait", self.container(service)).split()[-1])
                if code != 0:
                    raise ServiceError(f"{name} failed with {code}:\n{self.log_tail(service)}")
            case other:
                raise ServiceError(f"{FILE.name}: the condition {other} is not understood")

    def _volumes(self) -> list[str]:
        named = {one.partition(":")[0] for service in self.services for one in service.volumes}
        return [f"{PROJECT}_{name}" for name in sorted(named)]

    def _run_command(self, service: Service) -> list[str]:
        return [
            "run",
            "--detach",
            "--pull=never",
            f"--name={self.container(service)}",
            f"--network={NETWORK}",
            f"--network-alias={service.name}",
            f"--restart={service.restart}",
            *service.options,
            *(f"--env={name}={value}" for name, value in service.environment.items()),
            *(f"--volume={PROJECT}_{volume}" for volume in service.volumes),
            *(f"--publish={port}" for port in service.ports),
            *_health_options(service),
            *([f"--entrypoint={json.dumps(service.entrypoint)}"] if service.entrypoint else []),
            f"localhost/{service.image}" if service.ours else service.image,
            *service.command,
        ]


def _health_options(service: Service) -> list[str]:
    if not service.health:
        return []
    kind, *words = service.health["test"]
    # Not in Compose's form: podman 4.3 splits a list that begins with CMD at its spaces.
    command = " ".join(words) if kind == "CMD-SHELL" else json.dumps(words)
    return [
        f"--health-cmd={command}",
        f"--health-interval={service.health['interval']}",
        f"--health-timeout={service.health['timeout']}",
        f"--health-retries={service.health['retries']}",
    ]


def stack_of(engine: Engine, services: Sequence[Service]) -> Stack:
    """Return the stack for the engine. Raise `ServiceError` where Docker lacks Compose."""
    if engine.kind == "podman":
        return PodmanStack(engine, services)
    if not engine.succeeds("compose", "version"):
        raise ServiceError("docker has no `compose`: install its plugin, or use podman")
    return ComposeStack(engine, services)
