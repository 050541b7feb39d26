"""Schema registry: every value is framed with the id of its registered schema."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from confluent_kafka.schema_registry import AsyncSchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.schema_registry.protobuf import AsyncProtobufDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from google.protobuf.unknown_fields import UnknownFieldSet
from pydantic import SecretStr

from sluice.events.v1 import uploads_pb2
from sluice_backends.kafka.consumer import EventConsumer
from sluice_backends.kafka.handling import ConsumerOptions
from sluice_backends.kafka.options import KafkaOptions
from sluice_backends.kafka.publisher import open_kafka_publisher
from sluice_backends.kafka.receiving import ReceivedEvent
from sluice_backends.kafka.schemas import open_schema_frames
from sluice_core.configuration import ConfigurationError
from sluice_core.errors import InvalidArgument, Unavailable
from sluice_core.events.registry import EVENT_TYPES
from sluice_core.ports.event_publisher import EventRecord
from support.certificates import REFUSED, Authority, Issued, write_tls
from support.kafka import failed, messages_in, unique_name
from support.schema_registry import CREDENTIALS, SchemaRegistry, schema_registry
from support.tls_terminator import terminating_tls


@pytest.fixture
async def registry() -> AsyncIterator[SchemaRegistry]:
    async with schema_registry() as running:
        yield running


@pytest.fixture
def framing(kafka: KafkaOptions, registry: SchemaRegistry) -> KafkaOptions:
    """Return the Kafka options with that registry."""
    return replace(
        kafka,
        schema_registry_url=registry.url,
        schema_registry_credentials=SecretStr(CREDENTIALS),
    )


async def test_registry_with_private_authority_is_verified(
    framing: KafkaOptions, registry: SchemaRegistry, tmp_path: Path
) -> None:
    authority = Authority()
    event = failed("sluice.uploads.v1", "node-1", 1)
    (tmp_path / "ca.pem").write_bytes(authority.pem)
    port = urlsplit(registry.url).port
    assert port is not None

    async def frame(issued: Issued) -> bytes:
        with terminating_tls(write_tls(tmp_path / "server", authority, issued), port) as https_port:
            options = replace(
                framing,
                schema_registry_url=f"https://127.0.0.1:{https_port}",
                schema_registry_ca_file=tmp_path / "ca.pem",
            )
            async with open_schema_frames(options) as frames:
                return await frames.frame(event)

    assert (await frame(authority.issue())).endswith(event.payload)
    for refused in REFUSED.values():
        with pytest.raises(Unavailable, match="SCHEMA_REGISTRY_UNAVAILABLE") as caught:
            await frame(refused.issue(authority))
        assert refused.problem in caught.value.operator_message


async def test_unusable_registry_authority_is_refused(
    framing: KafkaOptions, tmp_path: Path
) -> None:
    options = replace(framing, schema_registry_ca_file=tmp_path / "none.pem")
    with pytest.raises(ConfigurationError, match="SLUICE_SCHEMA_REGISTRY_CA_FILE: a TLS file"):
        async with open_schema_frames(options):
            pytest.fail("opened")


def one_of_each(topic: str) -> list[EventRecord]:
    """Return one event of every registered type."""
    records = []
    for number, (name, message_type) in enumerate(sorted(EVENT_TYPES.items())):
        header = uploads_pb2.EventHeader(event_id=f"id-{number}", tenant="default", sequence=1)
        header.occurred_at.FromSeconds(1_700_000_000)
        key = "node_id" if "node_id" in message_type.DESCRIPTOR.fields_by_name else "job_id"
        message = message_type(header=header, **{key: f"node-{number}"})
        payload = message.SerializeToString()
        records.append(
            EventRecord(f"id-{number}", name, topic, f"node-{number}", "default", 1.7e9, payload)
        )
    return records


async def parse_with_schema(registry: SchemaRegistry, value: bytes) -> Message:
    """Return the message of a framed value, parsed with the registry's schema only."""
    assert value[0] == 0
    pool, file = await registry.pool(int.from_bytes(value[1:5], "big"))
    # Messages are not nested, so there is one index, that within the file; [0] is encoded as 0.
    if value[5] == 0:
        index, payload = 0, value[6:]
    else:
        assert value[5] == 2, "one index, in zigzag"
        index, payload = value[6] >> 1, value[7:]
    descriptor = pool.FindMessageTypeByName(f"{file.package}.{file.message_type[index].name}")
    return GetMessageClass(descriptor).FromString(payload)


async def test_events_parse_with_their_registered_schema(
    framing: KafkaOptions, registry: SchemaRegistry, topic: str
) -> None:
    records = one_of_each(topic)
    packages = {record.type.rpartition(".")[0] for record in records}
    assert packages == {"sluice.events.v1", "sluice.photos.v1"}
    async with open_kafka_publisher(framing) as publisher:
        await publisher.publish(records)
    messages = await messages_in(framing, topic)
    assert len(messages) == len(records)
    for message in messages:
        read = await parse_with_schema(registry, message.value)
        assert read.DESCRIPTOR.full_name.encode() == dict(message.headers)["ce_type"]
        assert len(UnknownFieldSet(read)) == 0
        (record,) = [r for r in records if r.key == message.key.decode()]
        assert read.SerializeToString(deterministic=True) == record.payload


