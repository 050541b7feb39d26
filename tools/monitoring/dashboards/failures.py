"""The dashboard Error/Fail Rate."""

from __future__ import annotations

from typing import Final

from tools.monitoring.dashboards.panels import (
    Dashboard,
    Needs,
    Panel,
    Query,
    Unit,
    per_second,
)

_ERRORS: Final = '{grpc_code!~"OK|CANCELLED"}'

DASHBOARD: Final = Dashboard(
    "sluice-failures",
    "Error/Fail Rate",
    (
        Panel(
            "gRPC calls by status",
            Unit.PER_SECOND,
            (Query(per_second("grpc_server_handled_total", "grpc_code"), "{{grpc_code}}"),),
            "UNAVAILABLE, INTERNAL, UNKNOWN and DATA_LOSS count against the objective.",
        ),
        Panel(
            "gRPC errors by method",
            Unit.PER_SECOND,
            (
                Query(
                    per_second(
                        "grpc_server_handled_total", "grpc_method", "grpc_code", selector=_ERRORS
                    ),
                    "{{grpc_method}} {{grpc_code}}",
                ),
            ),
            "Refusals of bad requests included.",
        ),
        Panel(
            "HTTP requests by status",
            Unit.PER_SECOND,
            (Query(per_second("http_server_requests_seconds_count", "status"), "{{status}}"),),
            "Of the gateway.",
        ),
        Panel(
            "Photos that failed",
            Unit.PER_SECOND,
            (Query(per_second("photo_failed_total", "reason"), "{{reason}}"),),
            "NOT_ARRIVED grows when clients give up.",
        ),
        Panel(
            "Nodes that failed",
            Unit.PER_SECOND,
            (
                Query(
                    per_second(
                        "sluice_processor_nodes_total", "reason", selector='{outcome="failed"}'
                    ),
                    "{{reason}}",
                ),
            ),
            "Content that is no picture, damaged, or too large to decode.",
        ),
        Panel(
            "Integrity failures",
            Unit.COUNT,
            (Query("sum by (where) (sluice_integrity_failures_total)", "{{where}}"),),
            "Investigate every one.",
        ),
        Panel(
            "Unexpected errors of roles",
            Unit.COUNT,
            (Query("sum by (role) (sluice_role_errors_total)", "{{role}}"),),
            "Defects, since the start of the processes.",
        ),
        Panel(
            "Callers refused by their credentials",
            Unit.PER_SECOND,
            (
                Query(per_second("sluice_auth_accepted_total"), "accepted"),
                Query(per_second("sluice_auth_refused_total", "reason"), "{{reason}}"),
            ),
            "Against the accepted ones.",
            needs=Needs.FAILURES,
        ),
        Panel(
            "Refused messages",
            Unit.PER_SECOND,
            (Query(per_second("sluice_refused_messages_total", "reason"), "{{reason}}"),),
            "Malformed, too large or unfinished messages, which no client of Sluice sends.",
            needs=Needs.FAILURES,
        ),
        Panel(
            "Failed attempts at the object store",
            Unit.PER_SECOND,
            (
                Query(
                    per_second("sluice_s3_errors_total", "operation", "reason"),
                    "{{operation}} {{reason}}",
                ),
            ),
            "Before retries.",
            needs=Needs.FAILURES,
        ),
        Panel(
            "Failed Redis commands",
            Unit.PER_SECOND,
            (Query(per_second("sluice_redis_errors_total", "operation"), "{{operation}}"),),
            "By operation.",
            needs=Needs.FAILURES,
        ),
        Panel(
            "Failed publications",
            Unit.PER_SECOND,
            (Query(per_second("sluice_event_publish_errors_total", "reason"), "{{reason}}"),),
            "By reason.",
            needs=Needs.FAILURES,
        ),
    ),
)
