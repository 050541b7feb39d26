"""Docker or podman, through the command line."""

from __future__ import annotations

import json
import os
import resource
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, Literal

from tools.backends.errors import ServiceError
from tools.backends.programs import cache_dir, run_step
from tools.images.polling import wait_until

CHOICE: Final = "SLUICE_CONTAINER_ENGINE"
REQUIRED: Final = "SLUICE_REQUIRE_CONTAINERS"
ASK_SECONDS: Final = 30.0
PULL_SECONDS: Final = 900.0
SOCKET_SECONDS: Final = 120.0
LINES: Final = 25
"""Lines of a failed command's output to show."""


@dataclass(frozen=True, slots=True)
class Engine:
    """A container engine. `environment`: added to this process's environment for its commands."""

    kind: Literal["docker", "podman"]
    program: str
    environment: Mapping[str, str]

    def run(self, *arguments: str, seconds: float = 120.0) -> str:
        """Return the command's output. Raise `ServiceError` with the end of its error output."""
        shown = " ".join([self.kind, *arguments[:2]])
        try:
            done = subprocess.run(
                [self.program, *arguments],
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=seconds,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise ServiceError(f"{shown} did not finish within {seconds:.0f} s") from error
        if done.returncode != 0:
            lines = [*done.stdout.splitlines(), *done.stderr.splitlines()][-LINES:]
            output = "\n".join(f"    {line}" for line in lines)
            raise ServiceError(f"{shown} failed with exit code {done.returncode}:\n{output}")
        return done.stdout

    def succeeds(self, *arguments: str, seconds: float = 60.0) -> bool:
        """Return whether the command exits with 0 in time."""
        try:
            self.run(*arguments, seconds=seconds)
        except ServiceError:
            return False
        return True

    def inspect(self, name: str) -> dict[str, Any]:
        """Return the engine's data of a container."""
        (container,) = json.loads(self.run("container", "inspect", name, seconds=ASK_SECONDS))
        return dict(container)

    def logs(self, name: str, lines: int = 30) -> str:
        """Return the end of a container's output, both streams."""
        command = [self.program, "logs", "--tail", str(lines), name]
        return run_step(command, ASK_SECONDS, environment={**os.environ, **self.environment})

    def has_image(self, name: str) -> bool:
        return self.succeeds("image", "inspect", name)

    def image_id(self, name: str) -> str:
        """Return an id, equal for two names of one image; the name where there is no image."""
        try:
            return self.run("image", "inspect", "--format", "{{.Id}}", name).split()[-1]
        except ServiceError:
            return name

    def pull(self, name: str) -> None:
        """Pull an image. Raise `ServiceError` when no registry is reachable or none has it."""
        self.run("pull", name, seconds=PULL_SECONDS)

    @contextmanager
    def serving_api(self) -> Iterator[dict[str, str]]:
        """Serve Docker's API.

        Yield the variables by which its clients and testcontainers find it.
        """
        if self.kind == "docker":
            yield {}
            return
        with TemporaryDirectory(prefix="sluice-podman-") as folder:
            place = Path(folder) / "podman.sock"
            command = [self.program, "system", "service", "--time=0", f"unix://{place}"]
            with subprocess.Popen(command, env={**os.environ, **self.environment}) as server:
                try:
                    wait_until(
                        lambda: _pings(place), SOCKET_SECONDS, "podman's API does not answer"
                    )
                    yield {
                        "DOCKER_HOST": f"unix://{place}",
                        # This process does not run inside Docker, so no such network applies.
                        "TESTCONTAINERS_CONNECTION_MODE": "docker_host",
                        # The cleanup container would need its image, and privileges.
                        "TESTCONTAINERS_RYUK_DISABLED": "true",
                    }
                finally:
                    server.terminate()


def find_engine() -> Engine:
    """Return the engine of SLUICE_CONTAINER_ENGINE, else the first of Docker and podman that
    answers.

    Raise `ServiceError` with the reasons if neither does.
    """
    requested = os.environ.get(CHOICE, "")
    if requested not in ("", "docker", "podman"):
        raise ServiceError(f"{CHOICE} is {requested!r}: set it to docker or podman, or unset it")
    reasons = []
    for engine in (_docker(), _podman()):
        if isinstance(engine, str):
            reasons.append(engine)
        elif not requested or engine.kind == requested:
            try:
                engine.run("info", seconds=ASK_SECONDS)
                return engine
            except ServiceError as error:
                reasons.append(str(error))
    raise ServiceError("no container engine answers: " + "; ".join(reasons))


def _pings(path: Path) -> bool:
    """Return whether the API answers: its socket exists before it does."""
    with closing(socket.socket(socket.AF_UNIX)) as connection:
        connection.settimeout(ASK_SECONDS)
        try:
            connection.connect(str(path))
            connection.sendall(b"GET /_ping HTTP/1.0\r\nHost: podman\r\n\r\n")
            return connection.recv(64).startswith((b"HTTP/1.0 200", b"HTTP/1.1 200"))
        except OSError:
            return False


def _docker() -> Engine | str:
    program = shutil.which("docker")
    return Engine("docker", program, {}) if program else "there is no docker on the PATH"


def _podman() -> Engine | str:
    program = shutil.which("podman")
    if program is None:
        return "there is no podman on the PATH (`python -m tools.images setup` installs it)"
    environment = {
        "CONTAINERS_CONF": str(_write_configuration()),
        # systemd timers would run the health checks; without them, `healthcheck run` does.
        "DISABLE_HC_SYSTEMD": "true",
    }
    return Engine("podman", program, environment)


def _write_configuration() -> Path:
    """Write podman's settings for a machine without systemd, which the defaults require."""
    runtime = next((name for name in ("crun", "runc") if shutil.which(name)), "runc")
    lines = [
        "[containers]",
        f"default_ulimits = {json.dumps(_limits())}",
        "[engine]",
        f'runtime = "{runtime}"',
        'cgroup_manager = "cgroupfs"',
        'events_logger = "file"',
        "",
    ]
    path = cache_dir() / "containers.conf"
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(f".{os.getpid()}")
    unfinished.write_text("\n".join(lines), encoding="utf-8")
    unfinished.replace(path)
    return path


def _limits() -> Sequence[str]:
    """Return limits within this process's own: podman's defaults fail where those are lower."""
    limits = {"nofile": (resource.RLIMIT_NOFILE, 65_536), "nproc": (resource.RLIMIT_NPROC, 32_768)}
    limited = []
    for name, (number, most) in limits.items():
        _, hard = resource.getrlimit(number)
        value = most if hard == resource.RLIM_INFINITY else min(most, hard)
        limited.append(f"{name}={value}:{value}")
    return limited
