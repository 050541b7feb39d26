"""Secrets stay secret: no output of a run with faults contains one.

Every secret setting of the model has a canary, so a new one cannot be forgotten.
"""

from __future__ import annotations

import base64
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import grpc
import pytest

from support import mysql_server
from support.canaries import SECRET_SETTINGS, Canaries, new_canary, plant
from support.canary_access import CanaryAccess, plant_access
from support.canary_runs import canary_run
from support.deployments import Services, deployment
from support.environment import process_environment
from support.mysql_server import MysqlServer
from support.redis_server import RedisServer, free_port
from support.span_collector import span_collector

SERVICES = ("sluice_intake", "sluice_repository", "sluice_processor", "sluice_standalone")
STORING = ("sluice_repository", "sluice_processor", "sluice_standalone")
SEPARATE = ("sluice_repository", "sluice_processor")
ON_REDIS = ("sluice_intake", "sluice_repository", "sluice_standalone")


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    with deployment(Services.name, tmp_path_factory.mktemp("services")) as backends:
        assert isinstance(backends, Services)
        yield backends


@pytest.fixture
def access(tmp_path: Path) -> CanaryAccess:
    return plant_access(tmp_path / "access")


@pytest.fixture
def canaries(access: CanaryAccess) -> Canaries:
    settings = plant()
    return replace(settings, planted={**settings.planted, **access.planted})


def working(services: Services, canaries: Canaries) -> dict[str, str]:
    """Return settings with real backends, and canaries where none of them is asked."""
    # Empty: with a session token, the store would refuse the keys.
    return {**canaries.environment, **services.settings, "SLUICE_S3__SESSION_TOKEN": ""}


def closed() -> str:
    return f"127.0.0.1:{free_port()}"


def on_database(services: Services, canaries: Canaries) -> dict[str, str]:
    """Log in at the real database with a canary."""
    secret = canaries.planted["SLUICE_MYSQL__URL"].secret
    database = services.mysql_url.rpartition("/")[2]
    return {"SLUICE_MYSQL__URL": mysql_server.shared_server().url(database, password=secret)}


def with_keys(canaries: Canaries) -> dict[str, str]:
    names = ("SLUICE_S3__ACCESS_KEY", "SLUICE_S3__SECRET_KEY", "SLUICE_S3__SESSION_TOKEN")
    return {name: canaries.environment[name] for name in names}


def faulty(fault: str, services: Services, canaries: Canaries) -> dict[str, str]:
    """Return the settings of one fault."""
    match fault:
        case "mysql unreachable":
            return {"SLUICE_MYSQL__URL": canaries.environment["SLUICE_MYSQL__URL"]}
        case "mysql password":
            return on_database(services, canaries)
        case "redis unreachable":
            return {"SLUICE_REDIS__URL": canaries.environment["SLUICE_REDIS__URL"]}
        case "s3 unreachable":
            return {**with_keys(canaries), "SLUICE_S3__ENDPOINT_URL": f"http://{closed()}"}
        case "s3 keys":
            return with_keys(canaries)
        case "kafka unreachable":
            return {**sasl("PLAIN"), "SLUICE_KAFKA__BOOTSTRAP_SERVERS": closed()}
        case "kafka login":
            return sasl("PLAIN")
        case "kafka scram":
            return sasl("SCRAM-SHA-512")
        case "registry unreachable":
            return {"SLUICE_SCHEMA_REGISTRY_URL": f"http://{closed()}"}
        case "queue unreachable":
            return {"SLUICE_SQS__QUEUE_URL": f"http://{closed()}/1/queue"}
        case "collector unreachable":
            return {"SLUICE_OTLP_ENDPOINT": f"http://{closed()}"}
    raise AssertionError(fault)


def sasl(mechanism: str) -> dict[str, str]:
    return {
        "SLUICE_KAFKA__SECURITY_PROTOCOL": "SASL_PLAINTEXT",
        "SLUICE_KAFKA__SASL_MECHANISM": mechanism,
        "SLUICE_KAFKA__USERNAME": "sluice",
    }


FAULTS: Mapping[str, tuple[str, ...]] = {
    "redis unreachable": ON_REDIS,
    "mysql unreachable": SEPARATE,
    "mysql password": STORING,
    "s3 unreachable": SEPARATE,
    "s3 keys": STORING,
    "kafka unreachable": SEPARATE,
    "kafka login": STORING,
    "kafka scram": ("sluice_repository",),
    "registry unreachable": ("sluice_repository",),
    "queue unreachable": ("sluice_processor",),
    "collector unreachable": SERVICES,
}


def ends_start(fault: str) -> bytes:
    """Return a part of the error that ends the start; empty for a fault that is survived."""
    match fault.split():
        case "redis", _:
            return b"SLUICE_REDIS__URL"
        case "mysql", _:
            return b"SLUICE_MYSQL__URL"
        case "s3", _:
            return b"SLUICE_BUCKET"
        case "kafka", "login" | "scram":
            return b"refuses the credentials"
    return b""


RUNS = [(fault, module) for fault, modules in FAULTS.items() for module in modules]


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "module"), RUNS)
def test_no_output_of_faulty_run_has_a_secret(
    services: Services,
    canaries: Canaries,
    access: CanaryAccess,
    tmp_path: Path,
    fault: str,
    module: str,
) -> None:
    settings = working(services, canaries) | faulty(fault, services, canaries)
    with canary_run(module, tmp_path / "run", settings, access) as run:
        if run.serves:
            assert grpc.StatusCode.UNAUTHENTICATED not in run.call_everything()
            run.call_with_refused_tokens()
            run.scrape()
        run.stop()
        error = ends_start(fault)
        assert error in run.output
        assert run.process.returncode == (78 if error else 0)
        assert canaries.leaks(run.output) == []


