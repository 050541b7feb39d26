"""s3transfer straight to the S3 server: the shortest path from a file to an object.

python -m bench.peers.s3transfer --bucket B --prefix P --files FOLDER --concurrency 8
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import boto3  # type: ignore[import-untyped]
from botocore.config import Config  # type: ignore[import-untyped]
from s3transfer.manager import TransferConfig, TransferManager  # type: ignore[import-untyped]

from bench.start_signal import await_start, report
from bench.units import MIB

_WARM_UP_BYTES = MIB
"""Bytes that each connection carries before the clock starts."""
_DELETE_AT_ONCE = 1000
"""Keys in one DeleteObjects, S3's limit."""


def make_client(concurrency: int) -> Any:
    """Return boto3's client of the account in the settings (SLUICE_S3__…).

    What Sluice does not do is disabled here as well: payloads are not signed with SHA-256, and the
    checksum that the server verifies is CRC32C by awscrt, the fastest available. boto3 builds its
    clients from data files; they have no static types.
    """
    environment = os.environ
    return boto3.session.Session().client(
        "s3",
        endpoint_url=environment.get("SLUICE_S3__ENDPOINT_URL"),
        region_name=environment.get("SLUICE_S3__REGION", "us-east-1"),
        aws_access_key_id=environment.get("SLUICE_S3__ACCESS_KEY"),
        aws_secret_access_key=environment.get("SLUICE_S3__SECRET_KEY"),
        config=Config(
            max_pool_connections=concurrency,
            s3={"addressing_style": "path", "payload_signing_enabled": False},
        ),
    )


@contextmanager
def transfers(client: Any, concurrency: int, part_bytes: int) -> Iterator[TransferManager]:
    config = TransferConfig(
        multipart_threshold=part_bytes,
        multipart_chunksize=part_bytes,
        max_request_concurrency=concurrency,
        max_submission_concurrency=min(concurrency, 10),
    )
    with TransferManager(client, config) as manager:
        yield manager


def put_all(manager: TransferManager, bucket: str, prefix: str, files: Sequence[Path]) -> list[str]:
    """Upload every file, with the manager's concurrency. Return the keys."""
    keys = [f"{prefix}/{path.name}" for path in files]
    futures = [
        manager.upload(str(path), bucket, key, extra_args={"ChecksumAlgorithm": "CRC32C"})
        for path, key in zip(files, keys, strict=True)
    ]
    for future in futures:
        future.result()
    return keys


def delete_all(client: Any, bucket: str, keys: Sequence[str]) -> None:
    for at in range(0, len(keys), _DELETE_AT_ONCE):
        batch = [{"Key": key} for key in keys[at : at + _DELETE_AT_ONCE]]
        client.delete_objects(Bucket=bucket, Delete={"Objects": batch, "Quiet": True})


def run(options: argparse.Namespace) -> None:
    """Upload the files and print the figures. Every connection is open and used before the clock
    starts; the objects are deleted after it has stopped.

    Tuned as boto3's documentation recommends: one client for all transfers, a pool as large as the
    number of concurrent requests, parts of Sluice's size, a threshold of one part.
    """
    files = sorted(path for path in options.files.iterdir() if path.is_file())
    client = make_client(options.concurrency)
    with transfers(client, options.concurrency, options.part_bytes) as manager:
        warm = [
            manager.upload(
                BytesIO(bytes(_WARM_UP_BYTES)),
                options.bucket,
                f"{options.prefix}/warm-up-{number}",
                extra_args={"ChecksumAlgorithm": "CRC32C"},
            )
            for number in range(options.concurrency if options.warm_up else 0)
        ]
        for future in warm:
            future.result()
        keys = [f"{options.prefix}/warm-up-{number}" for number in range(len(warm))]
        if options.in_step:
            await_start()
        try:
            cpu, begun = time.process_time(), time.perf_counter()
            keys += put_all(manager, options.bucket, options.prefix, files)
            seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
            report(
                {
                    "bytes": sum(path.stat().st_size for path in files),
                    "objects": len(files),
                    "seconds": seconds,
                    "cpu_seconds": cpu,
                },
                linger=options.in_step,
            )
        finally:
            delete_all(client, options.bucket, keys)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bucket", required=True)
    parser.add_argument("--prefix", required=True)
    parser.add_argument("--files", type=Path, required=True, help="a folder; its files are put")
    parser.add_argument("--concurrency", type=int, default=8, help="requests at once")
    parser.add_argument("--part-bytes", type=int, default=8 * MIB)
    parser.add_argument("--warm-up", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--in-step", action="store_true", help="as bench/load/uploads.py has it")
    run(parser.parse_args())


if __name__ == "__main__":
    main()
