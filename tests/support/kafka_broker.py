"""A Kafka broker per test that can be killed, paused and restarted."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from sluice_backends.kafka.options import KafkaOptions
from support import services
from tools.backends.errors import NotReadyError
from tools.backends.kafka import Kafka
from tools.backends.ports import PortPicker

_START_SECONDS = 120.0


class KafkaBroker:
    """One broker with its own data; its port stays the same over restarts.

    Skips the test if no real Kafka runs for tests, because none can be started here either.
    """

    def __init__(self, folder: Path) -> None:
        if services.kafka().kind != "apache":
            pytest.skip("only the Kafka mock runs here")
        self._service = Kafka(folder)
        self._launch = self._service.prepare(PortPicker(), {})
        self._process: subprocess.Popen[bytes] | None = None
        self.options = KafkaOptions(self._launch.facts["bootstrap_servers"], partitions=3)

    def configure(self, properties: Mapping[str, str]) -> None:
        """Add properties before the start; to lists (`listeners` and the like) add entries."""
        path = self._service.home / "server.properties"
        lines = [line.partition("=") for line in path.read_text(encoding="utf-8").splitlines()]
        given = {name: value for name, _, value in lines}
        for name, value in properties.items():
            given[name] = f"{given[name]},{value}" if name in given else value
        text = "".join(f"{name}={value}\n" for name, value in given.items())
        path.write_text(text, encoding="utf-8")

    async def start(self) -> None:
        """Start and wait until it answers."""
        self._process = self._spawn()
        async with asyncio.timeout(_START_SECONDS):
            while True:
                try:
                    await asyncio.to_thread(self._service.confirm, self._launch.facts)
                    return
                except NotReadyError:
                    assert self._process.poll() is None, self._service.log.read_text()
                    await asyncio.sleep(0.2)

    def kill(self) -> None:
        """Kill the broker like a crash."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def pause(self) -> None:
        """Stop the process: it keeps its connections and answers nothing."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self._service.log.open("ab") as log:
            return subprocess.Popen(
                self._launch.command,
                cwd=self._service.home,
                env={**os.environ, **self._launch.environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)
