"""Prometheus instruments of the gateway."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from sluice_backends.instruments import SLOW_SECONDS, Instruments, Registry
from sluice_backends.redis.metrics import RedisMetrics
from sluice_common.rates.metrics import RateMetrics


class HttpMetrics(Instruments):
    """Metrics of HTTP requests, with the names that Spring Boot's dashboards ask for."""

    def __init__(self, registry: Registry | None = None) -> None:
        super().__init__(registry)
        r = self.registry
        self.seconds = Histogram(
            "http_server_requests_seconds",
            "Duration of HTTP requests until the end of their answer",
            ("method", "uri", "status"),
            buckets=SLOW_SECONDS,
            registry=r,
        )
        self.in_progress = Gauge(
            "sluice_http_requests_in_progress", "HTTP requests in progress", registry=r
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


class JobMetrics(Instruments):
    """Metrics of the commands, some with names that the dashboards of other stacks ask for."""

    def __init__(self, registry: Registry | None = None) -> None:
        super().__init__(registry)
        r = self.registry
        self.created = Counter("upload_job_created", "Upload jobs created", registry=r)
        self.photos = Counter("sluice_gateway_photos", "Photos of the created jobs", registry=r)
        self.deferred = Counter(
            "sluice_gateway_jobs_deferred", "New jobs refused under back-pressure", registry=r
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
