"""A real S3 server for tests: SeaweedFS, one for every pytest process, started when first needed.

SLUICE_TEST_S3 names another one instead, as JSON: {"endpoint_url", "access_key", "secret_key",
"kind"}; what only SeaweedFS is known to do is skipped then.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import cache
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from pydantic import SecretStr

from sluice_common.objects.retrying import RetryOptions
from sluice_common.objects.s3.client import S3Client, open_client
from sluice_common.objects.s3.options import S3Options
from support.missing import missing
from support.redis_server import free_port

_START_SECONDS = 60.0
_READER = ("reader", "reader-secret")
_BUCKETS = count(time.time_ns())
_FEW_VOLUMES = {"WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"}
"""By default each bucket makes seven, and a test run many buckets."""
QUICK = RetryOptions(attempts=4, total_seconds=5.0, wait_initial_seconds=0.01, wait_max_seconds=0.1)


@dataclass(frozen=True, slots=True)
class S3Account:
    """Where a server is and who may do everything there."""

    endpoint_url: str
    access_key: str
    secret_key: str
    kind: str

    def options(self, **changes: Any) -> S3Options:
        options = S3Options(
            endpoint_url=self.endpoint_url,
            access_key=SecretStr(self.access_key),
            secret_key=SecretStr(self.secret_key),
            retry=QUICK,
        )
        return replace(options, **changes)

    def reader_options(self, **changes: Any) -> S3Options:
        """Of somebody who may read and list, and nothing else."""
        if self.kind != "seaweedfs":
            pytest.skip("only our own server has an account that may not write")
        access_key, secret_key = _READER
        return self.options(
            access_key=SecretStr(access_key), secret_key=SecretStr(secret_key), **changes
        )


class _SeaweedServer:
    """`weed server -s3` in a folder of its own. All of it runs in one process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self.account = S3Account(
            f"http://127.0.0.1:{self._port}", "sluice", "sluice-secret", "seaweedfs"
        )

    def start(self) -> None:
        account, (reader, reader_secret) = self.account, _READER
        identities = [
            _identity(
                account.access_key,
                account.secret_key,
                ["Admin", "Read", "Write", "List", "Tagging"],
            ),
            _identity(reader, reader_secret, ["Read", "List"]),
        ]
        config = self._folder / "s3.json"
        config.write_text(json.dumps({"identities": identities}))
        ports = [f"-{part}.port={free_port()}" for part in ("master", "volume", "filer")]
        for part in ("master", "volume", "filer", "s3"):
            grpc_port = free_port()
            ports.append(f"-{part}.port.grpc={grpc_port}")
            # It puts these where it likes, and leaves them there.
            leftover = Path(f"/tmp/seaweedfs-{part}-grpc-{grpc_port}.sock")
            atexit.register(leftover.unlink, missing_ok=True)
        command = [
            _weed(),
            "-logtostderr=true",
            "server",
            f"-dir={self._folder}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            *ports,
            "-master.telemetry=false",
            "-master.volumeSizeLimitMB=256",
            "-volume.max=1000",
            "-volume.preStopSeconds=0",
            "-s3",
            f"-s3.port={self._port}",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            f"-s3.localSocket={self._folder / 's3.sock'}",
            f"-filer.localSocket={self._folder / 'filer.sock'}",
            f"-s3.config={config}",
            "-s3.autoCreateBucket=false",
        ]
        log = self._folder / "log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, env=os.environ | _FEW_VOLUMES
            )
        atexit.register(_end, process)
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(log.read_text()[-4000:])
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.account.endpoint_url}/status", timeout=5):
                return True
        except urllib.error.HTTPError:
            return True
        except OSError:
            return False


@cache
def s3_account() -> S3Account:
    """The server of this process; a test skips without one, or fails where CI asks for it."""
    if named := os.environ.get("SLUICE_TEST_S3"):
        return S3Account(**json.loads(named))
    folder = TemporaryDirectory(prefix="sluice-s3-")
    atexit.register(folder.cleanup)
    server = _SeaweedServer(Path(folder.name))
    server.start()
    return server.account


@asynccontextmanager
async def s3_admin() -> AsyncIterator[S3Client]:
    """The bare client, for a test to prepare and to look inside."""
    options = s3_account().options()
    async with open_client(options, options.endpoint_url) as client:
        yield client


async def empty_bucket(name: str) -> None:
    """The bucket is there, with nothing in it and nothing on its way."""
    async with s3_admin() as client:
        try:
            await client.create_bucket(Bucket=name)
        except (
            client.exceptions.BucketAlreadyOwnedByYou,
            client.exceptions.BucketAlreadyExists,
        ):
            for upload in (await client.list_multipart_uploads(Bucket=name)).get("Uploads", ()):
                await client.abort_multipart_upload(
                    Bucket=name, Key=upload["Key"], UploadId=upload["UploadId"]
                )
            for item in (await client.list_objects_v2(Bucket=name)).get("Contents", ()):
                await client.delete_object(Bucket=name, Key=item["Key"])


async def new_bucket() -> str:
    """The name of an empty bucket that nobody else uses."""
    name = f"sluice-{os.getpid()}-{next(_BUCKETS)}"
    async with s3_admin() as client:
        await client.create_bucket(Bucket=name)
        # SeaweedFS takes its time with the first object of a bucket.
        await client.put_object(Bucket=name, Key="first", Body=b"first")
        await client.delete_object(Bucket=name, Key="first")
    return name


async def keys_of(bucket: str) -> list[str]:
    """Everything in a bucket, multiparts in progress included."""
    return sorted([*await objects_of(bucket), *await multiparts_of(bucket)])


async def objects_of(bucket: str) -> list[str]:
    """The keys of the objects."""
    async with s3_admin() as client:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return sorted([item["Key"] async for page in pages for item in page.get("Contents", ())])


async def content_of(bucket: str, key: str) -> bytes:
    """The bytes of an object."""
    async with s3_admin() as client:
        answer = await client.get_object(Bucket=bucket, Key=key)
        async with answer["Body"] as body:
            return bytes(await body.read())


async def multiparts_of(bucket: str) -> list[str]:
    """The keys of the objects that are being put together."""
    async with s3_admin() as client:
        found = (await client.list_multipart_uploads(Bucket=bucket)).get("Uploads", ())
    return sorted(item["Key"] for item in found)


def _identity(access_key: str, secret_key: str, actions: list[str]) -> dict[str, Any]:
    return {
        "name": access_key,
        "credentials": [{"accessKey": access_key, "secretKey": secret_key}],
        "actions": actions,
    }


def _weed() -> str:
    beside = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))
    found = shutil.which("weed", path=beside)
    if found is None:
        missing("weed is not installed; `make install` brings it")
    return found


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait(10)
