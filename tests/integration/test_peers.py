"""Tests of the choice of test servers: chosen ones are used, or the error names a remedy."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import psutil
import pytest

from support import services
from tools.backends import apicurio, peers, redis, s3_servers
from tools.backends.errors import ChoiceError, ServiceError
from tools.backends.go_builds import GoProgram, build
from tools.backends.server_choice import Choice
from tools.backends.state import Record, StateDirectory
from tools.backends.supervisor import up

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 120
CHOICES = (redis.CHOICE, s3_servers.CHOICE, apicurio.CHOICE)


@pytest.fixture(autouse=True)
def nothing_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    for choice in CHOICES:
        monkeypatch.delenv(choice.variable, raising=False)


@pytest.fixture
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Simulate a machine without servers: an empty PATH folder, an empty cache, no wheels."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("SLUICE_SERVICES_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("tools.backends.programs.SYSTEM_FOLDERS", ())
    monkeypatch.setattr(redis, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    for name in [name for name in os.environ if name.startswith("JAVA_HOME")]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(apicurio, "JVM_FOLDER", tmp_path / "jvm")
    return folder


def put_program(folder: Path, name: str, output: str = "") -> Path:
    """Create a program that prints `output` and exits."""
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / name
    program.write_text(f"#!/bin/sh\necho '{output}'\n")
    program.chmod(0o755)
    return program


# ------------------------------------------------------------------ Redis and Valkey


def test_redis_is_the_default(bare_machine: Path) -> None:
    program = put_program(bare_machine, "redis-server", "Redis server v=7.0.15")
    put_program(bare_machine, "valkey-server", "Valkey server v=9.1.2")
    assert redis.find_server() == ("redis", str(program))


def test_valkey_is_the_default_without_redis(bare_machine: Path) -> None:
    program = put_program(bare_machine, "valkey-server", "Valkey server v=9.1.2")
    assert redis.find_server() == ("valkey", str(program))


def test_missing_redis_and_valkey_names_remedy(bare_machine: Path) -> None:
    with pytest.raises(ServiceError, match=r"install the package redis-server.*make install"):
        redis.find_server()


@pytest.mark.parametrize("kind", ["redis", "valkey"])
def test_chosen_redis_server_is_not_replaced(
    kind: str, bare_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = {"redis": "valkey", "valkey": "redis"}[kind]
    put_program(bare_machine, f"{other}-server", f"{other} server v=9.1.2")
    monkeypatch.setenv("SLUICE_SERVICES_REDIS", kind)
    with pytest.raises(ChoiceError, match=f"asks for {kind}, and {kind}-server is not on"):
        redis.find_server()


def test_valkey_named_redis_server_is_not_redis(
    bare_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_program(bare_machine, "redis-server", "Valkey server v=9.1.2")
    monkeypatch.setenv("SLUICE_SERVICES_REDIS", "redis")
    with pytest.raises(ChoiceError, match="is not it: install the package redis-server"):
        redis.find_server()


def test_valkey_of_wheel_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_SERVICES_REDIS", "valkey")
    kind, program = redis.find_server()
    assert kind == "valkey"
    assert redis.version_of(program).startswith("Valkey server v=")


# ------------------------------------------------------------------ S3


@pytest.mark.parametrize("kind", ["seaweedfs", "minio", "versitygw"])
def test_chosen_s3_server_is_not_replaced(
    kind: str, bare_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in {"weed", "minio", "versitygw"} - {kind.replace("seaweedfs", "weed")}:
        put_program(bare_machine, name)
    monkeypatch.setenv("SLUICE_SERVICES_S3", kind)
    remedy = "make install" if kind == "seaweedfs" else f"make peers PEERS={kind}"
    with pytest.raises(ChoiceError, match=rf"asks for {kind}.*`{remedy}`"):
        s3_servers.find_server()


def test_build_requires_go(bare_machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_SERVICES_S3", "versitygw")
    with pytest.raises(ChoiceError, match=r"neither `versitygw` nor `go`.*install Go"):
        s3_servers.find_server(install=True)


def test_seaweedfs_is_the_default_beside_minio(bare_machine: Path) -> None:
    weed = put_program(bare_machine, "weed")
    put_program(bare_machine, "minio")
    assert s3_servers.find_server() == ("seaweedfs", str(weed))


def test_unknown_kind_is_rejected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_SERVICES_S3", "ceph")
    with pytest.raises(ChoiceError, match="set it to one of seaweedfs, minio, versitygw"):
        s3_servers.find_server()


# ------------------------------------------------------------------ building


@pytest.fixture
def go(bare_machine: Path, tmp_path: Path) -> Path:
    """Create a fake Go with the source "h1:known" that builds a program; return its call log."""
    reply = json.dumps({"Sum": "h1:known", "Dir": str(tmp_path)})
    program = bare_machine / "go"
    program.write_text(
        "#!/bin/sh\n"
        f'echo "$@" >> {tmp_path / "calls"}\n'
        'case "$1" in\n'
        f"mod) echo 'go: downloading something' >&2; echo '{reply}';;\n"
        'build) /bin/echo \'#!/bin/sh\' > "$3"; /bin/chmod 755 "$3";;\n'
        "esac\n"
    )
    program.chmod(0o755)
    return tmp_path / "calls"


def test_program_is_built_once(go: Path) -> None:
    program = GoProgram("it", "example.org/it", "v1", "h1:known", "./cmd/it", 1)
    path = build("s3", program)
    calls = go.read_text()
    assert os.access(path, os.X_OK)
    assert "mod download -json example.org/it@v1" in calls
    assert "./cmd/it" in calls
    assert build("s3", program) == path
    assert go.read_text() == calls


def test_source_with_wrong_checksum_is_not_built(go: Path) -> None:
    program = GoProgram("it", "example.org/it", "v1", "h1:other", ".", 1)
    with pytest.raises(ServiceError, match="checksum h1:known and not h1:other"):
        build("s3", program)
    assert "build" not in go.read_text()
    assert not program.path.exists()


# ------------------------------------------------------------------ Java and Apicurio


def put_java(home: Path, version: str) -> Path:
    return put_program(home / "bin", "java", f'openjdk version "{version}" 2026-04-21')


@pytest.mark.parametrize("where", ["JAVA_HOME_25", "JAVA_HOME_25_X64", "JAVA_HOME", "PATH", "jvm"])
def test_java_25_is_found_in_every_location(
    where: str, bare_machine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_java(bare_machine.parent, "17.0.15")  # first on the PATH
    home = tmp_path / "jvm" / "jdk-25" if where == "jvm" else tmp_path / "jdk"
    java = put_java(home, "25.0.3")
    if where == "PATH":
        monkeypatch.setenv("PATH", str(java.parent))
    elif where != "jvm":
        monkeypatch.setenv(where, str(home))
    assert apicurio.find_java() == str(java)


@pytest.mark.parametrize(
    ("version", "new_enough"),
    [("17.0.15", False), ("24.0.2", False), ("1.8.0_402", False), ("25-ea", True), ("26", True)],
)
def test_older_java_is_rejected(version: str, new_enough: bool, bare_machine: Path) -> None:
    put_java(bare_machine.parent, version)
    assert (apicurio.find_java() is not None) == new_enough


@pytest.fixture
def java(bare_machine: Path) -> None:
    put_java(bare_machine.parent, "25.0.3")


def test_chosen_apicurio_without_java_names_remedy(
    bare_machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLUICE_SERVICES_REGISTRY", "apicurio")
    with pytest.raises(ChoiceError, match=r"needs Java 25.*JAVA_HOME_25"):
        apicurio.find_registry()


@pytest.mark.usefixtures("java")
def test_chosen_apicurio_not_fetched_names_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_SERVICES_REGISTRY", "apicurio")
    with pytest.raises(ChoiceError, match="make peers PEERS=apicurio"):
        apicurio.find_registry()


def test_standin_is_the_default_with_reason(bare_machine: Path) -> None:
    assert apicurio.find_registry() is None
    assert "the stand-in, for Apicurio" in apicurio.described()


@pytest.fixture
def maven(bare_machine: Path, java: None, tmp_path: Path) -> str:
    """Create a fake Maven that serves an archive; return the checksum of the archive."""
    archive = tmp_path / "served.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("quarkus-run.jar"), io.BytesIO())
    program = bare_machine / "mvn"
    program.write_text(
        "#!/bin/sh\n"
        'for word in "$@"; do case "$word" in\n'
        f'-DoutputDirectory=*) /bin/cp {archive} "${{word#*=}}/";;\n'
        "esac; done\n"
    )
    program.chmod(0o755)
    return hashlib.sha256(archive.read_bytes()).hexdigest()


def test_fetched_apicurio_is_used(maven: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apicurio, "SHA256", maven)
    folder = apicurio.fetch()
    found = apicurio.find_registry()
    assert found is not None
    assert str(folder / "quarkus-run.jar") in found.command(1, folder)


@pytest.mark.usefixtures("maven")
def test_archive_with_wrong_checksum_is_rejected() -> None:
    with pytest.raises(ServiceError, match="has the checksum"):
        apicurio.fetch()
    assert apicurio.find_registry() is None


# ------------------------------------------------------------------ all of them


def test_default_peers_skip_what_is_unavailable(
    bare_machine: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    put_program(bare_machine, "valkey-server", "Valkey server v=9.1.2")
    monkeypatch.delenv("SLUICE_REQUIRE_SERVICES", raising=False)
    peers.get([])
    printed = capsys.readouterr().err
    assert "left out: Apicurio" in printed
    assert "left out: there is no chromium" in printed
    monkeypatch.setenv("SLUICE_REQUIRE_SERVICES", "1")
    with pytest.raises(ServiceError, match="browsers: there is no chromium"):
        peers.get([])


def test_named_peer_is_installed_or_rejected(bare_machine: Path) -> None:
    with pytest.raises(ServiceError, match=r"apicurio: Apicurio .* needs Java 25"):
        peers.get(["apicurio"])


def test_running_server_of_other_kind_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server is not stopped either, because its owner may need it."""
    state = StateDirectory(tmp_path)
    state.create_home("redis")
    running = subprocess.Popen(["sleep", "60"])
    try:
        started = psutil.Process(running.pid).create_time()
        facts = {"url": "redis://127.0.0.1:1/0", "kind": "redis"}
        state.save("redis", Record(running.pid, started, {}, facts))
        monkeypatch.setenv("SLUICE_SERVICES_REDIS", "valkey")
        with pytest.raises(ChoiceError, match=r"kind redis runs already.*services\.py down redis"):
            up(state, ["redis"])
        assert running.poll() is None
    finally:
        running.kill()
        running.wait()


def test_shared_server_of_other_kind_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = {"redis": {"url": "redis://127.0.0.1:1/0", "kind": "redis"}}
    (tmp_path / "services.json").write_text(json.dumps(facts))
    monkeypatch.setenv("SLUICE_SERVICES_DIR", str(tmp_path))
    assert services.redis_url() == "redis://127.0.0.1:1/0"
    monkeypatch.setenv("SLUICE_SERVICES_REDIS", "valkey")
    with pytest.raises(pytest.fail.Exception, match="kind redis runs already"):
        services.redis_url()


def test_run_stops_without_chosen_server(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    environment = {
        **os.environ,
        "SLUICE_SERVICES_DIR": str(tmp_path / "state"),
        "SLUICE_SERVICES_S3": "ceph",
        "SLUICE_REQUIRE_SERVICES": "",
    }
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "services.py"), "run", "--", "touch", str(marker)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 1
    assert "set it to one of seaweedfs, minio, versitygw" in done.stderr
    assert not marker.exists()


def test_choice_error_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_CHOICE", "neither")
    with pytest.raises(ChoiceError, match="A_CHOICE is 'neither': set it to one of this, that"):
        Choice("A_CHOICE", ("this", "that")).requested()
