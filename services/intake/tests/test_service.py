"""The `sluice-intake` process: phase 1 and configuration errors."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import grpc
import pytest

from sluice.upload.v1 import upload_pb2 as pb
from sluice.upload.v1.upload_pb2_grpc import IntakeServiceStub
from sluice_core.uploads.model import MIB
from support import tokens
from support.intake import frames_of
from support.jwt_authenticator import bearer

PHASE_1 = {
    "SLUICE_COORDINATION": "memory",
    "SLUICE_OBJECTS": "discard",
    "SLUICE_EVENTS": "off",
    "SLUICE_CATALOGUE": "off",
    "SLUICE_INTAKE_ADDRESS": "127.0.0.1:0",
    "SLUICE_METRICS_ADDRESS": "127.0.0.1:0",
}
JWT = {"SLUICE_AUTH__MODE": "jwt", "SLUICE_AUTH__AUDIENCE": tokens.AUDIENCE}


def start(settings: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    others = {name: value for name, value in os.environ.items() if not name.startswith("SLUICE_")}
    return subprocess.Popen(
        [sys.executable, "-m", "sluice_intake", *arguments],
        env={**others, **settings},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def address_when_ready(process: subprocess.Popen[str], ready: Path) -> str:
    deadline = time.monotonic() + 60
    while not (ready.exists() and ready.read_text().endswith("\n")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return ready.read_text().strip()


def test_phase_1_takes_an_upload_and_stops_on_sigterm(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    process = start(PHASE_1, "--ready-file", str(ready))
    try:
        with grpc.insecure_channel(address_when_ready(process, ready)) as channel:
            stub = IntakeServiceStub(channel)
            upload = stub.InitiateUpload(pb.InitiateUploadRequest(drive="d", path="p"))
            frames = iter(frames_of(upload.upload_id, 0, bytes(2 * MIB), is_last=True))
            answers = list(stub.UploadStream(frames))
            assert answers[0].accepted.size == 2 * MIB
            status = stub.CompleteUpload(pb.CompleteUploadRequest(upload_id=upload.upload_id))
            assert status.status.state == pb.UPLOAD_STATE_COMPLETED
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        assert ready.read_text().strip() in out
    finally:
        process.kill()
        process.communicate()


def test_process_with_keys_requires_their_tokens(tmp_path: Path) -> None:
    keys, ready = tmp_path / "keys.json", tmp_path / "ready"
    keys.write_bytes(tokens.key_set(tokens.rsa_key()))
    settings = {**PHASE_1, **JWT, "SLUICE_AUTH__JWKS_FILE": str(keys)}
    process = start(settings, "--ready-file", str(ready))
    try:
        with grpc.insecure_channel(address_when_ready(process, ready)) as channel:
            stub = IntakeServiceStub(channel)
            with pytest.raises(grpc.RpcError) as caught:
                stub.GetLimits(pb.GetLimitsRequest())
            assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
            token = tokens.rsa_key().token(tokens.claims(time.time()))
            assert stub.GetLimits(pb.GetLimitsRequest(), metadata=bearer(token))
    finally:
        process.kill()
        _, err = process.communicate()
    assert token not in err


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {**PHASE_1, "SLUICE_INTAKE_ADDRESS": "0.0.0.0:0"},
        {"SLUICE_PART_BYTES": "many"},
        {**PHASE_1, **JWT, "SLUICE_AUTH__SECRET_FILE": "/dev/null"},
        {**PHASE_1, **JWT, "SLUICE_AUTH__JWKS_FILE": "/nonexistent"},
        {**PHASE_1, **JWT, "SLUICE_AUTH__ISSUER": "http://id.example"},
        {**PHASE_1, **JWT},
        {**PHASE_1, "SLUICE_AUTH__JWKS_FILE": "keys.json"},
    ],
    ids=[
        "another combination",
        "strangers without keys",
        "a bad number",
        "a short secret",
        "no key file",
        "an issuer without TLS",
        "no source of keys",
        "keys without the mode",
    ],
)
def test_invalid_configuration_exits_78_with_one_line(settings: dict[str, str]) -> None:
    process = start(settings)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 78
    assert len(err.splitlines()) == 1
    assert "SLUICE_" in err


def test_tokens_in_plain_text_to_the_repository_exit_78() -> None:
    phase_2 = {**PHASE_1, "SLUICE_CHUNK_TRANSPORT": "direct"}
    keys = {**JWT, "SLUICE_AUTH__JWKS_FILE": "keys.json"}
    process = start({**phase_2, **keys, "SLUICE_REPOSITORY_SERVER": "repository:50052"})
    _, err = process.communicate(timeout=60)
    assert process.returncode == 78
    assert len(err.splitlines()) == 1
    assert "SLUICE_REPOSITORY_SERVER is not a loopback address" in err


def test_weak_secret_off_loopback_exits_78(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("changeme" * 4)
    public = {"SLUICE_INTAKE_ADDRESS": "0.0.0.0:0", "SLUICE_AUTH__SECRET_FILE": str(secret)}
    process = start({**PHASE_1, **JWT, **public})
    _, err = process.communicate(timeout=60)
    assert process.returncode == 78
    assert len(err.splitlines()) == 1
    assert err.startswith("SLUICE_AUTH__SECRET_FILE: ")
    assert "the secret repeats" in err


def test_the_settings_are_shown_on_demand() -> None:
    process = start(PHASE_1, "--show-settings")
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    assert "SLUICE_COORDINATION=memory" in out.splitlines()
