"""Stand-ins for the official images, where no image registry is reachable."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tools.backends.errors import ServiceError
from tools.backends.kafka import KAFKA_VERSION, fetch_jars
from tools.backends.programs import cache_dir, find_program, run_step
from tools.images.engine import Engine
from tools.images.roots import root_file_system

IMPORT_SECONDS: Final = 600.0
FILES: Final = Path(__file__).parent / "files"
LABEL: Final = "sluice.stand-in"
STABLE: Final = "bookworm"


@dataclass(frozen=True, slots=True)
class StandIn:
    """One stand-in. `content`: for people. `changes`: Dockerfile instructions for the import.

    Each is made of the distribution's packages and names its content in a label and on the
    terminal. They support what deploy/compose.yaml and tests/containers need of the official
    images.
    """

    content: str
    suite: str
    packages: tuple[str, ...]
    prepare: Callable[[Path], None]
    changes: tuple[str, ...]


def make_stand_in(engine: Engine, image: str) -> str:
    """Import the stand-in of this image under its name. Return its content.

    Raise `ServiceError`, also for an image without a stand-in.
    """
    repository = image.partition(":")[0]
    stand_in = STAND_INS.get(repository)
    if stand_in is None:
        raise ServiceError(
            f"there is no stand-in for the image {image}: {FILES.parent}/standins.py"
        )
    if (existing := _existing_stand_in(engine, repository)) is not None:
        engine.run("tag", existing, full_name(image))
        return stand_in.content
    with root_file_system(stand_in.suite, stand_in.packages) as root:
        stand_in.prepare(root)
        archive = root.parent / "root.tar"
        run_step(["tar", "-C", str(root), "-cf", str(archive), "."], IMPORT_SECONDS)
        changes = (*stand_in.changes, f'LABEL {LABEL}="{stand_in.content}"')
        engine.run(
            "import",
            *(word for change in changes for word in ("--change", change)),
            str(archive),
            full_name(image),
            seconds=IMPORT_SECONDS,
        )
    return stand_in.content


def _existing_stand_in(engine: Engine, repository: str) -> str | None:
    """Return another name of the same repository whose stand-in exists."""
    listed = engine.run(
        "images", f"--filter=label={LABEL}", "--format={{.Repository}}:{{.Tag}}"
    ).split()
    begin = f"{full_name(repository)}:"
    return next((name for name in listed if name.startswith(begin)), None)


def full_name(image: str) -> str:
    """Return the name with Docker's registry, as both engines resolve it."""
    return f"docker.io/{image if '/' in image else f'library/{image}'}"


def _install(root: Path, name: str, target: str) -> None:
    """Copy an executable file of ours."""
    place = root / target
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(FILES / name, place)
    place.chmod(0o755)


def _python(root: Path) -> None:
    (root / "usr/bin/python").symlink_to("python3")


def _redis(root: Path) -> None:
    _install(root, "redis.sh", "usr/local/bin/docker-entrypoint.sh")


def _mysql(root: Path) -> None:
    _install(root, "mysql.sh", "usr/local/bin/docker-entrypoint.sh")
    # The package has created a data directory; a volume would begin with a copy of it.
    shutil.rmtree(root / "var/lib/mysql")
    (root / "var/lib/mysql").mkdir()


def _kafka(root: Path) -> None:
    jars = fetch_jars("images")
    if jars is None:
        raise ServiceError("the jars of Apache Kafka need Maven: install maven")
    shutil.copytree(jars, root / "opt/kafka/libs")
    _install(root, "kafka.sh", "opt/kafka/start.sh")
    name = "kafka-broker-api-versions.sh"
    _install(root, name, f"opt/kafka/bin/{name}")


def _s3(root: Path) -> None:
    _install(root, "mc.py", "usr/local/bin/mc")
    minio = find_program("minio") or cache_dir() / "bin" / "minio"
    if Path(minio).exists():
        shutil.copy(minio, root / "usr/local/bin/minio")
        return
    weed = find_program("weed") or Path(sys.executable).with_name("weed")
    if not Path(weed).exists():
        raise ServiceError("there is no S3 server on this machine: `make install` brings SeaweedFS")
    shutil.copy(weed, root / "usr/local/bin/weed")
    _install(root, "minio.sh", "usr/local/bin/minio")


STAND_INS: Final = {
    "python": StandIn(
        "Debian's Python 3.11",
        STABLE,
        ("ca-certificates", "python3", "python3-venv", "python3-pip"),
        _python,
        ('CMD ["python3"]',),
    ),
    "redis": StandIn(
        "Debian's redis-server 7.0",
        STABLE,
        ("redis-server", "redis-tools"),
        _redis,
        ("WORKDIR /data", 'ENTRYPOINT ["docker-entrypoint.sh"]', 'CMD ["redis-server"]'),
    ),
    "mysql": StandIn(
        "Debian's mysql-server of unstable",
        "unstable",
        ("mysql-server",),
        _mysql,
        ('ENTRYPOINT ["docker-entrypoint.sh"]', 'CMD ["mysqld"]'),
    ),
    "apache/kafka": StandIn(
        f"Apache Kafka {KAFKA_VERSION} from Maven Central",
        STABLE,
        ("default-jre-headless",),
        _kafka,
        ('CMD ["/opt/kafka/start.sh"]',),
    ),
    "minio/minio": StandIn(
        "MinIO where this machine has it, else SeaweedFS",
        STABLE,
        ("python3-minimal", "python3"),
        _s3,
        ('ENTRYPOINT ["minio"]',),
    ),
}
