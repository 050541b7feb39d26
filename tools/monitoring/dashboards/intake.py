"""The dashboard Intake and Budget."""

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
)

_STREAMS: Final = '{grpc_method="UploadStream"}'
_STARTED: Final = f"sum by (instance) (grpc_server_started_total{_STREAMS})"
_HANDLED: Final = f"sum by (instance) (grpc_server_handled_total{_STREAMS})"

DASHBOARD: Final = Dashboard(
    "sluice-intake",
    "Intake and Budget",
    (
        Panel(
            "Budget in use",
            Unit.RATIO,
            (Query("max (sluice_queued_bytes) / max (sluice_budget_bytes > 0)", "used"),),
            "Bytes accepted and not yet stored. At 100 %, new uploads are refused.",
            bound=0.9,
        ),
        Panel(
            "Queued bytes",
            Unit.BYTES,
            (
                Query("max (sluice_queued_bytes)", "queued"),
                Query("max (sluice_budget_bytes)", "budget"),
            ),
            "The autoscaling signal of the part workers.",
        ),
        Panel(
            "Chunks delayed or refused",
            Unit.PER_SECOND,
            (Query(per_second("sluice_throttled_total", "reason"), "{{reason}}"),),
            "By reason: the budget, the look-ahead, rates.",
            needs=Needs.FAILURES,
        ),
        Panel(
            "Chunks",
            Unit.PER_SECOND,
            (Query(per_second("sluice_chunks_total", "verdict"), "{{verdict}}"),),
            "By verdict. Many duplicates mean that clients repeat.",
        ),
        Panel(
            "Open streams",
            Unit.COUNT,
            (
                Query(
                    f"{_STARTED} - ({_HANDLED} or 0 * {_STARTED})",
                    "{{instance}}",
                ),
            ),
            "UploadStream calls in progress, by process.",
        ),
        Panel(
            "Calls",
            Unit.PER_SECOND,
            (Query(per_second("grpc_server_started_total", "grpc_method"), "{{grpc_method}}"),),
            "By method.",
        ),
        Panel(
            "Duration of calls, slowest hundredth",
            Unit.SECONDS,
            (
                Query(
                    quantile(0.99, "grpc_server_handling_seconds", "grpc_method"), "{{grpc_method}}"
                ),
            ),
            "Streams last as long as their clients send.",
        ),
        Panel(
            "Waiting work",
            Unit.COUNT,
            (Query("max (sluice_queue_items)", "items"),),
            "Parts and completions that no worker has taken.",
        ),
        Panel(
            "Age of the oldest work",
            Unit.SECONDS,
            (Query("max (sluice_queue_oldest_age_seconds)", "age"),),
            "Above two minutes, the alert SluiceQueueOld fires.",
            bound=120,
        ),
        Panel(
            "Parts",
            Unit.PER_SECOND,
            (Query(per_second("sluice_parts_total", "outcome"), "{{outcome}}"),),
            "By outcome.",
        ),
        Panel(
            "Duration of storing a part",
            Unit.SECONDS,
            (
                Query(quantile(0.5, "sluice_part_seconds"), "median"),
                Query(quantile(0.99, "sluice_part_seconds"), "99 %"),
            ),
            "A slow store fills the budget.",
        ),
        Panel(
            "Rate limits",
            Unit.PER_SECOND,
            (
                Query(
                    per_second("sluice_rate_limited_total", "kind", "scope", "outcome"),
                    "{{kind}} of {{scope}}: {{outcome}}",
                ),
            ),
            "Callers refused or delayed.",
            needs=Needs.FAILURES,
        ),
    ),
)
