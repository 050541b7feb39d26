"""An S3 server: MinIO where its binary is or was asked for, else SeaweedFS."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

import botocore.session  # type: ignore[import-untyped]
from botocore.config import Config  # type: ignore[import-untyped]
from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]

from tools.backends.errors import NotReadyError, ServiceError
from tools.backends.installing import cache_dir, find_program, run_step
from tools.backends.ports import PortPicker
from tools.backends.reporting import say
from tools.backends.service import Facts, Launch, Service

ACCESS_KEY: Final = "sluice"
REGION: Final = "us-east-1"
BUCKET: Final = "sluice"
CONNECT_SECONDS: Final = 2
ANSWER_SECONDS: Final = 10
VERSION_SECONDS: Final = 30.0
BUILD_SECONDS: Final = 900.0
# The latest commit; the tags of its releases are none that Go modules know.
MINIO_VERSION: Final = "v0.0.0-20260212201848-7aac2a2c5b7c"
CHOICE: Final = "SLUICE_SERVICES_S3"


class S3(Service):
    name: ClassVar[str] = "s3"

    def prepare(self, ports: PortPicker, before: Mapping[str, int]) -> Launch:
        kind, program = choose()
        data = self.home / kind
        data.mkdir(exist_ok=True)
        prepare = self._minio if kind == "minio" else self._seaweedfs
        picked, command, environment = prepare(program, data, ports, before)
        facts = {
            "endpoint_url": f"http://127.0.0.1:{picked['s3']}",
            "region": REGION,
            "access_key": ACCESS_KEY,
            "secret_key": self.secret(),
            "bucket": BUCKET,
            "kind": kind,
            "version": version_of(kind, program),
        }
        return Launch(command, picked, facts, environment)

    def confirm(self, facts: Facts) -> Facts:
        client = make_client(facts)
        try:
            buckets = [bucket["Name"] for bucket in client.list_buckets().get("Buckets", [])]
            if facts["bucket"] not in buckets:
                client.create_bucket(Bucket=facts["bucket"])
        except (BotoCoreError, ClientError) as error:
            raise NotReadyError(str(error)) from error
        finally:
            client.close()
        return facts

    def leftovers(self, ports: Mapping[str, int]) -> list[Path]:
        # SeaweedFS puts these where it likes, and misses some when it stops.
        named = (name.removesuffix(".grpc") for name in ports if name.endswith(".grpc"))
        return [Path(f"/tmp/seaweedfs-{part}-grpc-{ports[f'{part}.grpc']}.sock") for part in named]

    def _seaweedfs(
        self, program: str, data: Path, ports: PortPicker, before: Mapping[str, int]
    ) -> tuple[dict[str, int], list[str], dict[str, str]]:
        identities = self.home / "identities.json"
        identities.touch(mode=0o600)
        identities.write_text(json.dumps(self._identities()), encoding="utf-8")
        parts = ("master", "volume", "filer", "s3", "admin")
        names = [name for part in parts for name in (part, f"{part}.grpc")]
        picked = ports.pick(*names, before=before)
        command = [
            program,
            "mini",
            f"-dir={data}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            *(f"-{part}.port={picked[part]}" for part in parts),
            *(f"-{part}.port.grpc={picked[f'{part}.grpc']}" for part in parts),
            f"-s3.config={identities}",
            f"-s3.localSocket={self.socket_path('s3.sock')}",
            f"-filer.localSocket={self.socket_path('filer.sock')}",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-s3.autoCreateBucket=false",
            "-admin.ui=false",
            "-webdav=false",
            "-master.telemetry=false",
        ]
        # Every bucket is a collection with volumes of its own; one each is enough here, and tests
        # make many buckets.
        return picked, command, {"WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"}

    def _identities(self) -> dict[str, object]:
        credentials = [{"accessKey": ACCESS_KEY, "secretKey": self.secret()}]
        actions = ["Admin", "Read", "Write", "List", "Tagging"]
        return {"identities": [{"name": "sluice", "credentials": credentials, "actions": actions}]}

    def _minio(
        self, program: str, data: Path, ports: PortPicker, before: Mapping[str, int]
    ) -> tuple[dict[str, int], list[str], dict[str, str]]:
        picked = ports.pick("s3", "console", before=before)
        command = [
            program,
            "server",
            str(data),
            f"--address=127.0.0.1:{picked['s3']}",
            f"--console-address=127.0.0.1:{picked['console']}",
            f"--certs-dir={self.home / 'certs'}",
        ]
        environment = {
            "MINIO_ROOT_USER": ACCESS_KEY,
            "MINIO_ROOT_PASSWORD": self.secret(),
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
        }
        return picked, command, environment


def choose() -> tuple[str, str]:
    """The kind of server and its programme."""
    wanted = os.environ.get(CHOICE, "")
    if wanted not in ("", "minio", "seaweedfs"):
        raise ServiceError(f"{CHOICE} is {wanted!r}: set it to minio or seaweedfs, or unset it")
    minio = find_program("minio")
    if wanted == "minio":
        return "minio", minio or build_minio()
    if minio is not None and not wanted:
        return "minio", minio
    # The wheel puts its programme beside the interpreter, which need not be on the PATH.
    beside = Path(sys.executable).with_name("weed")
    seaweedfs = str(beside) if beside.exists() else find_program("weed")
    if seaweedfs is None:
        raise ServiceError(
            "there is no S3 server on this machine: `make install` brings SeaweedFS; for MinIO "
            "put its binary `minio` on the PATH"
        )
    return "seaweedfs", seaweedfs


def build_minio() -> str:
    """MinIO from its source, which is how it is published; kept for the next time."""
    program = cache_dir() / "bin" / "minio"
    if program.exists():
        return str(program)
    go = find_program("go")
    if go is None:
        raise ServiceError(
            "there is neither `minio` nor `go` on the PATH: install one of them, or unset "
            f"{CHOICE} for SeaweedFS"
        )
    say("s3", "building MinIO with Go (once, a minute or more)")
    environment = {**os.environ, "GOBIN": str(program.parent)}
    module = f"github.com/minio/minio@{MINIO_VERSION}"
    run_step([go, "install", module], BUILD_SECONDS, environment=environment)
    return str(program)


def version_of(kind: str, program: str) -> str:
    """What the programme calls itself: `4.48`, `RELEASE.2025-09-07T16-13-09Z`."""
    # version 8000GB 4.48 pypi linux amd64 / minio version RELEASE.2025-… (commit-id=…)
    option = "version" if kind == "seaweedfs" else "--version"
    words = run_step([program, option], VERSION_SECONDS).split()
    version = words[2] if len(words) > 2 else "unknown"
    # A binary that Go built does not know its own number.
    return MINIO_VERSION if version.startswith("DEVELOPMENT") else version


def make_client(facts: Facts) -> Any:
    """A plain client: botocore makes its classes at run time, so there is no type to name."""
    return botocore.session.get_session().create_client(
        "s3",
        endpoint_url=facts["endpoint_url"],
        region_name=facts["region"],
        aws_access_key_id=facts["access_key"],
        aws_secret_access_key=facts["secret_key"],
        config=Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=ANSWER_SECONDS,
            retries={"total_max_attempts": 1},
            s3={"addressing_style": "path"},
        ),
    )
