"""Each service runs on the lock of its image, which holds no driver that it may not use."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from support.clone import ROOT, Clone, clone_workspace
from support.locks import pinned_versions, read_lock
from support.redis_server import free_port, shared_server

S3 = {"aiobotocore", "botocore"}
KAFKA = {"aiokafka", "confluent-kafka"}
SQL = {"sqlalchemy", "alembic", "aiomysql", "pymysql", "aiosqlite"}
REDIS = {"redis", "hiredis"}
PICTURES = {"pillow", "pi-heif"}
FORBIDDEN = {
    "intake": S3 | KAFKA | SQL | PICTURES,
    "repository": PICTURES,
    "processor": REDIS,
    "gateway": PICTURES,
}
LIBRARIES = ("protos", "core", "backends", "common")
START_SECONDS = 60.0


@pytest.fixture(params=sorted(FORBIDDEN))
def service(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of our packages' wheels, built of a copy: building writes beside the sources."""
    clone = clone_workspace(tmp_path_factory.mktemp("workspace") / "sluice")
    folder = tmp_path_factory.mktemp("wheels")
    packages = [
        *(f"libs/{name}" for name in LIBRARIES),
        *(f"services/{each}" for each in FORBIDDEN),
    ]
    building = ("--wheel", "--no-build-isolation", "--python", sys.executable)
    for package in packages:
        uv("build", *building, "--out-dir", str(folder), str(clone.root / package))
    return folder


@pytest.fixture
def python(service: str, wheels: Path, tmp_path: Path) -> Path:
    """The interpreter of an environment with the service's lock and the wheels of our packages."""
    uv("venv", "--python", sys.executable, str(tmp_path / "environment"))
    python = tmp_path / "environment" / "bin" / "python"
    of_python = ("--python", str(python))
    lock = ROOT / "requirements" / f"{service}.txt"
    ours = [wheel_of(wheels, name) for name in (*LIBRARIES, service)]
    uv("pip", "sync", *of_python, "--require-hashes", str(lock))
    uv("pip", "install", *of_python, "--no-deps", *map(str, ours))
    uv("pip", "check", *of_python)
    return python


def uv(*arguments: str) -> str:
    """Run the pinned uv; return its output."""
    return subprocess.run(
        [str(Path(sys.executable).with_name("uv")), "--no-config", *arguments],
        env=Clone(ROOT).environment({"UV_SYSTEM_CERTS": "1"}),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=240,
    ).stdout


def wheel_of(folder: Path, package: str) -> Path:
    (wheel,) = folder.glob(f"sluice_{package}-*.whl")
    return wheel


def pinned(lock: str) -> dict[str, str]:
    """Return the versions in requirements/LOCK.txt by distribution."""
    text = (ROOT / "requirements" / f"{lock}.txt").read_text(encoding="utf-8")
    return pinned_versions(read_lock(text))


def test_lock_of_a_service_lacks_foreign_drivers(service: str) -> None:
    assert not set(pinned(service)) & FORBIDDEN[service]
    assert FORBIDDEN[service] <= set(pinned("run")), "a driver that nobody installs proves nothing"


def test_locks_of_services_are_part_of_the_whole(service: str) -> None:
    assert pinned(service).items() <= pinned("run").items()


@pytest.mark.long
def test_wheels_of_a_service_run_on_its_lock(service: str, python: Path, tmp_path: Path) -> None:
    """Nothing of another service is installed, and the service still starts as it would."""
    ours = {f"sluice-{name}" for name in (*LIBRARIES, service)}
    probe = f"import sluice_{service}.service"
    imported = subprocess.run(
        [str(python), "-W", "error", "-c", probe], capture_output=True, text=True, timeout=60
    )
    assert imported.returncode == 0, imported.stderr
    if service == "intake":
        assert_serves_on_redis(python, tmp_path)
    listing = json.loads(uv("pip", "list", "--python", str(python), "--format", "json"))
    assert {canonicalize_name(one["name"]) for one in listing} == set(pinned(service)) | ours


def assert_serves_on_redis(python: Path, folder: Path) -> None:
    """Start the intake of phase 5 and wait until it says that it listens."""
    ready, log = folder / "ready", folder / "intake.log"
    settings = {
        "COORDINATION": "redis",
        "CHUNK_TRANSPORT": "redis",
        "OBJECTS": "s3",
        "EVENTS": "kafka",
        "CATALOGUE": "mysql",
        "DURABILITY": "memory",
        "REDIS__URL": shared_server().url,
        "MYSQL__URL": "mysql://user:password@127.0.0.1:1/nowhere",
        "INTAKE_ADDRESS": f"127.0.0.1:{free_port()}",
        "REPOSITORY_ADDRESS": f"127.0.0.1:{free_port()}",
        "METRICS_ADDRESS": f"127.0.0.1:{free_port()}",
    }
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(python), "-m", "sluice_intake", "--ready-file", str(ready)],
            env={f"SLUICE_{name}": value for name, value in settings.items()},
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + START_SECONDS
        while not ready.exists():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.02)
    finally:
        process.terminate()
        assert process.wait(START_SECONDS) == 0
