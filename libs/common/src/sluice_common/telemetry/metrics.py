"""Every Prometheus instrument of the services, in one place, so that dashboards can rely on it.

The gRPC instruments carry the names of the grpc-ecosystem interceptors. One registry per process.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from sluice_backends.buckets import FAST_SECONDS, SLOW_SECONDS
from sluice_backends.kafka.metrics import KafkaMetrics
from sluice_backends.redis.metrics import RedisMetrics
from sluice_backends.s3.metrics import S3Metrics

_RPC = ("grpc_type", "grpc_service", "grpc_method")


class Metrics:
    """The instruments of one process."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry if registry is not None else CollectorRegistry(auto_describe=True)
        r = self.registry
        self.redis = RedisMetrics(r)
        self.kafka = KafkaMetrics(r)
        self.s3 = S3Metrics(r)
        # RPCs
        self.rpc_started = Counter("grpc_server_started", "RPCs begun", _RPC, registry=r)
        self.rpc_handled = Counter(
            "grpc_server_handled", "RPCs ended, by status", (*_RPC, "grpc_code"), registry=r
        )
        self.rpc_seconds = Histogram(
            "grpc_server_handling_seconds", "Time of an RPC", _RPC, buckets=SLOW_SECONDS, registry=r
        )
        self.rpc_received = Counter(
            "grpc_server_msg_received", "Messages received", _RPC, registry=r
        )
        self.rpc_sent = Counter("grpc_server_msg_sent", "Messages sent", _RPC, registry=r)
        self.refused_messages = Counter(
            "sluice_refused_messages",
            "Request messages malformed, too large or not finished, by reason",
            ("reason",),
            registry=r,
        )
        # Intake
        self.chunks = Counter(
            "sluice_chunks", "Chunks by what became of them", ("verdict",), registry=r
        )
        self.received_bytes = Counter(
            "sluice_received_bytes", "Bytes of chunks newly accepted", registry=r
        )
        self.ack_seconds = Histogram(
            "sluice_ack_seconds",
            "From the last byte of a chunk to its acknowledgement, by level",
            ("level",),
            buckets=FAST_SECONDS,
            registry=r,
        )
        self.throttled = Counter(
            "sluice_throttled", "Chunks delayed or refused, by reason", ("reason",), registry=r
        )
        # Work
        self.queue_items = Gauge("sluice_queue_items", "Work items waiting", registry=r)
        self.queue_age_seconds = Gauge(
            "sluice_queue_oldest_age_seconds", "Age of the oldest waiting work item", registry=r
        )
        self.queued_bytes = Gauge(
            "sluice_queued_bytes", "Bytes accepted and not yet stored", registry=r
        )
        self.budget_bytes = Gauge(
            "sluice_budget_bytes", "Bytes that may be queued at once", registry=r
        )
        self.open_uploads = Gauge("sluice_open_uploads", "Uploads not ended", registry=r)
        self.parts = Counter("sluice_parts", "Parts by outcome", ("outcome",), registry=r)
        self.part_bytes = Counter("sluice_part_bytes", "Bytes of stored parts", registry=r)
        self.part_seconds = Histogram(
            "sluice_part_seconds", "Time to store a part", buckets=SLOW_SECONDS, registry=r
        )
        self.completions = Counter(
            "sluice_completions", "Completions by outcome", ("outcome",), registry=r
        )
        self.completion_seconds = Histogram(
            "sluice_completion_seconds",
            "Time to complete an upload",
            buckets=SLOW_SECONDS,
            registry=r,
        )
        # Housekeeping and events
        self.sweeps = Counter(
            "sluice_sweeps", "Things the sweeper did, by kind", ("kind",), registry=r
        )
        self.events_published = Counter(
            "sluice_events_published", "Events published", ("topic",), registry=r
        )
        self.events_pending = Gauge(
            "sluice_events_pending", "Events seen unpublished by the last relay pass", registry=r
        )
        self.role_errors = Counter(
            "sluice_role_errors",
            "Unexpected errors a background role survived",
            ("role",),
            registry=r,
        )
        self.integrity_failures = Counter(
            "sluice_integrity_failures",
            "Bytes found to differ from their checksum, by where it was seen",
            ("where",),
            registry=r,
        )
        self.verified = Counter(
            "sluice_nodes_verified", "SHA-256 computed after completion", registry=r
        )
        # Direct transport: chunks that a repository took from intakes
        self.sink_chunks = Counter(
            "sluice_sink_chunks", "Chunks taken from intakes, by outcome", ("outcome",), registry=r
        )
        self.sink_bytes = Counter(
            "sluice_sink_bytes", "Bytes of chunks taken from intakes", registry=r
        )
        self.events_withheld = Gauge(
            "sluice_events_withheld",
            "Events of nodes that wait because the broker refuses one of theirs",
            registry=r,
        )
        # Processor
        self.processor_nodes = Counter(
            "sluice_processor_nodes",
            "Nodes by what became of them, and why",
            ("outcome", "reason"),
            registry=r,
        )
        self.processor_seconds = Histogram(
            "sluice_processor_seconds",
            "Time of a stage: read, decode, thumbnail, write",
            ("stage",),
            buckets=SLOW_SECONDS,
            registry=r,
        )
        self.processor_delay_seconds = Histogram(
            "sluice_processor_delay_seconds",
            "From an event to the result of its node",
            buckets=SLOW_SECONDS,
            registry=r,
        )
        self.processor_in_flight = Gauge("sluice_processor_in_flight", "Nodes in hand", registry=r)
        self.processor_lag = Gauge(
            "sluice_processor_lag",
            "Events or messages that wait, by source: what to scale by",
            ("source",),
            registry=r,
        )
        self.processor_adopted = Counter(
            "sluice_processor_adopted",
            "Nodes made of objects that no upload announced",
            registry=r,
        )
        self.processor_messages = Counter(
            "sluice_processor_messages",
            "Messages of queues by what became of them: handled, left, malformed",
            ("source", "outcome"),
            registry=r,
        )
        self.processor_passed = Counter(
            "sluice_processor_passed",
            "What stores told of objects and is no work, by reason",
            ("source", "reason"),
            registry=r,
        )
