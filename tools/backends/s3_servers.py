"""The S3 servers: how each is found and started."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tools.backends.errors import ChoiceError, ServiceError
from tools.backends.go_builds import GoProgram, build
from tools.backends.ports import PortPicker
from tools.backends.programs import find_program, run_step
from tools.backends.server_choice import Choice
from tools.backends.service import socket_path
from tools.backends.tls import ServerTls

REGION: Final = "us-east-1"
VERSION_SECONDS: Final = 30.0
CHOICE: Final = Choice("SLUICE_SERVICES_S3", ("seaweedfs", "minio", "versitygw"))
GO_PROGRAMS: Final = {
    "minio": GoProgram(
        "minio",
        "github.com/minio/minio",
        # The last commit; its release tags are not valid for Go modules.
        "v0.0.0-20260212201848-7aac2a2c5b7c",
        "h1:/qdoYujxF5MBLDMVLeiYJ/7fBa1HikX39Dvzb9Ji8pA=",
        ".",
        6,
    ),
    "versitygw": GoProgram(
        "versitygw",
        "github.com/versity/versitygw",
        "v1.8.0",
        "h1:au+wI+aybno/STsQiSm35Uu6Q6iK5MWReQxgO6SEMFc=",
        "./cmd/versitygw",
        3,
    ),
}


@dataclass(frozen=True, slots=True)
class Account:
    """Account with all rights on the server."""

    access_key: str
    secret_key: str


@dataclass(frozen=True, slots=True)
class Start:
    """Start parameters of one server; one of its ports is "s3"."""

    ports: dict[str, int]
    command: list[str]
    environment: dict[str, str]


Starter = Callable[[str, Path, Account, PortPicker, Mapping[str, int], ServerTls | None], Start]


def find_server(*, install: bool = False) -> tuple[str, str]:
    """Return the kind of server and its program.

    By default SeaweedFS, and MinIO only where that is missing. Raise `ChoiceError` if the requested
    one is missing and cannot be built, `ServiceError` if none is available.

    Args:
        install: build a missing one. Tests do not: a build exceeds their time limit.
    """
    requested = CHOICE.requested()
    if requested in GO_PROGRAMS:
        return requested, _peer(requested, install=install)
    seaweedfs = find_seaweedfs()
    if seaweedfs is not None:
        return "seaweedfs", seaweedfs
    if requested:
        raise ChoiceError(
            f"{CHOICE.variable} asks for seaweedfs, which is not on this machine: run "
            "`make install`, or put its program `weed` on the PATH"
        )
    minio = find_program("minio")
    if minio is None:
        raise ServiceError(
            "there is no S3 server on this machine: `make install` brings SeaweedFS; for MinIO "
            "put its program `minio` on the PATH"
        )
    return "minio", minio


def find_seaweedfs() -> str | None:
    """Return the program of the development tools, else the one on the PATH."""
    # The wheel installs it beside the interpreter, whose folder may not be on the PATH.
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if beside.exists() else find_program("weed")


def _peer(kind: str, *, install: bool) -> str:
    program, on_path = GO_PROGRAMS[kind], find_program(kind)
    if on_path is not None:
        return on_path
    if program.path.exists():
        return str(program.path)
    if not install:
        raise ChoiceError(
            f"{CHOICE.variable} asks for {kind}, which is neither built nor on the PATH: "
            f"`make peers PEERS={kind}` builds it with Go, once, in about "
            f"{program.minutes} minutes of one core"
        )
    try:
        return str(build("s3", program))
    except ServiceError as error:
        raise ChoiceError(f"{CHOICE.variable} asks for {kind}: {error}") from error


def version_of(kind: str, program: str) -> str:
    """Return the program's version text: "4.48", "RELEASE.2025-09-07T16-13-09Z"."""
    # version 8000GB 4.48 pypi linux amd64 / minio version RELEASE.2025-… (commit-id=…) /
    # Version  : v1.8.0
    option = "version" if kind == "seaweedfs" else "--version"
    words = run_step([program, option], VERSION_SECONDS).split()
    version = words[2] if len(words) > 2 else "unknown"
    # A binary built by Go does not contain its version number.
    mine = kind in GO_PROGRAMS and Path(program) == GO_PROGRAMS[kind].path
    return GO_PROGRAMS[kind].version if mine else version


