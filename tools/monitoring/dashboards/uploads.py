"""The dashboard Upload Health."""

from __future__ import annotations

from typing import Final

from tools.monitoring.dashboards.panels import (
    RATE,
    Dashboard,
    Needs,
    Panel,
    Query,
    Unit,
    per_second,
    quantile,
    quantiles,
)
from tools.monitoring.objectives import OBJECTIVES

DASHBOARD: Final = Dashboard(
    "sluice-uploads",
    "Upload Health",
    (
        *(
            Panel(
                f"Errors against the objective: {objective.name}",
                Unit.RATIO,
                (
                    Query(objective.recorded("1h"), "last hour"),
                    Query(objective.recorded("1d"), "last day"),
                ),
                f"Allowed: {objective.budget * 100:g} % ({objective.title}).",
                bound=objective.budget,
            )
            for objective in OBJECTIVES
        ),
        Panel(
            "Bytes received",
            Unit.BYTES_PER_SECOND,
            (Query(per_second("sluice_received_bytes_total"), "received"),),
            "Bytes of newly accepted chunks.",
        ),
        Panel(
            "Bytes stored",
            Unit.BYTES_PER_SECOND,
            (Query(per_second("sluice_part_bytes_total"), "stored"),),
            "Bytes of stored parts. Below what is received, the budget fills.",
        ),
        Panel(
            "Time to the acknowledgement",
            Unit.SECONDS,
            quantiles("sluice_ack_seconds", selector='{level="accepted"}'),
            "From the last byte of a chunk until it is safe.",
            bound=0.25,
        ),
        Panel(
            "Time until chunks are stored",
            Unit.SECONDS,
            quantiles("sluice_ack_seconds", selector='{level="stored"}'),
            "From the last byte of a chunk until its part is in the object store.",
        ),
        Panel(
            "Time to complete, slowest hundredth",
            Unit.SECONDS,
            (Query(quantile(0.99, "sluice_upload_completion_seconds", "size"), "{{size}}"),),
            "From CompleteUpload to COMPLETED. Small: below 8 MiB; large: from 1 GiB.",
            bound=60,
        ),
        Panel(
            "Completions",
            Unit.PER_SECOND,
            (Query(per_second("sluice_completions_total", "outcome"), "{{outcome}}"),),
            "Completions by outcome. Reopened: parts have to be stored again.",
        ),
        Panel(
            "Uploads in progress",
            Unit.COUNT,
            (Query("max (sluice_open_uploads)", "open"),),
            "PENDING, UPLOADING and COMPLETING.",
        ),
        Panel(
            "Events waiting",
            Unit.COUNT,
            (
                Query("max (sluice_events_pending)", "pending"),
                Query("max (sluice_events_withheld)", "withheld"),
            ),
            "Events that no broker has yet; withheld: behind one that it refuses.",
        ),
        Panel(
            "Age of the oldest event",
            Unit.SECONDS,
            (Query("max (sluice_events_oldest_age_seconds)", "age"),),
            "Above five minutes, the alert SluiceEventsOld fires.",
            bound=300,
        ),
        Panel(
            "Sweeper: time since a full pass",
            Unit.SECONDS,
            (Query("time() - max by (kind) (sluice_sweep_timestamp_seconds > 0)", "{{kind}}"),),
            "By kind of work, after its first pass.",
            bound=1800,
        ),
        Panel(
            "Sweeper: what was cleaned up",
            Unit.COUNT,
            (Query(f"sum by (kind) (increase(sluice_sweeps_total[{RATE}]))", "{{kind}}"),),
            "Actions by kind. Without crashes and aborted uploads, there are few.",
        ),
        Panel(
            "Disk of the data directory",
            Unit.RATIO,
            (
                Query(
                    "1 - sluice_data_disk_free_bytes / sluice_data_disk_size_bytes", "{{instance}}"
                ),
            ),
            "Of `sluice serve`.",
            needs=Needs.STANDALONE,
            bound=0.9,
        ),
    ),
)
