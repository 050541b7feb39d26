"""Runs of a service with canaries in its secrets, and everything that such a run outputs."""

from __future__ import annotations

import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc

from sluice.repository.v1 import repository_pb2, repository_pb2_grpc
from sluice.upload.v1 import upload_pb2, upload_pb2_grpc
from support.canary_access import CanaryAccess
from support.environment import process_environment
from support.redis_server import free_port

_START_SECONDS = 120.0
_STOP_SECONDS = 60.0
_CALL_SECONDS = 20.0


@dataclass(slots=True)
class CanaryRun:
    """One process, its standard output and error, and what its clients received."""

    module: str
    process: subprocess.Popen[bytes]
    folder: Path
    addresses: Mapping[str, str]
    access: CanaryAccess
    received: bytes = b""

    @property
    def output(self) -> bytes:
        """Everything that the process has output so far."""
        streams = [(self.folder / name).read_bytes() for name in ("stdout", "stderr")]
        return b"\n".join((*streams, self.received))

    @property
    def serves(self) -> bool:
        return self.process.poll() is None

    def wait_for_start(self) -> None:
        """Wait until the process serves or has exited."""
        deadline = time.monotonic() + _START_SECONDS
        while self.serves and not (self.folder / "ready").exists():
            if self.module == "sluice_standalone" and self._announced.exists():
                return
            assert time.monotonic() < deadline, self.output.decode(errors="replace")[-4000:]
            time.sleep(0.05)

    def call_everything(self, token: str | None = None) -> list[grpc.StatusCode]:
        """Make calls that need each backend; keep the answers, errors with all their details.

        Args:
            token: in place of the right one.
        """
        metadata = (("authorization", f"Bearer {token or self.access.token}"),)
        codes = []
        for service, call in _CALLS:
            address = self.addresses.get(service)
            if address is None:
                continue
            credentials = grpc.ssl_channel_credentials(self.access.authority)
            with grpc.secure_channel(address, credentials) as channel:
                try:
                    self.received += call(channel, metadata).SerializeToString()
                except grpc.RpcError as error:
                    codes.append(error.code())
                    self.received += repr(
                        (error, error.details(), error.trailing_metadata())
                    ).encode()
        return codes

    def call_with_refused_tokens(self) -> None:
        """Make all calls with each token that the server has to refuse.

        UNAVAILABLE is the answer while the server may not load its keys again yet.
        """
        refusals = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.UNAVAILABLE}
        for token in self.access.refused_tokens:
            codes = self.call_everything(token)
            made = sum(service in self.addresses for service, _ in _CALLS)
            assert len(codes) == made  # none was answered
            assert set(codes) <= refusals

    def scrape(self) -> None:
        """Get every page of the metrics server."""
        trusting = ssl.create_default_context(cadata=self.access.authority.decode())
        for page in ("metrics", "healthz", "readyz"):
            try:
                with urllib.request.urlopen(
                    f"https://{self.addresses['metrics']}/{page}",
                    timeout=_CALL_SECONDS,
                    context=trusting,
                ) as answer:
                    self.received += answer.read()
            except urllib.error.HTTPError as error:
                self.received += error.read()

    def stop(self) -> None:
        """Stop the process by SIGTERM if it runs."""
        if self.serves:
            self.process.terminate()
        self.process.wait(_STOP_SECONDS)

    @property
    def _announced(self) -> Path:
        return self.folder / "data" / "server.json"


@contextmanager
def canary_run(
    module: str, folder: Path, settings: Mapping[str, str], access: CanaryAccess
) -> Iterator[CanaryRun]:
    """Run a service inside the block, with its log at the level `debug`."""
    folder.mkdir(parents=True, exist_ok=True)
    addresses = {"metrics": f"127.0.0.1:{free_port()}"}
    services = {
        "sluice_intake": ("intake",),
        "sluice_repository": ("repository",),
        "sluice_standalone": ("intake", "repository", "gateway", "objects"),
    }
    addresses |= {name: f"127.0.0.1:{free_port()}" for name in services.get(module, ())}
    environment = {
        "SLUICE_LOG_LEVEL": "debug",
        **{f"SLUICE_{name.upper()}_ADDRESS": address for name, address in addresses.items()},
        **settings,
        **access.environment,
    }
    arguments = ["--ready-file", str(folder / "ready")]
    if module == "sluice_standalone":
        arguments = ["--data-dir", str(folder / "data")]
    with (folder / "stdout").open("wb") as out, (folder / "stderr").open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            env=process_environment(environment),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
        )
    run = CanaryRun(module, process, folder, addresses, access)
    try:
        run.wait_for_start()
        yield run
    finally:
        if run.serves:
            process.kill()
        process.wait(_STOP_SECONDS)


_Metadata = tuple[tuple[str, str | bytes], ...]


def _initiate(channel: grpc.Channel, metadata: _Metadata) -> upload_pb2.InitiateUploadResponse:
    request = upload_pb2.InitiateUploadRequest(
        drive="canaries", path="file.bin", inline_data=b"canary in a coal mine"
    )
    return upload_pb2_grpc.IntakeServiceStub(channel).InitiateUpload(
        request, timeout=_CALL_SECONDS, metadata=metadata
    )


def _list_uploads(channel: grpc.Channel, metadata: _Metadata) -> upload_pb2.ListUploadsResponse:
    stub = upload_pb2_grpc.IntakeServiceStub(channel)
    request = upload_pb2.ListUploadsRequest()
    return stub.ListUploads(request, timeout=_CALL_SECONDS, metadata=metadata)


def _list_drives(channel: grpc.Channel, metadata: _Metadata) -> repository_pb2.ListDrivesResponse:
    stub = repository_pb2_grpc.RepositoryServiceStub(channel)
    request = repository_pb2.ListDrivesRequest()
    return stub.ListDrives(request, timeout=_CALL_SECONDS, metadata=metadata)


_CALLS = (("intake", _initiate), ("intake", _list_uploads), ("repository", _list_drives))
