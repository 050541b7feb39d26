"""A running deployment of one phase of the plan, on temporary backends.

Phases as in the table of README.md; events are on Kafka from phase 4 on.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import grpc

from bench.backends import setting, temporary_bucket, temporary_database, temporary_redis
from bench.identity import Identity
from bench.processes import Server, free_port, servers
from bench.slow_intake import SLOW_MS
from bench.slow_store import STORE_RATE
from bench.usage import Watched, listening
from sluice.repository.v1 import repository_pb2, repository_pb2_grpc

PHASES: Final = (1, 2, 3, 4, 5, 6)
TENANT: Final = "bench"
"""Tenant of the loads, where callers have to authenticate."""
_S3: Final = (
    "SLUICE_S3__ENDPOINT_URL",
    "SLUICE_S3__REGION",
    "SLUICE_S3__ACCESS_KEY",
    "SLUICE_S3__SECRET_KEY",
)
_COMMON: Final = {
    "SLUICE_INTAKE_ADDRESS": "127.0.0.1:0",
    "SLUICE_METRICS_ADDRESS": "127.0.0.1:0",
    "SLUICE_LOG_LEVEL": "warning",
}


@dataclass(frozen=True, slots=True)
class Deployment:
    """The processes of a deployment, and how to reach them.

    `settings`: of all its processes; they contain passwords, so keep them out of reports.
    `servers`: "intake" and, from phase 2 on, "repository". `backends`: the processes of "redis",
    "kafka", "s3", "mysql" that are in use on this machine. `drive`: the drive of the uploads;
    created where there is a catalogue. `token_file`: of the drive's tenant, where callers have to
    authenticate.
    """

    phase: int
    settings: Mapping[str, str]
    drive: str
    servers: Mapping[str, Server]
    backends: Mapping[str, Watched] = field(default_factory=dict)
    token_file: Path | None = None

    @property
    def intake(self) -> str:
        return self.servers["intake"].address

    @property
    def repository(self) -> str | None:
        return self.servers["repository"].address if "repository" in self.servers else None

    @property
    def token_arguments(self) -> Sequence[str]:
        """Arguments of a load that sends the token."""
        return () if self.token_file is None else ("--token-file", str(self.token_file))

    @property
    def watched(self) -> Mapping[str, Watched]:
        """Servers and backends together."""
        return {**self.servers, **self.backends}


def combination(phase: int) -> dict[str, str]:
    """Return the five settings that define a phase."""
    return {
        "SLUICE_COORDINATION": "memory" if phase < 3 else "redis",
        "SLUICE_CHUNK_TRANSPORT": {1: "local", 2: "direct"}.get(phase, "redis"),
        "SLUICE_OBJECTS": "discard" if phase < 5 else "s3",
        "SLUICE_EVENTS": "off" if phase < 4 else "kafka",
        "SLUICE_CATALOGUE": "off" if phase < 6 else "mysql",
    }


@contextmanager
def deployment(
    phase: int, identity: Identity | None = None, /, **settings: str
) -> Iterator[Deployment]:
    """Start the services of a phase; `settings` (SLUICE_…="…") override all others.

        with deployment(3) as sluice:
            load("bench.load.uploads", "--target", sluice.intake, "--drive", sluice.drive, …)

    With an identity, callers authenticate by its tokens; the drive belongs to the tenant `bench`.
    The processes start before the block; afterwards they are stopped and their data is deleted.
    Raise MissingBackendError.
    """
    if phase not in PHASES:
        raise ValueError(f"there is no phase {phase}")
    with ExitStack() as stack:
        drive = f"bench-{uuid.uuid4().hex[:8]}"
        repository = f"127.0.0.1:{free_port()}"
        chosen = {**_COMMON, "SLUICE_REPOSITORY_ADDRESS": repository, **combination(phase)}
        backends = _enter_backends(stack, {**chosen, **settings}, chosen)
        chosen |= settings
        token_file = None
        if identity is not None:
            chosen |= identity.settings
            token_file = identity.token_file(TENANT)
        programs: dict[str, Sequence[str]] = {}
        if chosen["SLUICE_CHUNK_TRANSPORT"] != "local":
            # Chosen before it listens, so that both can start concurrently.
            chosen["SLUICE_REPOSITORY_SERVER"] = chosen["SLUICE_REPOSITORY_ADDRESS"]
            programs["repository"] = ["-m", _repository(chosen)]
        programs["intake"] = _intake(chosen)
        started = stack.enter_context(servers([*programs.values()], chosen))
        running = dict(zip(programs, started, strict=True))
        if chosen["SLUICE_CATALOGUE"] != "off":
            create_drive(running["repository"].address, drive, token_file=token_file)
        yield Deployment(phase, chosen, drive, running, backends, token_file)


def _enter_backends(
    stack: ExitStack, combination: Mapping[str, str], chosen: dict[str, str]
) -> dict[str, Watched]:
    """Start the backends of the combination, add their addresses to `chosen`, return their
    processes.
    """
    backends: dict[str, Watched | None] = {}
    if combination["SLUICE_COORDINATION"] == "redis":
        redis = stack.enter_context(temporary_redis())
        chosen["SLUICE_REDIS__URL"] = redis.url
        backends["redis"] = redis.process
    if combination["SLUICE_EVENTS"] == "kafka":
        brokers = setting("SLUICE_KAFKA__BOOTSTRAP_SERVERS")
        chosen["SLUICE_KAFKA__BOOTSTRAP_SERVERS"] = brokers
        backends["kafka"] = listening(int(brokers.partition(",")[0].rpartition(":")[2]))
    if combination["SLUICE_OBJECTS"] == "s3":
        chosen |= {name: setting(name) for name in _S3}
        chosen["SLUICE_BUCKET"] = stack.enter_context(temporary_bucket(chosen))
        backends["s3"] = listening(urlsplit(chosen["SLUICE_S3__ENDPOINT_URL"]).port or 443)
    if combination["SLUICE_CATALOGUE"] == "mysql":
        url = setting("SLUICE_MYSQL__URL")
        chosen["SLUICE_MYSQL__URL"] = stack.enter_context(temporary_database(url))
        backends["mysql"] = listening(urlsplit(url).port or 3306)
    return {name: process for name, process in backends.items() if process is not None}


def _intake(chosen: dict[str, str]) -> list[str]:
    """Return the program of the intake, or the slowed one (bench/slow_intake.py)."""
    if not (slow := os.environ.get(SLOW_MS)):
        return ["-m", "sluice_intake"]
    chosen[SLOW_MS] = slow
    return ["-m", "bench.slow_intake"]


def _repository(chosen: Mapping[str, str]) -> str:
    """Return the program of the repository, or the one with a slow store (bench/slow_store.py)."""
    return "bench.slow_store" if STORE_RATE in chosen else "sluice_repository"


def create_drive(
    repository: str,
    name: str,
    policy: repository_pb2.DrivePolicy | None = None,
    *,
    token_file: Path | None = None,
) -> None:
    """Create a drive, with the server's default policy unless another one is given."""
    token = None if token_file is None else token_file.read_text(encoding="utf-8")
    metadata = None if token is None else (("authorization", f"Bearer {token}"),)
    with grpc.insecure_channel(repository) as channel:
        stub = repository_pb2_grpc.RepositoryServiceStub(channel)
        request = repository_pb2.CreateDriveRequest(name=name, policy=policy)
        stub.CreateDrive(request, metadata=metadata)
