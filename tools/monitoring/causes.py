"""Alerts for causes that need a hand, whether or not an objective suffers yet."""

# Size: a table of alerts.

from __future__ import annotations

from typing import Final

from tools.monitoring.model import BY_NAMESPACE, Alert, Example, Group, Severity

_CRITICAL: Final = Severity.CRITICAL
_WARNING: Final = Severity.WARNING
GIB: Final = 1024**3
KEYS_REFRESHED: Final = "sluice_auth_keys_refreshed_timestamp_seconds"
SWEPT: Final = "sluice_sweep_timestamp_seconds"


def _by(*labels: str) -> str:
    return f"by ({', '.join(('namespace', *labels))})"


_BY_JOB: Final = _by("job")
# The ServiceMonitors of deploy/k8s name their jobs after the workloads.
_UP: Final = 'up{job=~"sluice.*"}', 'up{namespace=~"sluice.*", job=~"intake|repository|gateway"}'
"""Targets that always exist. An autoscaler may leave no processor on Kubernetes."""


_PROCESSES: Final = (
    Alert(
        name="SluiceTargetDown",
        value='(up{job=~"sluice.*"}'
        ' or up{namespace=~"sluice.*", job=~"intake|repository|processor|gateway"})',
        condition="== 0",
        wait="5m",
        severity=_CRITICAL,
        summary="{{ $labels.instance }} of {{ $labels.job }} does not answer",
        description="Prometheus could not scrape the process for five minutes: it does not run,"
        " restarts over and over, or its metrics port is not reachable.",
        runbook="target-down",
        fires=Example(
            {'up{namespace="sluice", job="intake", instance="a:9464"}': "0x60"},
            labels={"namespace": "sluice", "job": "intake", "instance": "a:9464"},
        ),
        quiet=Example(
            {
                'up{job="sluice-intake", instance="a:9464"}': "1x10 0x2 1x50",
                'up{job="node", instance="a:9100"}': "0x60",
                'up{namespace="shop", job="gateway", instance="a:8080"}': "0x60",
            }
        ),
    ),
    Alert(
        name="SluiceTargetsGone",
        value="("
        + " or ".join(f"group {_BY_JOB} (last_over_time({series}[1d]))" for series in _UP)
        + ")",
        condition=f"unless group {_BY_JOB} ({_UP[0]} or {_UP[1]})",
        wait="10m",
        severity=_CRITICAL,
        summary="{{ $labels.job }} has no process any more",
        description="Prometheus scraped it within the last day, and has nothing left to scrape: no"
        " pod is ready or exists, or the service discovery does not find them.",
        runbook="workload-gone",
        fires=Example(
            {
                # A pod that is gone leaves no `up` of 0 behind.
                'up{namespace="sluice", job="intake", instance="a:9464"}': "1x10 stale",
                'up{namespace="sluice", job="intake", instance="b:9464"}': "1x15 stale",
                'up{namespace="sluice", job="gateway", instance="c:9464"}': "1x60",
            },
            labels={"namespace": "sluice", "job": "intake"},
        ),
        quiet=Example(
            {
                # A rollout replaces its pods one by one; no processor is left at night.
                'up{namespace="sluice", job="intake", instance="a:9464"}': "1x10 stale",
                'up{namespace="sluice", job="intake", instance="b:9464"}': "_x9 1x60",
                'up{namespace="sluice", job="processor", instance="c:9464"}': "1x10 stale",
                'up{namespace="shop", job="gateway", instance="d:8080"}': "1x10 stale",
            }
        ),
        also_fires=(
            Example(
                {'up{job="sluice-processor", instance="a:9464"}': "1x10 stale"},
                labels={"job": "sluice-processor"},
            ),
        ),
    ),
    Alert(
        name="SluiceRoleMissing",
        value=f"group {_by('role')} (last_over_time(sluice_role_running[1d]))",
        condition=f"unless group {_by('role')} (sluice_role_running)",
        wait="10m",
        severity=_CRITICAL,
        summary="No process runs the role {{ $labels.role }}",
        description="A repository ran it within the last day. What the role does stays undone, and"
        " the gauges that it exports are missing or 0.",
        runbook="workload-gone",
        fires=Example(
            {
                'sluice_role_running{role="api", instance="a:9464"}': "1x60",
                'sluice_role_running{role="relay", instance="b:9464"}': "1x10 stale",
            },
            labels={"role": "relay"},
        ),
        quiet=Example(
            {
                'sluice_role_running{role="relay", instance="a:9464"}': "1x10 stale",
                'sluice_role_running{role="relay", instance="b:9464"}': "_x14 1x60",
            }
        ),
    ),
    Alert(
        name="SluiceProcessorMissing",
        # Of what an autoscaler follows. A photo whose event is a dead letter waits for a person.
        value=f'max {BY_NAMESPACE} (sluice_gateway_backlog{{backlog=~"kafka|kafka-s3|sqs"}})',
        condition=f"> 0 unless on (namespace) group {BY_NAMESPACE} (sluice_processor_in_flight)",
        wait="10m",
        severity=_CRITICAL,
        summary="Events wait, and no processor runs",
        description="Photos get no thumbnails, and their jobs do not end. An autoscaler that"
        " follows the queue starts processors within seconds.",
        runbook="workload-gone",
        fires=Example(
            {
                'sluice_gateway_backlog{backlog="kafka"}': "0x10 40x60",
                "sluice_processor_in_flight": "0x10 stale",
            }
        ),
        quiet=Example({'sluice_gateway_backlog{backlog="kafka"}': "0x60"}),
        also_quiet=(
            Example(
                {
                    'sluice_gateway_backlog{backlog="kafka"}': "40x60",
                    "sluice_processor_in_flight": "8x60",
                }
            ),
            Example({'sluice_gateway_backlog{backlog="photos"}': "3x60"}),
        ),
    ),
    Alert(
        name="SluiceRoleErrors",
        value=f"sum {_by('role')} (increase(sluice_role_errors_total[15m]))",
        condition="> 0",
        wait="0m",
        severity=_WARNING,
        summary="The role {{ $labels.role }} meets unexpected errors",
        description="A background role of a repository raised an error that no retry is meant for:"
        " a defect, or a backend that breaks its promises.",
        runbook="role-errors",
        fires=Example(
            {'sluice_role_errors_total{role="completer"}': "0x20 1x40"},
            labels={"role": "completer"},
        ),
        quiet=Example({'sluice_role_errors_total{role="completer"}': "3x60"}),
    ),
    Alert(
        name="SluiceIntegrityFailure",
        value=f"sum {_by('where')} (increase(sluice_integrity_failures_total[15m]))",
        condition="> 0",
        wait="0m",
        severity=_CRITICAL,
        summary="Bytes do not match their checksum ({{ $labels.where }})",
        description="A checksum comparison failed. Nothing corrupt became visible, but memory, a"
        " disk or the network damages bytes.",
        runbook="integrity-failure",
        fires=Example(
            {'sluice_integrity_failures_total{where="object_store"}': "0x20 1x40"},
            labels={"where": "object_store"},
        ),
        quiet=Example({'sluice_integrity_failures_total{where="object_store"}': "2x60"}),
    ),
)

