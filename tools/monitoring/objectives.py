"""Service level objectives: recorded error ratios and burn-rate alerts over several windows."""

# After chapter 5 of the SRE workbook: an alert fires when a long window has spent its share of the
# error budget, and a short one shows that it is still being spent.

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from tools.monitoring.model import BY_NAMESPACE, Alert, Example, Group, Recording, Severity

PERIOD_DAYS: Final = 28


@dataclass(frozen=True, slots=True)
class Objective:
    """An objective over `PERIOD_DAYS`.

    Args:
        target: required ratio of good events.
        bad, total: rates with `{window}` for the window; `bad` may be the difference to `total`.
        bad_series, good_series: series of one bad and of one good event, for the rule tests.
        uncounted_series: series that count neither as bad nor as good.
    """

    name: str
    target: float
    title: str
    bad: str
    total: str
    bad_series: tuple[str, ...]
    good_series: tuple[str, ...]
    uncounted_series: tuple[str, ...] = ()

    @property
    def budget(self) -> float:
        """Ratio of events that may be bad."""
        return round(1 - self.target, 6)

    def recorded(self, window: str) -> str:
        """Return the name of the recorded error ratio."""
        return f"sluice:{self.name}_errors:ratio_rate{window}"

    def ratio(self, window: str) -> str:
        bad, total = (text.replace("{window}", window) for text in (self.bad, self.total))
        return f"({bad}) / {total}"


@dataclass(frozen=True, slots=True)
class Burn:
    """A pair of windows, and the share of the budget that the long one may spend."""

    long: str
    short: str
    long_hours: float
    share: float

    @property
    def rate(self) -> float:
        """How many times faster than allowed the budget is spent."""
        return round(self.share * PERIOD_DAYS * 24 / self.long_hours, 2)


FAST: Final = (Burn("1h", "5m", 1, 0.02), Burn("6h", "30m", 6, 0.05))
"""A budget that ends within days. It pages."""
SLOW: Final = (Burn("1d", "2h", 24, 0.10), Burn("3d", "6h", 72, 0.10))
_EVENTS: Final = 10_000
WINDOWS: Final = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")


def _above_bound(histogram: str, selector: str, bound: str) -> tuple[str, str]:
    """Return the rates of observations above a bucket's bound, and of all."""
    total = f"sum {BY_NAMESPACE} (rate({histogram}_count{_braced(selector)}[{{window}}]))"
    within = _braced(f'{selector}, le="{bound}"' if selector else f'le="{bound}"')
    good = f"sum {BY_NAMESPACE} (rate({histogram}_bucket{within}[{{window}}]))"
    return f"{total} - {good}", total


def _braced(selector: str) -> str:
    return f"{{{selector}}}" if selector else ""


_ACK = _above_bound("sluice_ack_seconds", 'level="accepted"', "0.25")
_COMPLETION = _above_bound("sluice_upload_completion_seconds", "", "60.0")
_PHOTOS = _above_bound("sluice_processor_delay_seconds", "", "60.0")
_CALLS: Final = "grpc_server_handled_total"
_SERVER_ERRORS: Final = 'grpc_code=~"UNAVAILABLE|INTERNAL|UNKNOWN|DATA_LOSS"'
_REQUESTS: Final = "http_server_requests_seconds_count"
_OF_CLIENTS: Final = 'uri!~"/healthz|/readyz|/metrics|/actuator/.*"'
"""Without probes and scrapes, which outnumber the requests of a quiet gateway."""
_HTTP_ERRORS: Final = f'{_OF_CLIENTS}, status=~"5..", status!="507"'
"""507 is a used-up quota: the answer that the caller has to get."""


def _failed(counter: str, errors: str, selector: str = "") -> tuple[str, str]:
    """Return the rates of the counter with labels of errors, and with the selector alone."""
    total = f"sum {BY_NAMESPACE} (rate({counter}{_braced(selector)}[{{window}}]))"
    bad = f"sum {BY_NAMESPACE} (rate({counter}{_braced(errors)}[{{window}}]))"
    # `or` keeps a deployment without a single error at 0 instead of at no data.
    return f"{bad} or 0 * {total}", total


def _within(histogram: str, labels: str, bound: str) -> tuple[str, str]:
    """Return the series of an observation that counts, and of the bucket that it may be in."""
    more = f"{labels}, " if labels else ""
    return f"{histogram}_count{_braced(labels)}", f'{histogram}_bucket{{{more}le="{bound}"}}'


