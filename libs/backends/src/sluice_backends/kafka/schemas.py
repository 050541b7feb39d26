"""Values in the Confluent wire format, with schemas in a registry with the Confluent API."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from confluent_kafka.schema_registry import (
    AsyncSchemaRegistryClient,
    topic_record_subject_name_strategy,
)
from confluent_kafka.schema_registry.error import SchemaRegistryError
from confluent_kafka.schema_registry.protobuf import AsyncProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from httpx2 import HTTPError

from sluice_backends.certificates import certificate_problem, check_tls_files
from sluice_backends.kafka.options import KafkaOptions
from sluice_core.configuration import ConfigurationError
from sluice_core.errors import Unavailable
from sluice_core.events.registry import EVENT_TYPES, BadEvent, parse
from sluice_core.ports.event_publisher import EventRecord, event_refused

_MAGIC = 0
_PREFIX_BYTES = 5
_MAX_VARINT_BYTES = 10
_MAX_NESTING = 32
_SERVER_ERRORS = 500


class SchemaFrames:
    """Encoder of framed payloads; opened by `open_schema_frames`.

    A frame is a zero byte, the schema's id in four bytes, the message indexes within its file, and
    the message. Subjects are named by topic and record, since a topic carries several types that
    evolve independently. Sluice's own imports are registered as references, under the name of
    their file; google/protobuf/*.proto are not, since every registry has them built in. A schema
    is registered on first use and cached for the life of the process.
    """

    def __init__(self, client: AsyncSchemaRegistryClient) -> None:
        self._client = client
        self._serializers: dict[str, AsyncProtobufSerializer] = {}

    async def frame(self, record: EventRecord) -> bytes:
        """Return the event's payload in its frame.

        Raise `InvalidArgument` EVENT_REFUSED for a payload that does not match the event's type,
        `Unavailable` SCHEMA_REGISTRY_UNAVAILABLE, and `Unavailable` SCHEMA_REFUSED when the
        registry refuses the schema: fix that in the registry; events are not dropped.
        """
        try:
            message = parse(record.type, record.payload)
        except BadEvent as error:
            raise event_refused(
                record.event_id, record.key, f"Event {record.event_id} has no schema: {error}."
            ) from error
        context = SerializationContext(record.topic, MessageField.VALUE)
        try:
            serializer = await self._serializer(record.type)
            framed = await serializer(message, context)
        except SchemaRegistryError as error:
            raise _refused(error, record) from error
        except HTTPError as error:
            problem = certificate_problem(error, "SLUICE_SCHEMA_REGISTRY_CA_FILE")
            raise _unavailable(problem and f"its certificate {problem}") from error
        assert framed is not None, "the serializer returns None only for None"
        return framed

    async def _serializer(self, event_type: str) -> AsyncProtobufSerializer:
        serializer = self._serializers.get(event_type)
        if serializer is None:
            serializer = await AsyncProtobufSerializer(
                EVENT_TYPES[event_type],
                self._client,
                {"subject.name.strategy": topic_record_subject_name_strategy},
            )
            self._serializers[event_type] = serializer
        return serializer


@asynccontextmanager
async def open_schema_frames(options: KafkaOptions) -> AsyncIterator[SchemaFrames]:
    """Yield an encoder for the block.

    Raise `ConfigurationError` for an invalid URL, and for authorities that cannot be loaded.
    """
    settings: dict[str, object] = {
        "url": options.schema_registry_url,
        "timeout": options.request_timeout_seconds,
        # The publisher retries.
        "max.retries": 0,
    }
    if options.schema_registry_credentials is not None:
        settings["basic.auth.user.info"] = options.schema_registry_credentials.get_secret_value()
    if options.schema_registry_ca_file is not None:
        ca = str(options.schema_registry_ca_file)
        check_tls_files("SLUICE_SCHEMA_REGISTRY_CA_FILE", ca=ca)
        settings["ssl.ca.location"] = ca
    try:
        client = AsyncSchemaRegistryClient(settings)
    except (ValueError, TypeError) as error:
        raise ConfigurationError(
            "Kafka: the schema registry's URL is invalid; write https://host:port"
        ) from error
    async with client:
        yield SchemaFrames(client)


def strip_frame(value: bytes) -> bytes:
    """Return the message without its frame, if it has one.

    No Protobuf message starts with a zero byte, since there is no field number 0. Raise `BadEvent`
    BAD_FRAME.
    """
    if not value or value[0] != _MAGIC:
        return value
    if len(value) <= _PREFIX_BYTES:
        raise BadEvent("BAD_FRAME", "the frame of the schema registry ends early")
    count, offset = _varint(value, _PREFIX_BYTES)
    if not 0 <= count <= _MAX_NESTING:
        raise BadEvent("BAD_FRAME", "the frame names no message")
    for _ in range(count):
        _, offset = _varint(value, offset)
    return value[offset:]


def _varint(data: bytes, offset: int) -> tuple[int, int]:
    """Return a zigzag number and the offset of its end."""
    number = 0
    for step, byte in enumerate(data[offset : offset + _MAX_VARINT_BYTES]):
        number |= (byte & 0x7F) << (7 * step)
        if byte < 0x80:
            return (number >> 1) ^ -(number & 1), offset + step + 1
    raise BadEvent("BAD_FRAME", "the frame of the schema registry ends early")


def _refused(error: SchemaRegistryError, record: EventRecord) -> Unavailable:
    if error.http_status_code >= _SERVER_ERRORS:
        return _unavailable()
    return Unavailable(
        "SCHEMA_REFUSED",
        f"The schema registry refuses {record.topic}-{record.type} ({error.error_message}); check"
        " the subject's compatibility there.",
    )


def _unavailable(detail: str | None = None) -> Unavailable:
    return Unavailable(
        "SCHEMA_REGISTRY_UNAVAILABLE",
        "The schema registry does not answer; check it, then try again.",
        log_detail=detail or "",
    )
