"""Apicurio, a schema registry with Confluent's API: fetched with Maven, run on Java 25."""

from __future__ import annotations

import hashlib
import os
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tools.backends.errors import ChoiceError, ServiceError
from tools.backends.programs import cache_dir, find_program, install_package, run_step
from tools.backends.progress import say
from tools.backends.server_choice import Choice

VERSION: Final = "3.3.3"
SHA256: Final = "8bc6751c76d963734224b01d5e7f84ccb3cb61c87d3bd77c36c35f10a5cbed63"
ARTIFACT: Final = f"io.apicurio:apicurio-registry-app:{VERSION}:tar.gz:all"
API: Final = "/apis/ccompat/v7"
OLDEST_JAVA: Final = 25
JAVA_SECONDS: Final = 60.0
FETCH_SECONDS: Final = 900.0
CHOICE: Final = Choice("SLUICE_SERVICES_REGISTRY", ("apicurio", "standin"))
JVM_FOLDER: Final = Path("/usr/lib/jvm")
NO_JAVA: Final = (
    f"Apicurio {VERSION} needs Java {OLDEST_JAVA} or newer: install one and name its folder with "
    "JAVA_HOME_25, or put its `java` first on the PATH"
)
NOT_FETCHED: Final = f"Apicurio {VERSION} is not fetched: `make peers PEERS=apicurio` does that"


@dataclass(frozen=True, slots=True)
class Apicurio:
    """Files and programs to start one."""

    java: str
    folder: Path

    def command(self, port: int, data: Path) -> list[str]:
        """Return the command that serves on a loopback port; schemas are kept in memory only."""
        options = {
            "quarkus.http.host": "127.0.0.1",
            "quarkus.http.port": str(port),
            # Health and metrics; they listen on all addresses by default.
            "quarkus.management.host": "127.0.0.1",
            "quarkus.management.port": "0",
            "quarkus.http.access-log.enabled": "false",
            "java.io.tmpdir": str(data),
        }
        # As for Kafka: short runs on few cores.
        machine = ["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx384m"]
        properties = [f"-D{name}={value}" for name, value in options.items()]
        return [self.java, *machine, *properties, "-jar", str(self.folder / "quarkus-run.jar")]


def find_registry() -> Apicurio | None:
    """Return what starts Apicurio; None where the stand-in is to be used.

    By default it is used where Java 25 is installed and Apicurio was fetched. Raise `ChoiceError`
    if it was requested by name and is unavailable.
    """
    requested = CHOICE.requested()
    if requested == "standin":
        return None
    try:
        return _ready()
    except ServiceError as error:
        if requested:
            raise ChoiceError(f"{CHOICE.variable} asks for apicurio: {error}") from error
        return None


def described() -> str:
    """Return which registry tests use, and why if it is not Apicurio."""
    if CHOICE.requested() == "standin":
        return "the stand-in"
    try:
        ready = _ready()
    except ServiceError as error:
        return f"the stand-in, for {error}"
    return f"apicurio {VERSION} on {ready.java}"


def _ready() -> Apicurio:
    java, folder = find_java(), _folder()
    if java is None:
        raise ServiceError(NO_JAVA)
    if not folder.exists():
        raise ServiceError(NOT_FETCHED)
    return Apicurio(java, folder)


def fetch() -> Path:
    """Fetch it unless it is cached. Raise `ServiceError`, for missing Java 25 as well."""
    if find_java() is None:
        raise ServiceError(NO_JAVA)
    folder = _folder()
    if folder.exists():
        return folder
    if find_program("mvn") is None:
        install_package("registry", "maven")
    maven = find_program("mvn")
    if maven is None:
        raise ServiceError("Apicurio is fetched with Maven: install the package maven")
    say("registry", f"fetching Apicurio {VERSION} with Maven (once, 159 MB)")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        goal = ["dependency:copy", f"-Dartifact={ARTIFACT}", f"-DoutputDirectory={scratch}"]
        run_step([maven, "-B", "-q", *goal], FETCH_SECONDS, directory=Path(scratch))
        (archive,) = Path(scratch).glob("*.tar.gz")
        with archive.open("rb") as file:
            checksum = hashlib.file_digest(file, "sha256").hexdigest()
        if checksum != SHA256:
            raise ServiceError(
                f"{ARTIFACT} has the checksum {checksum} and not {SHA256}: do not use it, and find "
                "out who changed it"
            )
        unpacked = Path(scratch) / "unpacked"
        with tarfile.open(archive) as tar:
            tar.extractall(unpacked, filter="data")
        # Rename, so that the folder is complete or absent; another process may have been faster.
        if not folder.exists():
            unpacked.rename(folder)
    return folder


def find_java() -> str | None:
    """Return the first `java` of this machine that is new enough.

    Search JAVA_HOME_25, JAVA_HOME, the PATH and the folders of distributions.
    """
    for java in _javas():
        # The first line reads: openjdk version "25.0.3" 2026-04-21 LTS
        try:
            answer = run_step([java, "-version"], JAVA_SECONDS)
        except ServiceError:
            continue  # skip one that does not run
        major = answer.partition('"')[2].partition('"')[0].partition(".")[0].partition("-")[0]
        if major.isdigit() and int(major) >= OLDEST_JAVA:
            return java
    return None


def _javas() -> Iterator[str]:
    # JAVA_HOME_25_X64 and the like are the names on hosted runners.
    named = sorted(name for name in os.environ if name.startswith(f"JAVA_HOME_{OLDEST_JAVA}"))
    for home in filter(None, (os.environ.get(name) for name in (*named, "JAVA_HOME"))):
        if (java := find_program(str(Path(home) / "bin" / "java"))) is not None:
            yield java
    if (on_path := find_program("java")) is not None:
        yield on_path
    for folder in sorted(JVM_FOLDER.glob(f"*{OLDEST_JAVA}*")):
        if (java := find_program(str(folder / "bin" / "java"))) is not None:
            yield java


def _folder() -> Path:
    return cache_dir() / f"apicurio-{VERSION}"
