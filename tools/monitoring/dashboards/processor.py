"""The dashboard Processor Throughput."""

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
    "sluice-processor",
    "Processor Throughput",
    (
        Panel(
            "Nodes",
            Unit.PER_SECOND,
            (Query(per_second("sluice_processor_nodes_total", "outcome"), "{{outcome}}"),),
            "Nodes by outcome.",
        ),
        Panel(
            "Time from event to result",
            Unit.SECONDS,
            quantiles("sluice_processor_delay_seconds"),
            "The objective is 60 s.",
            bound=60,
        ),
        Panel(
            "Time from event to thumbnails",
            Unit.MILLISECONDS,
            quantiles("thumbnail_latency_ms_histogram"),
            "Of pictures alone.",
            bound=60_000,
        ),
        Panel(
            "Waiting events",
            Unit.COUNT,
            # Not the sum: each processor reports the lag of its whole group.
            (Query("max by (source) (sluice_processor_lag)", "{{source}}"),),
            "The autoscaling signal. By source: log, kafka, kafka-s3, sqs.",
        ),
        Panel(
            "Nodes being processed",
            Unit.COUNT,
            (Query("sum (sluice_processor_in_flight)", "in progress"),),
            "Of all processors.",
        ),
        Panel(
            "Slowest hundredth by stage",
            Unit.SECONDS,
            (Query(quantile(0.99, "sluice_processor_seconds", "stage"), "{{stage}}"),),
            "Reading, scanning, decoding, thumbnails, writing.",
        ),
        Panel(
            "Time by stage",
            Unit.SECONDS,
            (Query(per_second("sluice_processor_seconds_sum", "stage"), "{{stage}}"),),
            "Seconds of work in a second; with the number of processors, the load of each.",
        ),
        Panel(
            "Dead letters",
            Unit.COUNT,
            (Query("sum by (group) (sluice_dead_letters_total)", "{{group}}"),),
            "Events that consumers gave up on, since their start.",
        ),
        Panel(
            "Lag by partition",
            Unit.COUNT,
            (
                Query(
                    "sum by (group, topic, partition) (sluice_consumer_lag)",
                    "{{group}} {{topic}}/{{partition}}",
                ),
            ),
            "A partition that stands out has a slow or poisonous event.",
            needs=Needs.KAFKA,
        ),
    ),
)