@pytest.mark.parametrize("module", ["sluice_intake", "sluice_repository", "sluice_standalone"])
def test_refused_redis_password_is_in_no_output(
    services: Services, canaries: Canaries, access: CanaryAccess, tmp_path: Path, module: str
) -> None:
    with RedisServer("--requirepass", "another-password") as redis:
        secret = quote(canaries.planted["SLUICE_REDIS__URL"].secret, safe="")
        url = f"redis://:{secret}@127.0.0.1:{redis.port}/0"
        settings = working(services, canaries) | {"SLUICE_REDIS__URL": url}
        with canary_run(module, tmp_path / "run", settings, access) as run:
            assert run.process.wait(60) == 78
            assert b"SLUICE_REDIS__URL" in run.output
            assert canaries.leaks(run.output) == []


@pytest.mark.parametrize("module", SERVICES)
def test_shown_settings_have_no_secret(canaries: Canaries, module: str, tmp_path: Path) -> None:
    plain = {"SLUICE_DATA_DIR": str(tmp_path)}
    ended = subprocess.run(
        [sys.executable, "-m", module, "--show-settings"],
        env=process_environment({**canaries.environment, **plain}),
        capture_output=True,
        timeout=60,
        check=True,
    )
    for setting in SECRET_SETTINGS:
        assert setting.name.encode() in ended.stdout
    assert canaries.leaks(ended.stdout + ended.stderr) == []


@pytest.fixture
def database(services: Services, canaries: Canaries) -> Iterator[str]:
    """Yield a URL of the database for a user whose password is a canary."""
    server = mysql_server.shared_server()
    secret = canaries.planted["SLUICE_MYSQL__URL"].secret
    name = services.mysql_url.rpartition("/")[2]
    literal = secret.replace("\\", "\\\\")
    server.run(f"CREATE USER canary IDENTIFIED BY '{literal}'", f"GRANT ALL ON {name}.* TO canary")
    yield f"mysql+aiomysql://canary:{quote(secret, safe='')}@127.0.0.1:{server.port}/{name}"
    server.run("DROP USER IF EXISTS canary")


def lock_out(server: MysqlServer) -> None:
    """Change the password of the canary's user, and end its sessions."""
    server.run("ALTER USER canary IDENTIFIED BY 'another-password'")
    for (number,) in server.run(
        "SELECT id FROM information_schema.processlist WHERE user = 'canary'"
    ):
        server.run(f"KILL {number}")


@pytest.mark.slow
def test_backends_lost_while_serving_reveal_no_secret(
    services: Services,
    canaries: Canaries,
    access: CanaryAccess,
    database: str,
    tmp_path: Path,
) -> None:
    """The secrets are the right ones, so each is really sent; then the backends fail."""
    password = canaries.planted["SLUICE_REDIS__URL"].secret
    keys = [services.settings[f"SLUICE_S3__{name}_KEY"] for name in ("ACCESS", "SECRET")]
    with span_collector() as collector, RedisServer("--requirepass", password) as redis:
        settings = working(services, canaries) | {
            "SLUICE_REDIS__URL": f"redis://:{quote(password, safe='')}@127.0.0.1:{redis.port}/0",
            "SLUICE_MYSQL__URL": database,
            "SLUICE_OTLP_ENDPOINT": collector.endpoint,
        }
        with canary_run("sluice_standalone", tmp_path / "run", settings, access) as run:
            assert run.serves, run.output.decode()[-4000:]
            assert run.call_everything() == []
            run.call_with_refused_tokens()
            lock_out(mysql_server.shared_server())
            assert grpc.StatusCode.UNAVAILABLE in run.call_everything()
            redis.kill()
            assert grpc.StatusCode.UNAVAILABLE in run.call_everything()
            run.scrape()
            run.stop()
            assert canaries.planted["SLUICE_OTLP_HEADERS"].is_in(collector.headers)
            assert collector.spans
            assert canaries.leaks(run.output + collector.spans) == []
            assert keys[1].encode() not in run.output + collector.spans


def test_tokens_and_keys_are_in_no_output(
    canaries: Canaries, access: CanaryAccess, tmp_path: Path
) -> None:
    """Without backends. Guards the run too: the canaries are in what the server reads."""
    with canary_run("sluice_standalone", tmp_path / "run", {}, access) as run:
        assert run.serves, run.output.decode()[-4000:]
        assert run.call_everything() == []
        run.call_with_refused_tokens()
        run.scrape()
        run.stop()
        assert b"sluice_auth_failed_checks_total" in run.output
        assert canaries.leaks(run.output) == []
    files = b"".join(path.read_bytes() for path in (tmp_path / "access").iterdir())
    sent = access.token.encode()
    assert set(canaries.leaks(files + sent)) == set(access.planted)


@pytest.mark.parametrize("shift", range(3))
def test_canary_is_found_in_base64(shift: int) -> None:
    """Guards the search itself."""
    canary = new_canary("a")
    assert canary.is_in(f"x {canary.secret}".encode())
    assert canary.is_in(base64.b64encode(bytes(shift) + canary.secret.encode()))
    assert not canary.is_in(base64.b64encode(b"something else"))