OBJECTIVES: Final = (
    Objective(
        "acknowledgement",
        0.99,
        "chunks acknowledged within 250 ms of their last byte",
        *_ACK,
        bad_series=_within("sluice_ack_seconds", 'level="accepted"', "0.25")[:1],
        good_series=_within("sluice_ack_seconds", 'level="accepted"', "0.25"),
    ),
    Objective(
        "availability",
        0.999,
        "calls without UNAVAILABLE, INTERNAL, UNKNOWN or DATA_LOSS",
        *_failed(_CALLS, _SERVER_ERRORS),
        bad_series=(f'{_CALLS}{{grpc_method="UploadChunk", grpc_code="UNAVAILABLE"}}',),
        good_series=(f'{_CALLS}{{grpc_method="UploadChunk", grpc_code="OK"}}',),
    ),
    Objective(
        "gateway",
        0.999,
        "HTTP requests answered without a status of 500 to 599 other than 507",
        *_failed(_REQUESTS, _HTTP_ERRORS, _OF_CLIENTS),
        bad_series=(f'{_REQUESTS}{{uri="/commands/upload-jobs", status="503"}}',),
        good_series=(
            f'{_REQUESTS}{{uri="/commands/upload-jobs", status="201"}}',
            f'{_REQUESTS}{{uri="/commands/upload-jobs", status="507"}}',
        ),
        uncounted_series=(f'{_REQUESTS}{{uri="/readyz", status="503"}}',),
    ),
    Objective(
        "completion",
        0.999,
        "uploads COMPLETED within 60 s of CompleteUpload",
        *_COMPLETION,
        bad_series=_within("sluice_upload_completion_seconds", 'size="small"', "60.0")[:1],
        good_series=_within("sluice_upload_completion_seconds", 'size="small"', "60.0"),
    ),
    Objective(
        "photos",
        0.99,
        "photos processed within 60 s of the event of their object",
        *_PHOTOS,
        bad_series=_within("sluice_processor_delay_seconds", "", "60.0")[:1],
        good_series=_within("sluice_processor_delay_seconds", "", "60.0"),
    ),
)


def groups() -> tuple[Group, ...]:
    recorded = tuple(
        Recording(objective.recorded(window), objective.ratio(window))
        for objective in OBJECTIVES
        for window in WINDOWS
    )
    alerts = tuple(_alert(one, is_fast=fast) for one in OBJECTIVES for fast in (True, False))
    return Group("sluice.objectives", recorded), Group("sluice.budgets", alerts)


def _alert(objective: Objective, *, is_fast: bool) -> Alert:
    pairs = FAST if is_fast else SLOW
    name, budget = objective.name.capitalize(), objective.budget
    spent = ", or ".join(f"{burn.share * 100:g} % within {burn.long}" for burn in pairs)
    return Alert(
        name=f"Sluice{name}Budget{'Fast' if is_fast else 'Slow'}Burn",
        value="",
        condition=" or ".join(_spent(objective, burn) for burn in pairs),
        wait="2m" if is_fast else "15m",
        severity=Severity.CRITICAL if is_fast else Severity.WARNING,
        summary=f"The error budget of {objective.name} burns {'fast' if is_fast else 'slowly'}",
        description=(
            f"Objective: {objective.target * 100:g} % of {objective.title}, over {PERIOD_DAYS}"
            f" days. Spent of its budget: at least {spent}. It is still being spent."
        ),
        runbook=f"{objective.name}-budget",
        fires=_example(objective, is_fast=is_fast, ratio=0.2 if is_fast else 3.5 * budget),
        quiet=_example(objective, is_fast=is_fast, ratio=(3.5 if is_fast else 0.5) * budget),
        more_labels={"objective": objective.name, "burn": "fast" if is_fast else "slow"},
    )


def _spent(objective: Objective, burn: Burn) -> str:
    bound = f"{burn.rate:g} * {objective.budget:g}"
    long, short = objective.recorded(burn.long), objective.recorded(burn.short)
    return f"({long} > {bound} and {short} > {bound})"


def _example(objective: Objective, *, is_fast: bool, ratio: float) -> Example:
    """Return events at a steady rate of which this ratio is bad.

    3.5 times the budget lies between the bounds: a matter of days, and not of hours.
    """
    minutes = 90 if is_fast else 36 * 60
    bad = round(_EVENTS * ratio)
    series = dict.fromkeys(objective.good_series, f"0+{_EVENTS - bad}x{minutes}")
    for one in objective.bad_series:
        # A bad observation is in the count of its histogram, and in no bucket below the bound.
        series[one] = f"0+{_EVENTS if one in series else bad}x{minutes}"
    series |= dict.fromkeys(objective.uncounted_series, f"0+{_EVENTS}x{minutes}")
    at, step = ("80m", "1m") if is_fast else ("35h", "30m")
    return Example(series, at, step=step)
