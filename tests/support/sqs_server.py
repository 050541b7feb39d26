"""SQS queues for tests on moto's server: one per pytest process."""

from __future__ import annotations

import atexit
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from itertools import count
from typing import Any

from aiobotocore.session import get_session  # type: ignore[import-untyped]
from pydantic import SecretStr

from sluice_backends.sqs.options import SqsOptions
from support.redis_server import free_port

_START_SECONDS = 60.0
_NUMBERS = count(1)
_KEY, _SECRET = "testing", "testing-secret"


class SqsServer:
    """The server as a separate process with queues in memory."""

    def __init__(self) -> None:
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start and wait until it answers; its port stays the same over restarts."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self._port)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("moto's server did not start")
            time.sleep(0.05)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.endpoint_url}/moto-api/data.json", timeout=5):
                return True
        except OSError:
            return False


@cache
def shared_server() -> SqsServer:
    """Return the server of this process, started on first use."""
    server = SqsServer()
    atexit.register(server.stop)
    server.start()
    return server


@asynccontextmanager
async def sqs_client(server: SqsServer) -> AsyncIterator[Any]:
    """Open a plain client to send messages and inspect queues."""
    async with get_session().create_client(
        "sqs",
        region_name="us-east-1",
        endpoint_url=server.endpoint_url,
        aws_access_key_id=_KEY,
        aws_secret_access_key=_SECRET,
    ) as client:
        yield client


@dataclass(frozen=True, slots=True)
class TestQueue:
    """A queue and its dead-letter queue."""

    __test__ = False

    client: Any
    url: str
    dead_url: str

    def options(self, *, wait_seconds: int = 1, visibility_seconds: int = 30) -> SqsOptions:
        return SqsOptions(
            self.url,
            access_key=SecretStr(_KEY),
            secret_key=SecretStr(_SECRET),
            wait_seconds=wait_seconds,
            visibility_seconds=visibility_seconds,
        )

    @property
    def settings(self) -> dict[str, str]:
        return {
            "SLUICE_SQS__QUEUE_URL": self.url,
            "SLUICE_SQS__ACCESS_KEY": _KEY,
            "SLUICE_SQS__SECRET_KEY": _SECRET,
            "SLUICE_SQS__WAIT_SECONDS": "1",
        }

    async def send(self, *bodies: str) -> None:
        for body in bodies:
            await self.client.send_message(QueueUrl=self.url, MessageBody=body)

    async def counts(self) -> tuple[int, int]:
        """Return the numbers of visible and of received, hidden messages."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = await self.client.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)
        visible, hidden = (int(answer["Attributes"][name]) for name in names)
        return visible, hidden

    async def dead(self) -> list[str]:
        """Return the bodies of the dead letters."""
        answer = await self.client.receive_message(
            QueueUrl=self.dead_url, MaxNumberOfMessages=10, VisibilityTimeout=0
        )
        return [message["Body"] for message in answer.get("Messages", ())]


@asynccontextmanager
async def new_queue(*, receives: int | None = 3) -> AsyncIterator[TestQueue]:
    """Create a queue for one test; `receives` until messages become dead letters (None: never)."""
    async with sqs_client(shared_server()) as client:
        name = f"notices-{next(_NUMBERS)}"
        dead_url = (await client.create_queue(QueueName=f"{name}-dead"))["QueueUrl"]
        facts = await client.get_queue_attributes(QueueUrl=dead_url, AttributeNames=["QueueArn"])
        policy = {
            "deadLetterTargetArn": facts["Attributes"]["QueueArn"],
            "maxReceiveCount": receives,
        }
        attributes = {} if receives is None else {"RedrivePolicy": json.dumps(policy)}
        url = (await client.create_queue(QueueName=name, Attributes=attributes))["QueueUrl"]
        try:
            yield TestQueue(client, url, dead_url)
        finally:
            await client.delete_queue(QueueUrl=url)
            await client.delete_queue(QueueUrl=dead_url)
