"""The dashboard Backends."""

from __future__ import annotations

from typing import Final

from tools.monitoring.dashboards.panels import (
    Dashboard,
    Needs,
    Panel,
    Query,
    Unit,
    per_second,
    quantile,
    quantiles,
)

DASHBOARD: Final = Dashboard(
    "sluice-backends",
    "Backends",
    (
        Panel(
            "Redis: memory in use",
            Unit.RATIO,
            (
                Query(
                    "max by (server) (sluice_redis_used_bytes)"
                    " / max by (server) (sluice_redis_max_bytes > 0)",
                    "{{server}}",
                ),
            ),
            "Of maxmemory. Above 90 %, nothing is admitted.",
            needs=Needs.REDIS,
            bound=0.9,
        ),
        Panel(
            "Redis: slowest hundredth",
            Unit.SECONDS,
            (Query(quantile(0.99, "sluice_redis_seconds", "operation"), "{{operation}}"),),
            "By operation, waiting for a connection included.",
            needs=Needs.REDIS,
        ),
        Panel(
            "Redis: durability class kept",
            Unit.COUNT,
            (Query("min by (server) (sluice_redis_durability_met)", "{{server}}"),),
            "0: acknowledged chunks may be lost.",
            needs=Needs.REDIS,
        ),
        Panel(
            "Redis: operations",
            Unit.PER_SECOND,
            (Query(per_second("sluice_redis_seconds_count", "operation"), "{{operation}}"),),
            "By operation.",
            needs=Needs.REDIS,
        ),
        Panel(
            "Redis: restarts and replacements",
            Unit.COUNT,
            (Query("max by (what) (sluice_redis_replaced_total)", "{{what}}"),),
            "Emptied: uploads in progress are lost and start again.",
            needs=Needs.REDIS,
        ),
        Panel(
            "Object store: circuit breaker",
            Unit.COUNT,
            (Query("max by (job) (sluice_store_breaker_state)", "{{job}}"),),
            "0 closed, 1 half open, 2 open.",
            bound=2,
        ),
        Panel(
            "Object store: slowest hundredth",
            Unit.SECONDS,
            (Query(quantile(0.99, "sluice_s3_seconds", "operation"), "{{operation}}"),),
            "One attempt, by operation; of a read until the first byte.",
            needs=Needs.S3,
        ),
        Panel(
            "Object store: attempts",
            Unit.PER_SECOND,
            (Query(per_second("sluice_s3_seconds_count", "operation"), "{{operation}}"),),
            "By operation.",
            needs=Needs.S3,
        ),
        Panel(
            "Kafka: time until events are acknowledged",
            Unit.SECONDS,
            quantiles("sluice_event_publish_seconds"),
            "Of all events of a call.",
            needs=Needs.KAFKA,
        ),
        Panel(
            "Events published",
            Unit.PER_SECOND,
            (Query(per_second("sluice_events_published_total", "topic"), "{{topic}}"),),
            "By topic.",
        ),
        Panel(
            "Kafka: consumed events",
            Unit.PER_SECOND,
            (
                Query(
                    per_second("sluice_consumer_events_total", "group", "outcome"),
                    "{{group}} {{outcome}}",
                ),
            ),
            "By consumer group and outcome.",
            needs=Needs.KAFKA,
        ),
        Panel(
            "Catalogue: pending migrations",
            Unit.COUNT,
            (Query("max (sluice_catalogue_migrations_pending)", "migrations"),),
            "Above 0 after an older copy was restored.",
            bound=1,
        ),
        Panel(
            "Catalogue: longest wait for a connection",
            Unit.SECONDS,
            (
                Query(
                    'max by (instance) (sluice_gateway_backlog{backlog="database"})', "{{instance}}"
                ),
            ),
            "Of the gateways, in the last ten seconds.",
        ),
        Panel(
            "End of TLS certificates",
            Unit.SECONDS,
            (
                Query(
                    "(sluice_tls_certificate_expiry_timestamp_seconds > 0) - time()", "{{instance}}"
                ),
            ),
            "Time that is left.",
            needs=Needs.TLS,
        ),
        Panel(
            "Age of the keys that verify tokens",
            Unit.SECONDS,
            (Query("time() - (sluice_auth_keys_refreshed_timestamp_seconds > 0)", "{{instance}}"),),
            "Above two hours, the provider of the keys does not answer.",
            needs=Needs.KEYS,
            bound=7200,
        ),
    ),
)
