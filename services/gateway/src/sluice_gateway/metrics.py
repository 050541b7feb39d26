"""Prometheus instruments of the gateway."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from sluice_backends.instruments import SLOW_SECONDS, Instruments, Registry
from sluice_backends.kafka.metrics import ConsumerMetrics
from sluice_backends.redis.metrics import RedisMetrics
from sluice_backends.s3.metrics import S3Metrics
from sluice_common.rates.metrics import RateMetrics
from sluice_common.telemetry.metrics import AuditMetrics


class HttpMetrics(Instruments):
    """Metrics of HTTP requests, with the names that Spring Boot's dashboards ask for."""

    def __init__(self, registry: Registry | None = None) -> None:
        super().__init__(registry)
        r = self.registry
        self.seconds = Histogram(
            "http_server_requests_seconds",
            "Duration of HTTP requests until the end of their answer; of streams until its begin",
            ("method", "uri", "status"),
            buckets=SLOW_SECONDS,
            registry=r,
        )
        self.in_progress = Gauge(
            "sluice_http_requests_in_progress",
            "HTTP requests in progress, open streams apart",
            registry=r,
        )
        self.refused = Counter(
            "sluice_http_refused", "HTTP requests refused, by reason", ("reason",), registry=r
        )


class AccountMetrics(Instruments):
    """Metrics of log-ins and of the keys that sign tokens."""

    def __init__(self, registry: Registry | None = None) -> None:
        super().__init__(registry)
        r = self.registry
        self.sessions = Counter(
            "sluice_gateway_sessions",
            "Attempts to register, log in and refresh, by kind and outcome",
            ("kind", "outcome"),
            registry=r,
        )
        self.password_seconds = Histogram(
            "sluice_gateway_password_seconds",
            "Duration of password checks, their wait included",
            buckets=SLOW_SECONDS,
            registry=r,
        )
        self.signing_keys = Gauge(
            "sluice_gateway_signing_keys", "Keys whose tokens are valid", registry=r
        )
        self.signing_key_created = Gauge(
            "sluice_gateway_signing_key_created_timestamp_seconds",
            "Creation of the key that signs new tokens, Unix time",
            registry=r,
        )


class LiveMetrics(Instruments):
    """Sessions, what they were sent, why they ended."""

    def __init__(self, registry: Registry | None = None) -> None:
        super().__init__(registry)
        r = self.registry
        self.sessions = Gauge(
            "sluice_gateway_live_sessions",
            "Open sessions, by transport",
            ("transport",),
            registry=r,
        )
        self.messages = Counter(
            "sluice_gateway_live_messages", "Updates sent, by transport", ("transport",), registry=r
        )
        self.ended = Counter(
            "sluice_gateway_live_ended",
            "Sessions that have ended, by transport and reason",
            ("transport", "reason"),
            registry=r,
        )
        self.ticks = Counter(
            "sluice_gateway_progress_ticks",
            "Ticks of progress, by outcome",
            ("outcome",),
            registry=r,
        )


class PhotoMetrics(Instruments):
    """Ends of photos, by the names that existing dashboards ask for."""

    def __init__(self, registry: Registry | None = None) -> None:
        super().__init__(registry)
        r = self.registry
        self.completed = Counter(
            "photo_completed", "Photos that were stored and processed", registry=r
        )
        self.failed = Counter(
            "photo_failed", "Photos that failed, by reason", ("reason",), registry=r
        )
        # The dashboards of other stacks know the same counts by other names.
        self.upload_completed = Counter(
            "upload_photo_completed", "The same as photo_completed", registry=r
        )
        self.upload_failed = Counter(
            "upload_photo_failed", "The same as photo_failed", ("reason",), registry=r
        )


class ProjectionMetrics(Instruments):
    """Metrics of the projector and the sweeper."""

    def __init__(self, registry: Registry | None = None) -> None:
        super().__init__(registry)
        r = self.registry
        self.ends = r.group(PhotoMetrics)
        self.duration = Histogram(
            "upload_processing_duration",
            "Seconds from the arrival of a photo to its processing",
            buckets=SLOW_SECONDS,
            registry=r,
        )
        self.changes = Counter(
            "sluice_gateway_photo_changes",
            "Changes of photos by events, by outcome",
            ("outcome",),
            registry=r,
        )
        self.skipped = Counter(
            "sluice_gateway_events_skipped",
            "Events of the log that could not be applied, by reason",
            ("reason",),
            registry=r,
        )
        self.behind = Gauge(
            "sluice_gateway_events_behind",
            "Events of the log that were read and not applied yet",
            registry=r,
        )
        self.swept = Counter(
            "sluice_gateway_swept",
            "What the sweeper of photos mended, by kind",
            ("kind",),
            registry=r,
        )


class JobMetrics(Instruments):
    """Metrics of the commands, some with names that the dashboards of other stacks ask for."""

    def __init__(self, registry: Registry | None = None) -> None:
        super().__init__(registry)
        r = self.registry
        self.ends = r.group(PhotoMetrics)
        self.created = Counter("upload_job_created", "Upload jobs created", registry=r)
        self.photos = Counter("sluice_gateway_photos", "Photos of the created jobs", registry=r)
        self.deferred = Counter(
            "sluice_gateway_jobs_deferred", "New jobs refused under back-pressure", registry=r
        )


class PressureMetrics(Instruments):
    """Work that waits behind the gateway, by names that existing dashboards ask for too."""

    def __init__(self, registry: Registry | None = None) -> None:
        super().__init__(registry)
        r = self.registry
        self.backlog = Gauge(
            "sluice_gateway_backlog",
            "What waits: photos, events, messages, and seconds for a database connection",
            ("backlog",),
            registry=r,
        )
        self.in_flight = Gauge(
            "upload_inflight_gauge", "Photos that have not ended, of all users", registry=r
        )
        self.sqs_lag = Gauge(
            "sqs_lag_gauge", "Messages in the queue of store notifications", registry=r
        )


class GatewayMetrics(Instruments):
    """All that a gateway exports."""

    def __init__(self, registry: Registry | None = None) -> None:
        super().__init__(registry)
        r = self.registry
        self.http = r.group(HttpMetrics)
        self.accounts = r.group(AccountMetrics)
        self.jobs = r.group(JobMetrics)
        self.rates = r.group(RateMetrics)
        self.redis = r.group(RedisMetrics)
        self.s3 = r.group(S3Metrics)
        self.consumer = r.group(ConsumerMetrics)
        self.live = r.group(LiveMetrics)
        self.projection = r.group(ProjectionMetrics)
        self.pressure = r.group(PressureMetrics)
        self.audit = r.group(AuditMetrics)
