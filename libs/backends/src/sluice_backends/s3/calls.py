"""One attempt at one S3 operation: its turn, its time limit, its metrics, its errors."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Any

from sluice_backends.s3.checksums import encoded
from sluice_backends.s3.client import S3Client
from sluice_backends.s3.convert import Answer
from sluice_backends.s3.errors import VENDOR_ERRORS, store_unavailable, to_store_error
from sluice_backends.s3.metrics import S3Metrics
from sluice_backends.s3.options import S3Options
from sluice_backends.s3.outgoing import OutgoingBody
from sluice_backends.s3.progress import StallTimeout
from sluice_core.errors import ResourceExhausted, SluiceError
from sluice_core.ports.object_store import Body
from sluice_core.uploads.model import MAX_BLOCK_BYTES

_UNASKED_BYTES = 4 * 1024 * 1024
"""Bodies up to this size may be sent in vain."""


class S3Calls:
    """Runs operations by the names they have in the client, e.g. `run("head_object", Bucket=…)`.

    Raises the port's errors; `Unavailable` STORE_UNAVAILABLE when the store stands still.
    """

    def __init__(self, client: S3Client, options: S3Options, metrics: S3Metrics | None) -> None:
        self._client = client
        self._options = options
        self._metrics = metrics
        self._turns = asyncio.Semaphore(options.max_connections)
        self._free_reads = options.max_reads
        self._taking: set[str] = set()
        """Buckets into which the last body went."""

    async def run(
        self, operation: str, *, stall_seconds: float | None = None, **parameters: Any
    ) -> Answer:
        async with self._turns:
            with self._observed(operation, parameters["Bucket"]):
                async with StallTimeout(stall_seconds or self._options.stall_timeout_seconds):
                    answer: Answer = await getattr(self._client, operation)(**parameters)
        return answer

    async def send(
        self, operation: str, body: Body, *, with_crc32c: bool, verify: bool, **parameters: Any
    ) -> Answer:
        """Send a body. What its source raises comes out unchanged.

        Args:
            with_crc32c: tell the store what to expect.
            verify: look for ourselves, too, because the store does not.
        """
        if with_crc32c:
            parameters["ChecksumCRC32C"] = encoded(body.crc32c)
        stall = StallTimeout(self._options.stall_timeout_seconds)
        bucket = parameters["Bucket"]
        async with self._turns:
            expects_continue = body.size > _UNASKED_BYTES or bucket not in self._taking
            outgoing = OutgoingBody(body, stall, verify=verify, expects_continue=expects_continue)
            with self._observed(operation, bucket, outgoing):
                try:
                    async with stall:
                        answer: Answer = await getattr(self._client, operation)(
                            Body=outgoing, ContentLength=body.size, **parameters
                        )
                except Exception:
                    # Looked into by the next attempt, which asks.
                    self._taking.discard(bucket)
                    raise
                finally:
                    await outgoing.settled()
        if not answer.get("ETag"):
            raise store_unavailable("confirmed nothing")
        self._taking.add(bucket)
        return answer

    async def receive(self, **parameters: Any) -> AsyncGenerator[bytes, None]:
        """The bytes of GetObject, in blocks of 1 MiB but for the last.

        Raises `ResourceExhausted` STORE_READS when there are enough readers already.
        """
        if self._free_reads == 0:
            raise ResourceExhausted(
                "STORE_READS",
                "Too many objects are being read at once; try again shortly.",
                retry_after_seconds=1.0,
            )
        self._free_reads -= 1
        try:
            with self._observed("get_object", parameters["Bucket"]):
                async with self._stalling():
                    answer: Answer = await self._client.get_object(**parameters)
            # Leaving by whichever way closes the connection, unless it was read to its end.
            async with answer["Body"] as stream:
                while True:
                    with self._translating(parameters["Bucket"]):
                        block = await self._block(stream)
                    if not block:
                        return
                    yield block
        finally:
            self._free_reads += 1

    async def _block(self, stream: Any) -> bytes:
        """One block: what the network brings is a tenth of it, and readers pay for each."""
        pieces: list[bytes] = []
        missing = MAX_BLOCK_BYTES
        async with self._stalling() as stall:
            while missing and (piece := await stream.read(missing)):
                pieces.append(piece)
                missing -= len(piece)
                stall.alive()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _stalling(self) -> StallTimeout:
        return StallTimeout(self._options.stall_timeout_seconds)

    @contextmanager
    def _observed(
        self, operation: str, bucket: str, outgoing: OutgoingBody | None = None
    ) -> Iterator[None]:
        began = time.perf_counter()
        try:
            with self._translating(bucket, outgoing):
                yield
        except SluiceError as error:
            if self._metrics is not None:
                self._metrics.errors.labels(operation, error.reason).inc()
            raise
        finally:
            if self._metrics is not None:
                self._metrics.seconds.labels(operation).observe(time.perf_counter() - began)

    @contextmanager
    def _translating(self, bucket: str, outgoing: OutgoingBody | None = None) -> Iterator[None]:
        try:
            yield
        except VENDOR_ERRORS as error:
            # The client reports a body that fails as a lost connection.
            if outgoing is not None and outgoing.failure is not None:
                raise outgoing.failure from None
            raise to_store_error(error, bucket) from error
