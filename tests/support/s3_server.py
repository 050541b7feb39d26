"""A real S3 server for tests: one per pytest process, started on first use."""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from functools import cache
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from sluice_backends.s3.client import S3Client, open_client
from support import services
from support.missing import missing
from support.redis_server import free_port
from support.s3_account import S3Account
from support.starting import wait_for_start
from tools.backends.errors import ChoiceError, ServiceError
from tools.backends.ports import PortPicker
from tools.backends.s3_servers import CHOICE, STARTERS, Account, Start, find_server
from tools.backends.tls import ServerTls

_START_SECONDS = 60.0
READER = ("reader", "reader-secret")
"""Keys of a read-only account; see `s3_readers`."""
_BUCKETS = count(time.time_ns())
_FEW_VOLUMES = {"WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"}
"""By default each bucket creates seven, and a test run creates many buckets."""


class _Ports(PortPicker):
    """Port picker that uses the ports of this test process."""

    def pick(self, *names: str, before: Mapping[str, int]) -> dict[str, int]:
        return {name: free_port() for name in names}


class _OwnServer:
    """A server with its own folder."""

    def __init__(self, kind: str, program: str, folder: Path) -> None:
        self._folder = folder
        account = Account("sluice", "sluice-secret")
        starter = _seaweedfs if kind == "seaweedfs" else STARTERS[kind]
        self._start = starter(program, folder, account, _Ports(), {}, None)
        self.account = S3Account(
            f"http://127.0.0.1:{self._start.ports['s3']}",
            account.access_key,
            account.secret_key,
            kind,
        )

    def start(self) -> None:
        log = self._folder / "log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                self._start.command,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=os.environ | self._start.environment,
            )
        atexit.register(_end, process)
        wait_for_start(process, self._answers, log, _START_SECONDS)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.account.endpoint_url}/status", timeout=5):
                return True
        except urllib.error.HTTPError as error:
            # A running server rejects unknown clients; one that is starting answers 5xx.
            return error.code < 500
        except OSError:
            return False


def _seaweedfs(
    program: str,
    folder: Path,
    account: Account,
    ports: PortPicker,
    before: Mapping[str, int],
    tls: ServerTls | None = None,
) -> Start:
    """Return the command of `weed server -s3`, all in one process, with a read-only account."""
    identities = [
        _identity(
            account.access_key,
            account.secret_key,
            ["Admin", "Read", "Write", "List", "Tagging"],
        ),
        _identity(*READER, ["Read", "List"]),
    ]
    config = folder / "s3.json"
    config.write_text(json.dumps({"identities": identities}))
    parts = ("master", "volume", "filer", "s3")
    picked = ports.pick(*parts, *(f"{part}.grpc" for part in parts), before=before)
    for part in parts:
        # SeaweedFS creates these sockets at fixed paths and does not remove them.
        leftover = Path(f"/tmp/seaweedfs-{part}-grpc-{picked[f'{part}.grpc']}.sock")
        atexit.register(leftover.unlink, missing_ok=True)
    command = [
        program,
        "-logtostderr=true",
        "server",
        f"-dir={folder}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        *(f"-{part}.port={picked[part]}" for part in parts),
        *(f"-{part}.port.grpc={picked[f'{part}.grpc']}" for part in parts),
        "-master.telemetry=false",
        "-master.volumeSizeLimitMB=256",
        "-volume.max=1000",
        "-volume.preStopSeconds=0",
        "-s3",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        f"-s3.localSocket={folder / 's3.sock'}",
        f"-filer.localSocket={folder / 'filer.sock'}",
        f"-s3.config={config}",
        "-s3.autoCreateBucket=false",
    ]
    return Start(picked, command, _FEW_VOLUMES)


@cache
def s3_account() -> S3Account:
    """Return the account on the server of this process.

    SLUICE_SERVICES_S3 chooses SeaweedFS (the default), MinIO or versitygw. SLUICE_TEST_S3 names a
    server that runs elsewhere, as JSON: {"endpoint_url", "access_key", "secret_key", "kind"}.
    In a run on services with TLS it is that of the state directory. Without a server the test
    skips; it fails in CI or if the server was requested by name.
    """
    try:
        if named := os.environ.get("SLUICE_TEST_S3"):
            elsewhere = S3Account(**json.loads(named))
            CHOICE.check("s3", {"kind": elsewhere.kind})
            return elsewhere
        if services.use_tls():
            return services.s3()
        kind, program = find_server()
    except ChoiceError as error:
        pytest.fail(str(error))
    except ServiceError as error:
        missing(str(error))
    folder = TemporaryDirectory(prefix="sluice-s3-")
    atexit.register(folder.cleanup)
    server = _OwnServer(kind, program, Path(folder.name))
    server.start()
    return server.account


@asynccontextmanager
async def s3_admin() -> AsyncIterator[S3Client]:
    """Open a plain client, for a test to prepare and inspect buckets."""
    options = s3_account().options()
    async with open_client(options) as client:
        yield client


async def empty_bucket(name: str) -> None:
    """Create the bucket, or remove its objects and multiparts."""
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
    """Create an empty bucket for this test and return its name."""
    name = f"sluice-{os.getpid()}-{next(_BUCKETS)}"
    async with s3_admin() as client:
        await client.create_bucket(Bucket=name)
        # SeaweedFS is slow with the first object of a bucket.
        await client.put_object(Bucket=name, Key="first", Body=b"first")
        await client.delete_object(Bucket=name, Key="first")
    return name


async def keys_of(bucket: str) -> list[str]:
    """Return all keys of a bucket, including those of multiparts in progress."""
    return sorted([*await objects_of(bucket), *await multiparts_of(bucket)])


async def objects_of(bucket: str) -> list[str]:
    """Return the keys of the objects."""
    async with s3_admin() as client:
        pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        return sorted([item["Key"] async for page in pages for item in page.get("Contents", ())])


async def content_of(bucket: str, key: str) -> bytes:
    """Return the bytes of an object."""
    async with s3_admin() as client:
        answer = await client.get_object(Bucket=bucket, Key=key)
        async with answer["Body"] as body:
            return bytes(await body.read())


async def multiparts_of(bucket: str) -> list[str]:
    """Return the keys of multiparts in progress."""
    async with s3_admin() as client:
        found = (await client.list_multipart_uploads(Bucket=bucket)).get("Uploads", ())
    return sorted(item["Key"] for item in found)


def _identity(access_key: str, secret_key: str, actions: list[str]) -> dict[str, Any]:
    return {
        "name": access_key,
        "credentials": [{"accessKey": access_key, "secretKey": secret_key}],
        "actions": actions,
    }


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait(10)
