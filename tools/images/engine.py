"""Docker or podman: found, asked, and spoken to through its command line."""

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
from tools.backends.installing import cache_dir, run_step
from tools.images.waiting import wait_until

CHOICE: Final = "SLUICE_CONTAINER_ENGINE"
REQUIRED: Final = "SLUICE_REQUIRE_CONTAINERS"
ASK_SECONDS: Final = 30.0
PULL_SECONDS: Final = 900.0
SOCKET_SECONDS: Final = 120.0
LINES: Final = 25
"""Of what a command that failed has printed."""


@dataclass(frozen=True, slots=True)
class Engine:
    """`environment`: what its command line needs beside this process's own."""

    kind: Literal["docker", "podman"]
    program: str
    environment: Mapping[str, str]

    def run(self, *arguments: str, seconds: float = 120.0) -> str:
        """What the command printed. Raises `ServiceError` with the end of its complaints."""
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
            said = "\n".join(f"    {line}" for line in lines)
            raise ServiceError(f"{shown} failed with exit code {done.returncode}:\n{said}")
        return done.stdout

    def succeeds(self, *arguments: str, seconds: float = 60.0) -> bool:
        """Whether the command ends with 0; one that hangs does not."""
        try:
            self.run(*arguments, seconds=seconds)
        except ServiceError:
            return False
        return True

    def inspect(self, name: str) -> dict[str, Any]:
        """Everything that is known of a container."""
        (found,) = json.loads(self.run("container", "inspect", name, seconds=ASK_SECONDS))
        return dict(found)

    def logs(self, name: str, lines: int = 30) -> str:
        """The end of what a container has printed, on both of its outputs."""
        command = [self.program, "logs", "--tail", str(lines), name]
        return run_step(command, ASK_SECONDS, environment={**os.environ, **self.environment})

    def has_image(self, name: str) -> bool:
        return self.succeeds("image", "inspect", name)

    def image_id(self, name: str) -> str:
        """Equal for two names of one image; the name itself where there is none."""
        try:
            return self.run("image", "inspect", "--format", "{{.Id}}", name).split()[-1]
        except ServiceError:
            return name

    def pull(self, name: str) -> None:
        """Raises `ServiceError` when no registry can be reached or none has it."""
        self.run("pull", name, seconds=PULL_SECONDS)

    @contextmanager
    def serving_api(self) -> Iterator[dict[str, str]]:
        """Docker's API; the variables by which its clients and testcontainers find it."""
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
                        # There is no Docker around us whose network could be meant.
                        "TESTCONTAINERS_CONNECTION_MODE": "docker_host",
                        # The container that tidies up would need its image, and privileges.
                        "TESTCONTAINERS_RYUK_DISABLED": "true",
                    }
                finally:
                    server.terminate()


def find_engine() -> Engine:
    """What SLUICE_CONTAINER_ENGINE says, else Docker or podman, whichever answers first.

    Raises `ServiceError` that says why neither does.
    """
    wanted = os.environ.get(CHOICE, "")
    if wanted not in ("", "docker", "podman"):
        raise ServiceError(f"{CHOICE} is {wanted!r}: set it to docker or podman, or unset it")
    reasons = []
    for engine in (_docker(), _podman()):
        if isinstance(engine, str):
            reasons.append(engine)
        elif not wanted or engine.kind == wanted:
            try:
                engine.run("info", seconds=ASK_SECONDS)
                return engine
            except ServiceError as error:
                reasons.append(str(error))
    raise ServiceError("no container engine answers: " + "; ".join(reasons))


def _pings(path: Path) -> bool:
    """Whether the API answers: its socket is there before it does."""
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
        # Timers of systemd would run the health checks; `healthcheck run` asks for them here.
        "DISABLE_HC_SYSTEMD": "true",
    }
    return Engine("podman", program, environment)


def _write_configuration() -> Path:
    """podman's settings for a machine without systemd, which the defaults count on."""
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
    """At most what this process may have itself: podman's own wish fails where that is less."""
    limits = {"nofile": (resource.RLIMIT_NOFILE, 65_536), "nproc": (resource.RLIMIT_NPROC, 32_768)}
    said = []
    for name, (number, most) in limits.items():
        _, hard = resource.getrlimit(number)
        value = most if hard == resource.RLIM_INFINITY else min(most, hard)
        said.append(f"{name}={value}:{value}")
    return said