_WORK: Final = (
    Alert(
        name="SluiceBudgetFull",
        value=f"max {BY_NAMESPACE} (sluice_queued_bytes)"
        f" / max {BY_NAMESPACE} (sluice_budget_bytes > 0)",
        condition="> 0.9",
        wait="5m",
        severity=_WARNING,
        summary="The byte budget is more than 90 % full",
        description="Bytes arrive faster than they are stored. Clients are delayed, and new uploads"
        " are refused when it is full.",
        runbook="budget-full",
        fires=Example(
            {"sluice_queued_bytes": f"{95 * GIB}x60", "sluice_budget_bytes": f"{100 * GIB}x60"}
        ),
        quiet=Example(
            {"sluice_queued_bytes": f"{80 * GIB}x60", "sluice_budget_bytes": f"{100 * GIB}x60"}
        ),
    ),
    Alert(
        name="SluiceQueueOld",
        value=f"max {BY_NAMESPACE} (sluice_queue_oldest_age_seconds)",
        condition="> 120",
        wait="5m",
        severity=_WARNING,
        summary="Work has waited for more than two minutes",
        description="Ready parts or completions are not taken: all workers are busy, none runs, or"
        " their items fail and are repeated.",
        runbook="queue-old",
        fires=Example({"sluice_queue_oldest_age_seconds": "0+60x60"}),
        quiet=Example({"sluice_queue_oldest_age_seconds": "90x60"}),
    ),
    Alert(
        name="SluiceProcessorBehind",
        # Not the sum: each processor reports the lag of its whole group.
        value=f"max {_by('source')} (sluice_processor_lag)",
        condition="> 10000",
        wait="10m",
        severity=_WARNING,
        summary="More than 10,000 events wait for the processors ({{ $labels.source }})",
        description="Thumbnails and metadata of photos are late, and gateways refuse new jobs when"
        " more wait than they accept.",
        runbook="processor-behind",
        fires=Example(
            {'sluice_processor_lag{source="kafka"}': "20000x60"}, labels={"source": "kafka"}
        ),
        quiet=Example(
            {
                f'sluice_processor_lag{{source="kafka", instance="{name}:9464"}}': "9000x60"
                for name in "abc"
            }
        ),
    ),
    Alert(
        name="SluiceJobsDeferred",
        value=f"sum {BY_NAMESPACE} (increase(sluice_gateway_jobs_deferred_total[5m]))",
        condition="> 0",
        wait="10m",
        severity=_WARNING,
        summary="Gateways refuse new upload jobs",
        description="For ten minutes, new jobs have been refused with 503 BACK_PRESSURE, because"
        " too much work waits behind the gateways.",
        runbook="jobs-deferred",
        fires=Example({"sluice_gateway_jobs_deferred_total": "0+5x60"}),
        quiet=Example({"sluice_gateway_jobs_deferred_total": "0x10 3x50"}),
    ),
)