async def test_confluent_deserializer_reads_events(
    framing: KafkaOptions, registry: SchemaRegistry, topic: str
) -> None:
    """Fails on Apicurio 3.3, which serves the already serialized schema of Confluent's serializer
    as if it were source. The test fails once that is fixed there.
    """
    record = failed(topic, "node-1", 1)
    async with open_kafka_publisher(framing) as publisher:
        await publisher.publish([record])
    (message,) = await messages_in(framing, topic)
    settings = {"url": registry.url, "basic.auth.user.info": CREDENTIALS}
    async with AsyncSchemaRegistryClient(settings) as client:
        deserializer = await AsyncProtobufDeserializer(uploads_pb2.UploadFailed, {}, client)
        context = SerializationContext(topic, MessageField.VALUE)
        if registry.kind == "apicurio":
            with pytest.raises(SchemaRegistryError, match="unexpected label"):
                await deserializer(message.value, context)
        else:
            read = await deserializer(message.value, context)
            assert read == uploads_pb2.UploadFailed.FromString(record.payload)


async def test_subjects_name_topic_and_record_imports_are_references(
    framing: KafkaOptions, registry: SchemaRegistry, topic: str
) -> None:
    records = [r for r in one_of_each(topic) if r.type.endswith(("NodeDeleted", "UploadFailed"))]
    async with open_kafka_publisher(framing) as publisher:
        await publisher.publish(records)
    uploads = "sluice/events/v1/uploads.proto"
    subjects = await registry.subjects()
    of_topic = {subject for subject in subjects if subject.startswith(topic)}
    assert of_topic == {f"{topic}-{r.type}" for r in records}
    assert uploads in subjects
    deleted = await registry.version(f"{topic}-sluice.events.v1.NodeDeleted", 1)
    assert deleted["references"] == [{"name": uploads, "subject": uploads, "version": 1}]


async def test_registry_is_queried_once_per_type(
    framing: KafkaOptions, registry: SchemaRegistry, topic: str
) -> None:
    async with open_kafka_publisher(framing) as publisher:
        await publisher.publish([failed(topic, "node-1", 1)])
        requests = registry.requests
        await publisher.publish([failed(topic, f"node-{n}", 2) for n in range(50)])
    assert registry.requests == requests


async def test_consumer_accepts_framed_events(framing: KafkaOptions, topic: str) -> None:
    records = one_of_each(topic)
    async with open_kafka_publisher(framing) as publisher:
        await publisher.publish(records)
    events: list[ReceivedEvent] = []
    stop = asyncio.Event()

    async def handler(event: ReceivedEvent) -> None:
        events.append(event)
        if len(events) == len(records):
            stop.set()

    async with asyncio.timeout(30):
        await EventConsumer(framing, ConsumerOptions(unique_name("group"), (topic,)), handler).run(
            stop
        )
    assert sorted((event.record for event in events), key=lambda r: r.event_id) == sorted(
        records, key=lambda r: r.event_id
    )


@pytest.mark.parametrize(
    ("status", "reason"), [(409, "SCHEMA_REFUSED"), (503, "SCHEMA_REGISTRY_UNAVAILABLE")]
)
async def test_refusing_registry_stops_publishing_until_fixed(
    status: int, reason: str, framing: KafkaOptions, registry: SchemaRegistry, topic: str
) -> None:
    registry.refuse = status
    async with open_kafka_publisher(framing) as publisher:
        with pytest.raises(Unavailable) as caught:
            await publisher.publish([failed(topic, "node-1", 1)])
        assert caught.value.reason == reason
        assert await messages_in(framing, topic) == []
        registry.refuse = None
        await publisher.publish([failed(topic, "node-1", 1)])
    assert len(await messages_in(framing, topic)) == 1


async def test_incompatible_schema_is_refused(
    framing: KafkaOptions, registry: SchemaRegistry, topic: str
) -> None:
    """The registry decides: the subject holds another program's schema, in which the event's first
    field is a number."""
    other = FileDescriptorProto.FromString(uploads_pb2.DESCRIPTOR.serialized_pb)
    (message,) = [each for each in other.message_type if each.name == "UploadFailed"]
    message.field[0].type = FieldDescriptorProto.TYPE_INT64
    message.field[0].ClearField("type_name")
    record = failed(topic, "node-1", 1)
    await registry.register(f"{topic}-{record.type}", other)
    async with open_kafka_publisher(framing) as publisher:
        with pytest.raises(Unavailable) as caught:
            await publisher.publish([record])
    assert caught.value.reason == "SCHEMA_REFUSED"
    assert await messages_in(framing, topic) == []


async def test_unreachable_registry_is_unavailable(kafka: KafkaOptions, topic: str) -> None:
    nowhere = replace(kafka, schema_registry_url="http://127.0.0.1:9")
    async with open_kafka_publisher(nowhere) as publisher:
        with pytest.raises(Unavailable) as caught:
            await publisher.publish([failed(topic, "node-1", 1)])
    assert caught.value.reason == "SCHEMA_REGISTRY_UNAVAILABLE"


async def test_mismatched_payload_is_refused_by_event_id(framing: KafkaOptions, topic: str) -> None:
    record = replace(failed(topic, "node-1", 1), payload=b"\xff")
    async with open_kafka_publisher(framing) as publisher:
        with pytest.raises(InvalidArgument) as caught:
            await publisher.publish([record])
    assert caught.value.metadata == {"event_id": record.event_id, "key": "node-1"}
