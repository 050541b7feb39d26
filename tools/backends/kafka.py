"""Apache Kafka in KRaft mode, one node, from its published jars; else a mock, named as such."""

from __future__ import annotations

import base64
import shutil
import sys
import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, Final

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tools.backends.errors import ChoiceError, NotReadyError, ServiceError
from tools.backends.ports import PortPicker
from tools.backends.programs import cache_dir, find_program, install_package, run_step
from tools.backends.progress import say
from tools.backends.server_choice import Choice
from tools.backends.service import Facts, Launch, Service
from tools.backends.tls import ServerTls

KAFKA_VERSION: Final = "4.1.1"
SLF4J_VERSION: Final = "1.7.36"
OLDEST_JAVA: Final = 17
TLS_PROTOCOL: Final = "SSL"
CHOICE: Final = Choice("SLUICE_SERVICES_KAFKA", ("apache", "mock"))
ANSWER_SECONDS: Final = 2.0
FORMAT_SECONDS: Final = 60.0
DOWNLOAD_SECONDS: Final = 600.0

# Short runs on few cores: the first compiler and the simplest collector start fastest.
JAVA_OPTIONS: Final = (
    "-XX:TieredStopAtLevel=1",
    "-XX:+UseSerialGC",
    "-Xshare:auto",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
)
POM: Final = f"""\
<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>sluice</groupId>
  <artifactId>kafka-for-tests</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>{KAFKA_VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId>
      <artifactId>slf4j-simple</artifactId>
      <version>{SLF4J_VERSION}</version>
    </dependency>
  </dependencies>
</project>
"""


class Kafka(Service):
    name: ClassVar[str] = "kafka"
    choice: ClassVar[Choice | None] = CHOICE

    def prepare(self, ports: PortPicker, before: Mapping[str, int]) -> Launch:
        requested = CHOICE.requested()
        java = None if requested == "mock" else self._java()
        if find_program("kcat") is None:
            install_package(self.name, "kcat")  # for people, and for a test of their commands
        jars = None if java is None else fetch_jars(self.name)
        if java is None or jars is None:
            if requested == "apache":
                raise ChoiceError(
                    f"{CHOICE.variable} asks for apache, which needs Java {OLDEST_JAVA} and Maven: "
                    "install them"
                )
            if self.tls is not None:
                raise ChoiceError(
                    "the mock of Kafka has no TLS, and Apache Kafka needs Java "
                    f"{OLDEST_JAVA} and Maven: install them"
                )
            return self._mock()
        picked = ports.pick("broker", "controller", before=before)
        address = f"127.0.0.1:{picked['broker']}"
        properties = self.home / "server.properties"
        properties.write_text(
            server_properties(address, picked["controller"], self.home / "data", self.tls),
            encoding="utf-8",
        )
        classes = ["-cp", f"{jars}/*"]
        if not (self.home / "data" / "meta.properties").exists():
            say(self.name, "formatting the log directory (once)")
            tool = [java, *JAVA_OPTIONS, *classes, "kafka.tools.StorageTool", "format"]
            run_step([*tool, "-t", cluster_id(), "-c", str(properties)], FORMAT_SECONDS)
        command = [java, *JAVA_OPTIONS, "-Xmx384m", *classes, "kafka.Kafka", str(properties)]
        facts = {"bootstrap_servers": address, "kind": "apache", "version": KAFKA_VERSION}
        if self.tls is not None:
            facts["security_protocol"] = TLS_PROTOCOL
        return Launch(command, picked, facts)

    def confirm(self, facts: Facts) -> Facts:
        if facts["kind"] == "mock":
            announced = self.home / "address"
            if not announced.exists():
                raise NotReadyError("the mock has not announced its address")
            facts = {**facts, "bootstrap_servers": announced.read_text(encoding="utf-8")}
        client = AdminClient({**client_properties(facts), "log_level": 0})
        try:
            brokers = client.list_topics(timeout=ANSWER_SECONDS).brokers
        except KafkaException as error:
            raise NotReadyError(str(error)) from error
        if not brokers:
            raise NotReadyError("no broker has registered yet")
        return facts

    def _java(self) -> str | None:
        if find_program("java") is None:
            install_package(self.name, "default-jre-headless")
        java = find_program("java")
        if java is None:
            return None
        # The first line reads: openjdk version "17.0.15" 2025-04-15
        version = run_step([java, "-version"], FORMAT_SECONDS).partition('"')[2]
        major = version.partition(".")[0]
        return java if major.isdigit() and int(major) >= OLDEST_JAVA else None

    def _mock(self) -> Launch:
        say(
            self.name,
            "THIS IS A MOCK, librdkafka's: in memory, no topic administration. Apache Kafka "
            f"needs Java {OLDEST_JAVA} (default-jre-headless) and maven",
        )
        announced = self.home / "address"
        announced.unlink(missing_ok=True)
        root = Path(__file__).resolve().parents[2]
        command = [sys.executable, "-m", "tools.backends.kafka_mock", str(announced)]
        facts = {"bootstrap_servers": "", "kind": "mock", "version": "librdkafka"}
        return Launch(command, {}, facts, {"PYTHONPATH": str(root)})


