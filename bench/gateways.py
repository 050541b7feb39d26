"""Replicas of the gateway on a deployment of phase 6, with a processor and a balancer."""

from __future__ import annotations

import asyncio
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.backends import MissingBackendError
from bench.deployment import deployment
from bench.event_groups import begin_at_the_end
from bench.processes import Server, free_port, server, servers
from bench.usage import Watched
from sluice_core.ports.event_publisher import NODES_TOPIC, UPLOADS_TOPIC

LIMITS: Final[Mapping[str, str]] = {
    "SLUICE_GATEWAY__JOBS_PER_MINUTE": "100000",
    "SLUICE_GATEWAY__PROGRESS_PER_SECOND": "100000",
    "SLUICE_GATEWAY__ADDRESS_GUESSES_PER_MINUTE": "100000",
}
"""Raised: a load has few users, from one address. They are still counted on every request."""


@dataclass(frozen=True, slots=True)
class Gateways:
    """Running gateways. `url`: of the balancer before them."""

    url: str
    replicas: Sequence[Server]
    database: Watched

    @property
    def first_url(self) -> str:
        """URL of one replica, without the balancer."""
        return f"http://{self.replicas[0].address}"

    @property
    def watched(self) -> Mapping[str, Watched]:
        """The replicas and the database."""
        named = {f"gateway {number}": each for number, each in enumerate(self.replicas, 1)}
        return {**named, "database": self.database}


@contextmanager
def gateways(replicas: int = 2) -> Iterator[Gateways]:
    """Run them on Redis, MariaDB, Kafka and S3 as users do: every request goes to the next replica.

    Raise MissingBackendError.
    """
    group = f"bench-{uuid.uuid4().hex[:8]}"
    with (
        tempfile.TemporaryDirectory(prefix="sluice-bench-gateway-") as scratch,
        deployment(
            6,
            SLUICE_PROCESSOR__GROUP=f"{group}-processor",
            SLUICE_GATEWAY__GROUP=f"{group}-gateway",
        ) as sluice,
    ):
        if (database := sluice.backends.get("mysql")) is None:
            raise MissingBackendError("the database is no process of this machine, or not visible")
        brokers = sluice.settings["SLUICE_KAFKA__BOOTSTRAP_SERVERS"]
        for name in ("processor", "gateway"):
            asyncio.run(begin_at_the_end(brokers, f"{group}-{name}", UPLOADS_TOPIC, NODES_TOPIC))
        address = f"127.0.0.1:{free_port()}"
        settings = {
            **sluice.settings,
            **LIMITS,
            "SLUICE_GATEWAY_ADDRESS": "127.0.0.1:0",
            "SLUICE_GATEWAY__PUBLIC_URL": f"http://{address}",
            "SLUICE_GATEWAY__KEYS_FILE": str(Path(scratch) / "keys.json"),
            "SLUICE_INTAKE_SERVER": sluice.intake,
        }
        programs = [["-m", "sluice_processor"], *[["-m", "sluice_gateway"]] * replicas]
        with servers(programs, settings) as (_, *running):
            addresses = [each.address for each in running]
            with server(["-m", "bench.balancer", *addresses, "--listen", address]):
                yield Gateways(f"http://{address}", running, database)