def seaweedfs(
    program: str,
    home: Path,
    account: Account,
    ports: PortPicker,
    before: Mapping[str, int],
    tls: ServerTls | None = None,
) -> Start:
    """Return the start of `weed mini`: all components in one process."""
    data = _folder(home, "seaweedfs")
    credentials = [{"accessKey": account.access_key, "secretKey": account.secret_key}]
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    identity = {"name": "sluice", "credentials": credentials, "actions": actions}
    identities = home / "identities.json"
    identities.touch(mode=0o600)
    identities.write_text(json.dumps({"identities": [identity]}), encoding="utf-8")
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
        f"-s3.localSocket={socket_path(home, 's3.sock')}",
        f"-filer.localSocket={socket_path(home, 'filer.sock')}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-s3.autoCreateBucket=false",
        "-admin.ui=false",
        "-webdav=false",
        "-master.telemetry=false",
    ]
    if tls is not None:
        # Without a separate port for HTTPS, the S3 port speaks HTTPS alone.
        command += [f"-s3.cert.file={tls.paths.cert}", f"-s3.key.file={tls.paths.key}"]
    # Every bucket is a collection with separate volumes; one each is enough here, and tests create
    # many buckets.
    return Start(picked, command, {"WEED_MASTER_VOLUME_GROWTH_COPY_1": "1"})


def minio(
    program: str,
    home: Path,
    account: Account,
    ports: PortPicker,
    before: Mapping[str, int],
    tls: ServerTls | None = None,
) -> Start:
    """Return the start of `minio server` on one folder."""
    picked = ports.pick("s3", "console", before=before)
    certificates = _folder(home, "certs")
    _show_to_minio(certificates, tls)
    command = [
        program,
        "server",
        str(_folder(home, "minio")),
        f"--address=127.0.0.1:{picked['s3']}",
        f"--console-address=127.0.0.1:{picked['console']}",
        f"--certs-dir={certificates}",
    ]
    environment = {
        "MINIO_ROOT_USER": account.access_key,
        "MINIO_ROOT_PASSWORD": account.secret_key,
        "MINIO_BROWSER": "off",
        "MINIO_UPDATE": "off",
    }
    return Start(picked, command, environment)


def versitygw(
    program: str,
    home: Path,
    account: Account,
    ports: PortPicker,
    before: Mapping[str, int],
    tls: ServerTls | None = None,
) -> Start:
    """Return the start of `versitygw posix` on one folder."""
    picked = ports.pick("s3", before=before)
    data = _folder(home, "versitygw")
    options = [f"--iam-dir={_folder(home, 'users')}"]
    # Without extended attributes in the file system, it stores metadata in separate files.
    kept = [] if _keeps_attributes(data) else [f"--sidecar={_folder(home, 'attributes')}"]
    command = [program, *options, "posix", *kept, str(data)]
    environment = {
        "ROOT_ACCESS_KEY": account.access_key,
        "ROOT_SECRET_KEY": account.secret_key,
        "VGW_PORT": f"127.0.0.1:{picked['s3']}",
        "VGW_REGION": REGION,
        "VGW_KEEP_ALIVE": "true",
        "VGW_QUIET": "true",
    }
    if tls is not None:
        environment |= {"VGW_CERT": str(tls.paths.cert), "VGW_KEY": str(tls.paths.key)}
    return Start(picked, command, environment)


STARTERS: Final[dict[str, Starter]] = {
    "seaweedfs": seaweedfs,
    "minio": minio,
    "versitygw": versitygw,
}


def _folder(home: Path, name: str) -> Path:
    folder = home / name
    folder.mkdir(exist_ok=True)
    return folder


def _show_to_minio(folder: Path, tls: ServerTls | None) -> None:
    """Link the files by the names that MinIO knows; it speaks HTTPS alone if it finds them."""
    for name in ("public.crt", "private.key"):
        (folder / name).unlink(missing_ok=True)
    if tls is not None:
        (folder / "public.crt").symlink_to(tls.paths.cert)
        (folder / "private.key").symlink_to(tls.paths.key)


def _keeps_attributes(folder: Path) -> bool:
    """Return whether the file system supports user extended attributes."""
    if not hasattr(os, "setxattr"):
        return False
    with tempfile.NamedTemporaryFile(dir=folder) as file:
        try:
            os.setxattr(file.fileno(), "user.sluice", b"1")
        except OSError:
            return False
    return True
