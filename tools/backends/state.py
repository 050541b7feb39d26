"""State directory: running services, their facts for tests, and locks for changes."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Final

from tools.backends.errors import ServiceError
from tools.backends.processes import ProcessMark
from tools.backends.service import Facts

ROOT: Final = Path(__file__).resolve().parents[2]
LOCATION: Final = "SLUICE_SERVICES_DIR"
LOCK_SECONDS: Final = 300.0


@dataclass(frozen=True, slots=True)
class Record:
    """One started server."""

    pid: int
    started: float
    ports: dict[str, int]
    facts: Facts

    @property
    def mark(self) -> ProcessMark:
        return ProcessMark(self.pid, self.started)


class StateDirectory:
    """`var/services`, or SLUICE_SERVICES_DIR."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def default(cls) -> StateDirectory:
        named = os.environ.get(LOCATION)
        return cls(Path(named).absolute() if named else ROOT / "var" / "services")

    @property
    def summary(self) -> Path:
        return self.path / "services.json"

    def home(self, service: str) -> Path:
        return self.path / service

    def create_home(self, service: str) -> Path:
        home = self.home(service)
        # The secrets of the services are stored there.
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        return home

    def record(self, service: str) -> Record | None:
        """Return what was started last; it may have ended since."""
        path = self.home(service) / "process.json"
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            return Record(fields["pid"], fields["started"], fields["ports"], fields["facts"])
        except FileNotFoundError:
            return None
        except (ValueError, KeyError) as error:
            raise ServiceError(
                f"{path} is damaged: stop the server by hand and remove it"
            ) from error

    def running(self, service: str) -> Record | None:
        """Return what was started last, if its process is alive."""
        record = self.record(service)
        return record if record is not None and record.mark.find() is not None else None

    def save(self, service: str, record: Record) -> None:
        replace(self.home(service) / "process.json", asdict(record))

    def forget(self, service: str) -> None:
        """Mark the service as stopped; keep its ports for the next start."""
        record = self.record(service)
        if record is not None:
            self.save(service, Record(0, 0.0, record.ports, {}))

    def publish(self, facts: Mapping[str, Facts]) -> None:
        """Write services.json for the tests; delete it without services."""
        if facts:
            replace(self.summary, facts)
        else:
            self.summary.unlink(missing_ok=True)

    def published(self) -> dict[str, Facts]:
        try:
            facts: dict[str, Facts] = json.loads(self.summary.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        return facts

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Hold the lock for starting and stopping. Raise `ServiceError` after a while."""
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "lock").open("w") as file:
            deadline = time.monotonic() + LOCK_SECONDS
            while not try_lock(file, fcntl.LOCK_EX):
                if time.monotonic() > deadline:
                    raise ServiceError(
                        f"another process has been changing {self.path} for {LOCK_SECONDS:.0f} s: "
                        "wait for it or end it"
                    )
                time.sleep(0.1)
            yield

    @contextmanager
    def using(self) -> Iterator[IO[str]]:
        """Hold a shared lock that keeps others from stopping the services that they started."""
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / "users").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            yield file


def is_only_user(users: IO[str]) -> bool:
    """Return whether no other process holds `using`; this releases the caller's own lock."""
    return try_lock(users, fcntl.LOCK_EX)


def try_lock(file: IO[str], kind: int) -> bool:
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def replace(path: Path, content: object) -> None:
    """Write JSON atomically, readable by the owner only."""
    unfinished = path.with_suffix(f".{os.getpid()}")
    unfinished.touch(mode=0o600)
    unfinished.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    unfinished.replace(path)
