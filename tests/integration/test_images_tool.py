"""Tests of the tool behind `make check-images` that need no container engine."""

from __future__ import annotations

import datetime
import importlib.util
import resource
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Final

import pytest
from botocore.auth import S3SigV4Auth  # type: ignore[import-untyped]
from botocore.awsrequest import AWSRequest  # type: ignore[import-untyped]
from botocore.credentials import Credentials  # type: ignore[import-untyped]

from tools.backends.errors import ServiceError
from tools.images import __main__ as tool
from tools.images import engine, mysqld
from tools.images.compose import Service, images_of, read_services
from tools.images.engine import Engine
from tools.images.image_builds import bases_of, dockerfiles, obtain
from tools.images.report import Report
from tools.images.stack import PodmanStack
from tools.images.standins import FILES, STAND_INS
from tools.images.suites import MYSQL_NEWEST

OURS: Final = {"gateway", "intake", "processor", "repository"}


def names(services: Sequence[Service]) -> list[str]:
    return [service.name for service in services]


def test_services_follow_their_dependencies() -> None:
    services = read_services()
    order = names(services)
    assert {"redis", "mysql", "kafka", "s3", "bucket"} | OURS == set(order)
    assert {service.name for service in services if service.ours} == OURS
    for service in services:
        assert all(order.index(name) < order.index(service.name) for name in service.needs)


def test_unsupported_compose_key_is_rejected(tmp_path: Path) -> None:
    """A silently ignored limit or mount would be missing from the check."""
    file = tmp_path / "compose.yaml"
    file.write_text("services: {redis: {image: 'redis:7.4', mem_limit: 1g}}\n")
    with pytest.raises(ServiceError, match="redis has mem_limit"):
        read_services(file)


def test_every_required_image_has_stand_in() -> None:
    images = [*bases_of(dockerfiles()), *images_of(read_services()), MYSQL_NEWEST]
    assert {image.partition(":")[0] for image in images} == set(STAND_INS)


def test_podman_command_matches_compose() -> None:
    services = read_services()
    stack = PodmanStack(Engine("podman", "podman", {}), services)
    (intake,) = (one for one in services if one.name == "intake")
    command = stack._run_command(intake)
    assert {
        *("--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges"),
        *("--restart=unless-stopped", "--stop-timeout=30", "--publish=127.0.0.1:50051:50051"),
        *("--network-alias=intake", "--env=SLUICE_ALLOW_INSECURE=true"),
    } < set(command)
    (gateway,) = (one for one in services if one.name == "gateway")
    assert {
        *("--publish=127.0.0.1:8080:8080", "--volume=sluice_keys:/keys"),
        "--env=SLUICE_GATEWAY__KEYS_FILE=/keys/gateway.json",
    } < set(stack._run_command(gateway))
    (redis,) = (one for one in services if one.name == "redis")
    assert '--health-cmd=["redis-cli", "ping"]' in stack._run_command(redis)
    (bucket,) = (one for one in services if one.name == "bucket")
    # `$$` is Compose's escape: the shell in the container receives one `$`.
    assert '"$MINIO_ROOT_USER"' in stack._run_command(bucket)[-1]


def test_unreached_step_fails_check(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report()
    with report.step("first"):
        pass
    assert report.finish(["first"]) == 0
    assert report.finish(["first", "second"]) == 1
    assert "second" in capsys.readouterr().err


def fail() -> None:
    raise ServiceError("the reason")


def test_failed_step_is_reported_and_others_run(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report()
    with report.step("first"):
        fail()
    with report.step("second"):
        pass
    assert report.finish(["first", "second"]) == 1
    assert not report.passed("first", "second")
    assert report.passed("second")
    assert "the reason" in capsys.readouterr().err


@pytest.mark.parametrize(("required", "code"), [("", 0), ("1", 1)])
def test_missing_engine_skips_or_fails(
    required: str,
    code: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv(engine.REQUIRED, required)
    assert tool.main(["check"]) == code
    output = capsys.readouterr().err
    assert "no podman on the PATH" in output
    assert ("SKIPPED" in output) is (code == 0)


def test_podman_limits_do_not_exceed_own_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container with a higher limit than its creator does not start."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(resource, "getrlimit", lambda _number: (1_000, 2_000))
    written = engine._write_configuration().read_text()
    assert '["nofile=2000:2000", "nproc=2000:2000"]' in written


def test_unknown_choice_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_IMAGES_FROM", "nowhere")
    with pytest.raises(ServiceError, match="registry or distribution"):
        obtain(Engine("podman", "podman", {}), "redis:7.4")
    monkeypatch.setenv("SLUICE_CONTAINER_ENGINE", "lxc")
    with pytest.raises(ServiceError, match="docker or podman"):
        engine.find_engine()


@pytest.mark.parametrize(
    ("libraries", "messages"),
    [("usr/lib/x86_64-linux-gnu", "usr/share/mysql"), ("usr/lib64", "usr/share/mysql-9.7")],
    ids=["Debian", "Oracle Linux"],
)
def test_mysqld_script_uses_libraries_of_image(
    libraries: str, messages: str, tmp_path: Path
) -> None:
    for name in ("lib64", libraries, "usr/sbin", f"{messages}/english", "usr/lib/mysql/private"):
        (tmp_path / name).mkdir(parents=True, exist_ok=True)
    for name in ("lib64/ld-linux-x86-64.so.2", "usr/sbin/mysqld", f"{messages}/english/errmsg.sys"):
        (tmp_path / name).touch()
    script = mysqld._script(tmp_path)
    assert f"exec {tmp_path}/lib64/ld-linux-x86-64.so.2 --library-path " in script
    assert f"{tmp_path}/{libraries}" in script
    assert f'{tmp_path}/usr/sbin/mysqld "$@" --basedir={tmp_path}/usr ' in script
    assert f"--lc-messages-dir={tmp_path}/{messages}" in script


def test_image_without_mysqld_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="no mysqld"):
        mysqld._script(tmp_path)


def load_mc() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mc", FILES / "mc.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_mc_stand_in_signature_matches_botocore(monkeypatch: pytest.MonkeyPatch) -> None:
    mc = load_mc()
    headers = mc.signed("PUT", "s3:9000", "/sluice", "user", "secret")
    moment = time.strptime(headers["x-amz-date"], "%Y%m%dT%H%M%SZ")

    class FixedDatetime(datetime.datetime):
        @classmethod
        def utcnow(cls) -> FixedDatetime:
            return cls(*moment[:6])

    monkeypatch.setattr("botocore.auth.get_current_datetime", FixedDatetime.utcnow)
    request = AWSRequest("PUT", "http://s3:9000/sluice", headers={"Host": "s3:9000"})
    request.context["payload_signing_enabled"] = True
    S3SigV4Auth(Credentials("user", "secret"), "s3", "us-east-1").add_auth(request)
    assert headers["Authorization"].replace(",", ", ") == request.headers["Authorization"]