_EVENTS: Final = (
    Alert(
        name="SluiceEventsOld",
        value=f"max {BY_NAMESPACE} (sluice_events_oldest_age_seconds)",
        condition="> 300",
        wait="5m",
        severity=_WARNING,
        summary="An event has waited for its broker for more than five minutes",
        description="The relay does not publish: the broker or the catalogue does not answer."
        " Uploads go on; their events do not reach the consumers.",
        runbook="events-old",
        fires=Example({"sluice_events_oldest_age_seconds": "0+60x60"}),
        quiet=Example({"sluice_events_oldest_age_seconds": "30x60"}),
    ),
    Alert(
        name="SluiceEventsWithheld",
        value=f"max {BY_NAMESPACE} (sluice_events_withheld)",
        condition="> 0",
        wait="5m",
        severity=_WARNING,
        summary="The broker refuses an event for good",
        description="The events of its node wait behind it, in order; those of all other nodes go"
        " on. Each is retried every minute.",
        runbook="events-withheld",
        fires=Example({"sluice_events_withheld": "3x60"}),
        quiet=Example({"sluice_events_withheld": "0x60"}),
    ),
    Alert(
        name="SluiceDeadLetters",
        value=f"sum {_by('group')} (increase(sluice_dead_letters_total[1h]))",
        condition="> 0",
        wait="0m",
        severity=_WARNING,
        summary="{{ $labels.group }} gave up on events",
        description="An event was written to the dead letters after all attempts. Its photo has no"
        " thumbnails, or its job no progress, until the event is replayed.",
        runbook="dead-letters",
        fires=Example(
            {'sluice_dead_letters_total{group="processor"}': "0x20 2x40"},
            labels={"group": "processor"},
        ),
        quiet=Example({'sluice_dead_letters_total{group="processor"}': "5x60"}),
    ),
)

_CLEANING: Final = (
    Alert(
        name="SluiceSweeperBehind",
        # The last pass of any sweeper within a day, also of one that is gone. Before the first
        # pass the gauge is 0: then the first scrape counts, however often its process restarts.
        value=f"time() - (max {_by('kind')} (max_over_time({SWEPT}[1d])) > 0"
        f" or min {_by('kind')} (min_over_time(timestamp({SWEPT})[1d:5m])))",
        condition="> 1800",
        wait="5m",
        severity=_WARNING,
        summary="The sweeper has not finished its work {{ $labels.kind }} for half an hour",
        description="This kind of work fails each time, or no sweeper runs. What crashes left"
        " behind stays, and lost hints are not repeated.",
        runbook="sweeper-behind",
        fires=Example(
            {'sluice_sweep_timestamp_seconds{kind="cleaned"}': "0x90"},
            at="60m",
            labels={"kind": "cleaned"},
        ),
        quiet=Example({'sluice_sweep_timestamp_seconds{kind="cleaned"}': "0+60x90"}, at="60m"),
        also_fires=(
            # No sweeper runs any more.
            Example(
                {f'{SWEPT}{{kind="cleaned", instance="a:9464"}}': "0+60x20 stale"},
                at="60m",
                labels={"kind": "cleaned"},
            ),
            # Sweepers end soon after their start, each in another pod, and no pass succeeds.
            Example(
                {
                    f'{SWEPT}{{kind="cleaned", instance="a:9464"}}': "_x5 0x25 stale",
                    f'{SWEPT}{{kind="cleaned", instance="b:9464"}}': "_x30 0x60",
                },
                at="60m",
                labels={"kind": "cleaned"},
            ),
        ),
        also_quiet=(
            # A rollout: the next sweeper has not ended its first pass.
            Example(
                {
                    f'{SWEPT}{{kind="cleaned", instance="a:9464"}}': "0+60x50 stale",
                    f'{SWEPT}{{kind="cleaned", instance="b:9464"}}': "_x50 0x40",
                },
                at="60m",
            ),
            # The first start of a deployment, with a first pass of twenty minutes.
            Example({f'{SWEPT}{{kind="cleaned"}}': "_x40 0x20"}, at="60m"),
        ),
    ),
    Alert(
        name="SluiceSweeperItemsFail",
        value=f"sum {_by('kind')} (rate(sluice_sweep_item_failures_total[5m]))",
        condition="> 0",
        wait="30m",
        severity=_WARNING,
        summary="The sweeper cannot clean some items ({{ $labels.kind }})",
        description="They are retried in every pass and have failed for half an hour.",
        runbook="sweeper-behind",
        fires=Example(
            {'sluice_sweep_item_failures_total{kind="deletions"}': "0+6x90"},
            at="60m",
            labels={"kind": "deletions"},
        ),
        quiet=Example(
            {'sluice_sweep_item_failures_total{kind="deletions"}': "0x10 6x80"}, at="60m"
        ),
    ),
    Alert(
        name="SluiceQuotaDrift",
        value=f"sum {BY_NAMESPACE} (increase(sluice_usage_corrections_total[2h]))",
        condition="> 0",
        wait="0m",
        severity=_WARNING,
        summary="The counted usage of a drive differed from its nodes",
        description="The sweeper has corrected it. Until then, a quota admitted too much or too"
        " little.",
        runbook="quota-drift",
        fires=Example({"sluice_usage_corrections_total": "0x20 1x40"}),
        quiet=Example({"sluice_usage_corrections_total": "4x60"}),
    ),
)

