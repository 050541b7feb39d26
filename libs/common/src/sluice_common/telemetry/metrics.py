"""All Prometheus instruments of the services; one registry per process.

The gRPC instruments have the names of the grpc-ecosystem interceptors."""

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
        self.rpc_started = Counter("grpc_server_started", "RPCs started", _RPC, registry=r)
        self.rpc_handled = Counter(
            "grpc_server_handled", "RPCs finished, by status", (*_RPC, "grpc_code"), registry=r
        )
        self.rpc_seconds = Histogram(
            "grpc_server_handling_seconds",
            "Duration of RPCs",
            _RPC,
            buckets=SLOW_SECONDS,
            registry=r,
        )
        self.rpc_received = Counter(
            "grpc_server_msg_received", "Messages received", _RPC, registry=r
        )
        self.rpc_sent = Counter("grpc_server_msg_sent", "Messages sent", _RPC, registry=r)
        self.refused_messages = Counter(
            "sluice_refused_messages",
            "Request messages refused as malformed, too large or unfinished, by reason",
            ("reason",),
            registry=r,
        )
        self.auth_accepted = Counter(
            "sluice_auth_accepted", "Calls with valid credentials, or that need none", registry=r
        )
        self.auth_refused = Counter(
            "sluice_auth_refused",
            "Calls refused because of their credentials, by reason",
            ("reason",),
            registry=r,
        )
        self.auth_expired_streams = Counter(
            "sluice_auth_expired_streams",
            "Streams ended because they outlived the token of their caller",
            registry=r,
        )
        # Intake
        self.chunks = Counter("sluice_chunks", "Chunks, by verdict", ("verdict",), registry=r)
        self.received_bytes = Counter(
            "sluice_received_bytes", "Bytes of newly accepted chunks", registry=r
        )
        self.ack_seconds = Histogram(
            "sluice_ack_seconds",
            "Time from the last byte of a chunk to its acknowledgement, by level",
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
            "sluice_queue_oldest_age_seconds",
            "Age of the oldest waiting work item in seconds",
            registry=r,
        )
        self.queued_bytes = Gauge(
            "sluice_queued_bytes", "Accepted and not yet stored bytes", registry=r
        )
        self.budget_bytes = Gauge(
            "sluice_budget_bytes", "Limit of accepted and not yet stored bytes", registry=r
        )
        self.open_uploads = Gauge("sluice_open_uploads", "Uploads in progress", registry=r)
        self.parts = Counter("sluice_parts", "Parts, by outcome", ("outcome",), registry=r)
        self.part_bytes = Counter("sluice_part_bytes", "Bytes of stored parts", registry=r)
        self.part_seconds = Histogram(
            "sluice_part_seconds", "Duration of storing a part", buckets=SLOW_SECONDS, registry=r
        )
        self.completions = Counter(
            "sluice_completions", "Completions, by outcome", ("outcome",), registry=r
        )
        self.completion_seconds = Histogram(
            "sluice_completion_seconds",
            "Duration of completing an upload",
            buckets=SLOW_SECONDS,
            registry=r,
        )
        # Housekeeping and events
        self.sweeps = Counter(
            "sluice_sweeps", "Actions of the sweeper, by kind", ("kind",), registry=r
        )
        self.events_published = Counter(
            "sluice_events_published", "Events published, by topic", ("topic",), registry=r
        )
        self.events_pending = Gauge(
            "sluice_events_pending", "Unpublished events found by the last relay pass", registry=r
        )
        self.role_errors = Counter(
            "sluice_role_errors",
            "Unexpected errors in background roles, by role",
            ("role",),
            registry=r,
        )
        self.integrity_failures = Counter(
            "sluice_integrity_failures",
            "Checksum mismatches, by place of detection",
            ("where",),
            registry=r,
        )
        self.verified = Counter(
            "sluice_nodes_verified", "Nodes whose SHA-256 was computed after completion", registry=r
        )
        # Direct transport: chunks that a repository received from intakes
        self.sink_chunks = Counter(
            "sluice_sink_chunks",
            "Chunks received from intakes, by outcome",
            ("outcome",),
            registry=r,
        )
        self.sink_bytes = Counter(
            "sluice_sink_bytes", "Bytes of chunks received from intakes", registry=r
        )
        self.events_withheld = Gauge(
            "sluice_events_withheld",
            "Events withheld because the broker refuses an earlier one of their node",
            registry=r,
        )
        # Processor
        self.processor_nodes = Counter(
            "sluice_processor_nodes",
            "Nodes, by outcome and reason",
            ("outcome", "reason"),
            registry=r,
        )
        self.processor_seconds = Histogram(
            "sluice_processor_seconds",
            "Duration of processing stages: read, decode, thumbnail, write",
            ("stage",),
            buckets=SLOW_SECONDS,
            registry=r,
        )
        self.processor_delay_seconds = Histogram(
            "sluice_processor_delay_seconds",
            "Time from an event to the result of its node",
            buckets=SLOW_SECONDS,
            registry=r,
        )
        self.processor_in_flight = Gauge(
            "sluice_processor_in_flight", "Nodes being processed", registry=r
        )
        self.processor_lag = Gauge(
            "sluice_processor_lag",
            "Waiting events or messages, by source; use it for autoscaling",
            ("source",),
            registry=r,
        )
        self.processor_adopted = Counter(
            "sluice_processor_adopted",
            "Nodes created for objects stored without an upload",
            registry=r,
        )
        self.processor_messages = Counter(
            "sluice_processor_messages",
            "Queue messages, by source and outcome: handled, left, malformed",
            ("source", "outcome"),
            registry=r,
        )
        self.processor_passed = Counter(
            "sluice_processor_passed",
            "Store notifications skipped, by reason",
            ("source", "reason"),
            registry=r,
        )
