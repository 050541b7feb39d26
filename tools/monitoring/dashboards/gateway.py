"""The dashboard Gateway."""

from __future__ import annotations

from typing import Final

from tools.monitoring.dashboards.panels import (
    Dashboard,
    Panel,
    Query,
    Unit,
    per_second,
    quantile,
    quantiles,
)

DASHBOARD: Final = Dashboard(
    "sluice-gateway",
    "Gateway",
    (
        Panel(
            "Requests",
            Unit.PER_SECOND,
            (Query(per_second("http_server_requests_seconds_count", "uri"), "{{uri}}"),),
            "By route.",
        ),
        Panel(
            "Duration, slowest hundredth",
            Unit.SECONDS,
            (Query(quantile(0.99, "http_server_requests_seconds", "uri"), "{{uri}}"),),
            "By route; of streams until their beginning.",
        ),
        Panel(
            "Requests in progress",
            Unit.COUNT,
            (Query("sum by (instance) (sluice_http_requests_in_progress)", "{{instance}}"),),
            "Without open streams.",
        ),
        Panel(
            "Refused requests",
            Unit.PER_SECOND,
            (Query(per_second("sluice_http_refused_total", "reason"), "{{reason}}"),),
            "By reason.",
        ),
        Panel(
            "Jobs and photos created",
            Unit.PER_SECOND,
            (
                Query(per_second("upload_job_created_total"), "jobs"),
                Query(per_second("sluice_gateway_photos_total"), "photos"),
                Query(per_second("sluice_gateway_jobs_deferred_total"), "jobs refused"),
            ),
            "Refused: under back-pressure.",
        ),
        Panel(
            "Photos completed",
            Unit.PER_SECOND,
            (Query(per_second("photo_completed_total"), "completed"),),
            "Stored and processed.",
        ),
        Panel(
            "Time in PROCESSING",
            Unit.SECONDS,
            quantiles("upload_processing_duration"),
            "From the arrival of a photo to its end.",
            bound=60,
        ),
        Panel(
            "What waits behind the gateway",
            Unit.COUNT,
            (
                Query(
                    'max by (backlog) (sluice_gateway_backlog{backlog!="database"})', "{{backlog}}"
                ),
                Query("max (upload_inflight_gauge)", "photos that have not ended"),
            ),
            "Above the limits, new jobs are refused.",
        ),
        Panel(
            "Live sessions",
            Unit.COUNT,
            (Query("sum by (transport) (sluice_gateway_live_sessions)", "{{transport}}"),),
            "Open now, by transport.",
        ),
        Panel(
            "Live updates sent",
            Unit.PER_SECOND,
            (
                Query(
                    per_second("sluice_gateway_live_messages_total", "transport"), "{{transport}}"
                ),
            ),
            "By transport.",
        ),
        Panel(
            "Log-ins",
            Unit.PER_SECOND,
            (
                Query(
                    per_second("sluice_gateway_sessions_total", "kind", "outcome"),
                    "{{kind}} {{outcome}}",
                ),
            ),
            "Many refused or imitated ones: somebody guesses passwords.",
        ),
        Panel(
            "Changes of photos by events",
            Unit.PER_SECOND,
            (Query(per_second("sluice_gateway_photo_changes_total", "outcome"), "{{outcome}}"),),
            "Applied, late and repeated.",
        ),
    ),
)