_BACKENDS: Final = (
    Alert(
        name="SluiceStoreBreakerOpen",
        value=f"max {_by('job')} (max_over_time(sluice_store_breaker_state[2m]))",
        condition="== 2",
        wait="3m",
        severity=_CRITICAL,
        summary="{{ $labels.job }} cannot use the object store",
        description="The circuit breaker has been open, or has opened again and again, for three"
        " minutes. Parts wait in Redis until the budget is full.",
        runbook="store-breaker-open",
        fires=Example(
            {'sluice_store_breaker_state{job="sluice-repository"}': "2 1 2 1 2 1 2 1 2 1 2 1"},
            at="10m",
            labels={"job": "sluice-repository"},
        ),
        quiet=Example(
            {'sluice_store_breaker_state{job="sluice-repository"}': "0x5 2 1 0x30"}, at="10m"
        ),
    ),
    Alert(
        name="SluiceRedisMemoryHigh",
        value=f"max {_by('server')} (sluice_redis_used_bytes / (sluice_redis_max_bytes > 0))",
        condition="> 0.85",
        wait="5m",
        severity=_WARNING,
        summary="Redis {{ $labels.server }} uses more than 85 % of maxmemory",
        description="Above SLUICE_REDIS__MEMORY_HIGH_FRACTION (0.9), no chunk is admitted.",
        runbook="redis-memory-high",
        fires=Example(
            {
                'sluice_redis_used_bytes{server="r:6379"}': f"{9 * GIB}x60",
                'sluice_redis_max_bytes{server="r:6379"}': f"{10 * GIB}x60",
            },
            labels={"server": "r:6379"},
        ),
        quiet=Example(
            {
                'sluice_redis_used_bytes{server="r:6379"}': f"{9 * GIB}x60",
                'sluice_redis_max_bytes{server="r:6379"}': "0x60",
            }
        ),
    ),
    Alert(
        name="SluiceRedisDurabilityLost",
        value=f"min {_by('server')} (sluice_redis_durability_met)",
        condition="== 0",
        wait="1m",
        severity=_CRITICAL,
        summary="Redis {{ $labels.server }} does not keep the durability class",
        description="Chunks are acknowledged that it may lose: its settings were changed, or its"
        " replicas are gone. The log line redis.durability_lost says what is missing.",
        runbook="redis-durability-lost",
        fires=Example(
            {'sluice_redis_durability_met{server="r:6379"}': "1x10 0x50"},
            labels={"server": "r:6379"},
        ),
        quiet=Example({'sluice_redis_durability_met{server="r:6379"}': "1x60"}),
    ),
    Alert(
        name="SluiceRedisEmptied",
        value=f'max {BY_NAMESPACE} (increase(sluice_redis_replaced_total{{what="emptied"}}[15m]))',
        condition="> 0",
        wait="0m",
        severity=_CRITICAL,
        summary="Redis was emptied or replaced",
        description="Uploads in progress are lost and start again; chunks that were acknowledged"
        " and not yet stored are gone.",
        runbook="redis-emptied",
        fires=Example({'sluice_redis_replaced_total{what="emptied"}': "0x20 1x40"}),
        quiet=Example(
            {
                'sluice_redis_replaced_total{what="emptied"}': "0x60",
                'sluice_redis_replaced_total{what="restarted"}': "0x20 1x40",
            }
        ),
    ),
    Alert(
        name="SluiceMigrationsPending",
        value=f"max {BY_NAMESPACE} (sluice_catalogue_migrations_pending)",
        condition="> 0",
        wait="2m",
        severity=_CRITICAL,
        summary="The catalogue lacks migrations of the running release",
        description="An older copy of the database was restored, or a migration is incomplete."
        " Processes that start now refuse to.",
        runbook="migrations-pending",
        fires=Example({"sluice_catalogue_migrations_pending": "0x10 2x50"}),
        quiet=Example({"sluice_catalogue_migrations_pending": "0x60"}),
    ),
    Alert(
        name="SluiceDiskFull",
        value="sluice_data_disk_free_bytes / sluice_data_disk_size_bytes",
        condition="< 0.1",
        wait="5m",
        severity=_CRITICAL,
        summary="The disk of {{ $labels.instance }} is more than 90 % full",
        description="When it is full, chunks are refused with DISK_FULL. No acknowledged chunk is"
        " lost.",
        runbook="disk-full",
        fires=Example(
            {
                'sluice_data_disk_free_bytes{instance="a:9464"}': f"{5 * GIB}x60",
                'sluice_data_disk_size_bytes{instance="a:9464"}': f"{100 * GIB}x60",
            },
            labels={"instance": "a:9464"},
        ),
        quiet=Example(
            {
                'sluice_data_disk_free_bytes{instance="a:9464"}': f"{20 * GIB}x60",
                'sluice_data_disk_size_bytes{instance="a:9464"}': f"{100 * GIB}x60",
            }
        ),
    ),
)