def fetch_jars(service: str) -> Path | None:
    """Return the server's jars, downloaded once per user; None without Maven."""
    jars = cache_dir() / f"kafka-{KAFKA_VERSION}"
    if jars.exists():
        return jars
    if find_program("mvn") is None:
        install_package(service, "maven")
    maven = find_program("mvn")
    if maven is None:
        return None
    say(service, f"fetching Apache Kafka {KAFKA_VERSION} with Maven (once, about 45 MB)")
    jars.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=jars.parent) as scratch:
        pom = Path(scratch) / "pom.xml"
        pom.write_text(POM, encoding="utf-8")
        target = Path(scratch) / "jars"
        goal = ["dependency:copy-dependencies", f"-DoutputDirectory={target}"]
        command = [maven, "-B", "-q", "-f", str(pom), *goal, "-DincludeScope=runtime"]
        try:
            run_step(command, DOWNLOAD_SECONDS)
        except ServiceError as error:
            say(service, str(error))
            return None
        # Rename, so that the folder is complete or absent; another process may have been faster.
        if not jars.exists():
            shutil.move(target, jars)
    return jars


def client_properties(facts: Facts) -> dict[str, str]:
    """Return the configuration of librdkafka's clients."""
    properties = {"bootstrap.servers": facts["bootstrap_servers"]}
    if "ca_file" in facts:
        properties |= {
            "security.protocol": facts["security_protocol"],
            "ssl.ca.location": facts["ca_file"],
        }
    return properties


def server_properties(
    address: str, controller_port: int, data: Path, tls: ServerTls | None = None
) -> str:
    """Return the configuration of one node that is broker and controller.

    With TLS, its own connections between the two use it as well.
    """
    protocol = "PLAINTEXT" if tls is None else TLS_PROTOCOL
    properties = {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
        "controller.listener.names": "CONTROLLER",
        "listeners": f"{protocol}://{address},CONTROLLER://127.0.0.1:{controller_port}",
        "advertised.listeners": f"{protocol}://{address}",
        "listener.security.protocol.map": f"{protocol}:{protocol},CONTROLLER:{protocol}",
        "inter.broker.listener.name": protocol,
        "log.dirs": str(data),
        # Sluice creates its topics, with its configured number of partitions.
        "auto.create.topics.enable": "false",
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        "group.initial.rebalance.delay.ms": "0",
    }
    if tls is not None:
        properties |= {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(tls.keystore),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(tls.paths.ca),
        }
    return "".join(f"{name}={value}\n" for name, value in properties.items())


def cluster_id() -> str:
    """Return a random id in Kafka's format: 16 bytes in URL-safe base64."""
    while True:
        text = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        # The tool would parse a leading dash as an option.
        if not text.startswith("-"):
            return text
