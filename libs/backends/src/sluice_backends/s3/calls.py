"""Single attempts of S3 operations: concurrency limit, timeout, metrics and error translation."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Any

from sluice_backends.s3.checksums import encode_crc32c
from sluice_backends.s3.client import S3Client
from sluice_backends.s3.conversions import Response
from sluice_backends.s3.errors import VENDOR_ERRORS, store_unavailable, to_store_error
from sluice_backends.s3.metrics import S3Metrics
from sluice_backends.s3.options import S3Options
from sluice_backends.s3.request_body import RequestBody
from sluice_backends.s3.stall_timeout import StallTimeout
from sluice_core.errors import ResourceExhausted, SluiceError
from sluice_core.ports.object_store import Body
from sluice_core.uploads.model import MAX_BLOCK_BYTES

_MAX_BYTES_WITHOUT_EXPECT = 4 * 1024 * 1024
"""Largest body sent without `Expect: 100-continue`."""


class S3Calls:
    """Runner of client operations by name, e.g. `run("head_object", Bucket=…)`.

    Raises the errors of the port; `Unavailable` STORE_UNAVAILABLE when the store stalls.
    """

    def __init__(self, client: S3Client, options: S3Options, metrics: S3Metrics | None) -> None:
        self._client = client
        self._options = options
        self._metrics = metrics
        self._slots = asyncio.Semaphore(options.max_connections)
        self._free_reads = options.max_reads
        self._accepting_buckets: set[str] = set()
        """Buckets that accepted the last body."""

    async def run(
        self, operation: str, *, stall_seconds: float | None = None, **parameters: Any
    ) -> Response:
        async with self._slots:
            with self._observe(operation, parameters["Bucket"]):
                async with StallTimeout(stall_seconds or self._options.stall_timeout_seconds):
                    response: Response = await getattr(self._client, operation)(**parameters)
        return response

    async def send(
        self, operation: str, body: Body, *, with_crc32c: bool, verify: bool, **parameters: Any
    ) -> Response:
        """Send a body. Errors of its source are raised unchanged.

        Args:
            with_crc32c: send the CRC32C in a header.
            verify: verify the CRC32C locally, for a store that does not.
        """
        if with_crc32c:
            parameters["ChecksumCRC32C"] = encode_crc32c(body.crc32c)
        stall = StallTimeout(self._options.stall_timeout_seconds)
        bucket = parameters["Bucket"]
        async with self._slots:
            expects_continue = (
                body.size > _MAX_BYTES_WITHOUT_EXPECT or bucket not in self._accepting_buckets
            )
            request_body = RequestBody(
                body, stall, verify=verify, expects_continue=expects_continue
            )
            with self._observe(operation, bucket, request_body):
                try:
                    async with stall:
                        response: Response = await getattr(self._client, operation)(
                            Body=request_body, ContentLength=body.size, **parameters
                        )
                except Exception:
                    # The next attempt sends `Expect` and so learns the reason.
                    self._accepting_buckets.discard(bucket)
                    raise
                finally:
                    await request_body.wait_idle()
        if not response.get("ETag"):
            raise store_unavailable("sent no confirmation")
        self._accepting_buckets.add(bucket)
        return response

    async def receive(self, **parameters: Any) -> AsyncGenerator[bytes, None]:
        """Yield the bytes of GetObject, in blocks of 1 MiB except for the last.

        Raises `ResourceExhausted` STORE_READS at the limit of concurrent reads.
        """
        if self._free_reads == 0:
            raise ResourceExhausted(
                "STORE_READS",
                "Too many objects are being read at once; try again shortly.",
                retry_after_seconds=1.0,
            )
        self._free_reads -= 1
        try:
            with self._observe("get_object", parameters["Bucket"]):
                async with self._stall_timeout():
                    response: Response = await self._client.get_object(**parameters)
            # Every exit closes the connection, unless the body was read completely.
            async with response["Body"] as stream:
                while True:
                    with self._translate_errors(parameters["Bucket"]):
                        block = await self._read_block(stream)
                    if not block:
                        return
                    yield block
        finally:
            self._free_reads += 1

    async def _read_block(self, stream: Any) -> bytes:
        """Return one block. A network read is about a tenth of it, and readers pay per block."""
        pieces: list[bytes] = []
        missing = MAX_BLOCK_BYTES
        async with self._stall_timeout() as stall:
            while missing and (piece := await stream.read(missing)):
                pieces.append(piece)
                missing -= len(piece)
                stall.reset()
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _stall_timeout(self) -> StallTimeout:
        return StallTimeout(self._options.stall_timeout_seconds)

    @contextmanager
    def _observe(
        self, operation: str, bucket: str, request_body: RequestBody | None = None
    ) -> Iterator[None]:
        began = time.perf_counter()
        try:
            with self._translate_errors(bucket, request_body):
                yield
        except SluiceError as error:
            if self._metrics is not None:
                self._metrics.errors.labels(operation, error.reason).inc()
            raise
        finally:
            if self._metrics is not None:
                self._metrics.seconds.labels(operation).observe(time.perf_counter() - began)

    @contextmanager
    def _translate_errors(
        self, bucket: str, request_body: RequestBody | None = None
    ) -> Iterator[None]:
        try:
            yield
        except VENDOR_ERRORS as error:
            # The client reports a failed body as a lost connection.
            if request_body is not None and request_body.failure is not None:
                raise request_body.failure from None
            raise to_store_error(error, bucket) from error