_KEYS: Final = (
    Alert(
        name="SluiceCertificateEnds",
        # 0 is a certificate whose end is unknown.
        value="(sluice_tls_certificate_expiry_timestamp_seconds > 0) - time()",
        condition="< 7 * 86400",
        wait="10m",
        severity=_WARNING,
        summary="The TLS certificate of {{ $labels.instance }} ends within a week",
        description="Clients refuse the process afterwards. A replaced file is read without a"
        " restart.",
        runbook="certificate-ends",
        fires=Example(
            {'sluice_tls_certificate_expiry_timestamp_seconds{instance="a:9464"}': "600000x60"},
            labels={"instance": "a:9464"},
        ),
        quiet=Example(
            {
                'sluice_tls_certificate_expiry_timestamp_seconds{instance="a:9464"}': "900000x60",
                'sluice_tls_certificate_expiry_timestamp_seconds{instance="b:9464"}': "0x60",
            }
        ),
    ),
    Alert(
        name="SluiceKeysStale",
        # 0: not refreshed yet. A gateway that verifies its own tokens never is, nor fails.
        value=f"time() - ({KEYS_REFRESHED} > 0"
        f" or {KEYS_REFRESHED} and sluice_auth_keys_refresh_failures_total > 0)",
        condition="> 7200",
        wait="5m",
        severity=_WARNING,
        summary="{{ $labels.instance }} could not refresh its keys for two hours",
        description="The last good keys stay in use. Tokens that a new key signs are refused.",
        runbook="keys-stale",
        fires=Example(
            {
                f'{KEYS_REFRESHED}{{instance="a:9464"}}': "0x200",
                'sluice_auth_keys_refresh_failures_total{instance="a:9464"}': "0+1x200",
            },
            at="150m",
            labels={"instance": "a:9464"},
        ),
        quiet=Example(
            {
                f'{KEYS_REFRESHED}{{instance="a:9464"}}': "0+60x200",
                f'{KEYS_REFRESHED}{{instance="gateway:9464"}}': "0x200",
                'sluice_auth_keys_refresh_failures_total{instance="gateway:9464"}': "0x200",
            },
            at="150m",
        ),
    ),
)


def groups() -> tuple[Group, ...]:
    named = {
        "processes": _PROCESSES,
        "work": _WORK,
        "events": _EVENTS,
        "cleaning": _CLEANING,
        "backends": _BACKENDS,
        "keys": _KEYS,
    }
    return tuple(Group(f"sluice.{name}", alerts) for name, alerts in named.items())
