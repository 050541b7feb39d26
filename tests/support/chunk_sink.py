"""A ChunkSinkService for tests, in this process or in one that can be killed.

`python -m support.chunk_sink PORT` writes its port and serves until it is killed.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc.aio

from sluice_common.direct.channel import direct_channel
from sluice_common.direct.chunks import DirectChunkStore
from sluice_common.direct.options import DirectOptions
from sluice_common.rpc.interceptors import server_layers
from sluice_common.rpc.server import build_server
from sluice_common.security.authentication import Authenticator, LocalAuthenticator
from sluice_common.settings.rpc_options import ServerOptions
from sluice_repository.metrics import RepositoryMetrics
from sluice_repository.rpc.chunk_sink import add_chunk_sink
from support.environment import process_environment

_TESTS = Path(__file__).parents[1]
_METHOD = {
    "grpc_type": "bidi_stream",
    "grpc_service": "sluice.repository.v1.ChunkSinkService",
    "grpc_method": "PutChunks",
}


@dataclass(frozen=True, slots=True)
class Sink:
    """A running service in this process."""

    server: grpc.aio.Server
    address: str
    metrics: RepositoryMetrics
    stop: asyncio.Event

    def count(self, outcome: str = "ACCEPTED") -> float:
        """Return the number of chunks with this outcome."""
        return self._sample("sluice_sink_chunks_total", outcome=outcome)

    @property
    def bytes(self) -> float:
        return self._sample("sluice_sink_bytes_total")

    @property
    def given_up(self) -> float:
        """Number of incomplete chunks.

        gRPC shows a cancelled call to the handler as a cancellation or as the end of the stream.
        """
        return self.count("CHUNK_INCOMPLETE") + self.count("CANCELLED")

    @property
    def streams(self) -> float:
        """Number of opened streams."""
        return self._sample("grpc_server_started_total", **_METHOD)

    @property
    def ended_streams(self) -> float:
        """Number of completed and cancelled streams."""
        return sum(
            self._sample("grpc_server_handled_total", **_METHOD, grpc_code=code)
            for code in ("OK", "CANCELLED")
        )

    @property
    def messages(self) -> float:
        """Number of received messages."""
        return self._sample("grpc_server_msg_received_total", **_METHOD)

    def _sample(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0


@asynccontextmanager
async def running_sink(
    port: int = 0, max_chunk_bytes: int = 2**26, authenticator: Authenticator | None = None
) -> AsyncIterator[Sink]:
    """Serve ChunkSinkService on a loopback port."""
    metrics, stop = RepositoryMetrics(), asyncio.Event()
    layers = server_layers(metrics.rpc, authenticator or LocalAuthenticator())
    server = build_server(ServerOptions(), [layers])
    add_chunk_sink(server, metrics, stop, max_chunk_bytes)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield Sink(server, f"127.0.0.1:{port}", metrics, stop)
    finally:
        await server.stop(None)


@asynccontextmanager
async def direct_store(
    target: str, options: DirectOptions | None = None
) -> AsyncIterator[DirectChunkStore]:
    """Open the intake's end of the transport."""
    async with direct_channel(target) as channel, DirectChunkStore(channel, options) as store:
        yield store


class SinkProcess:
    """A separate repository process. Its port stays the same over restarts."""

    def __init__(self) -> None:
        self.port = 0
        self._process: subprocess.Popen[str] | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "the repository is not running"
        return self._process.pid

    def start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "support.chunk_sink", str(self.port)],
            cwd=_TESTS,
            env=process_environment({}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the repository did not start"
        self.port = int(line)

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        assert self._process is not None
        assert self._process.stdout is not None
        self._process.kill()
        self._process.wait(20)
        self._process.stdout.close()
        self._process = None

    def close(self) -> None:
        if self._process is not None:
            self.kill()


async def _main(port: int) -> None:
    async with running_sink(port) as sink:
        sys.stdout.write(f"{sink.address.rpartition(':')[2]}\n")
        sys.stdout.flush()
        await sink.server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(_main(int(sys.argv[1])))
