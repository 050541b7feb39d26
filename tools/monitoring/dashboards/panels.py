"""Dashboards as values, and their form in Grafana."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

WIDTH: Final = 24
HEIGHT: Final = 8
_PER_ROW: Final = 3
_SELECTOR: Final = {"type": "prometheus", "uid": "${datasource}"}
_SCHEMA: Final = 39
"""Of Grafana 10 and newer."""
RATE: Final = "$__rate_interval"


class Unit(StrEnum):
    """Units by their ids in Grafana."""

    SECONDS = "s"
    MILLISECONDS = "ms"
    BYTES = "bytes"
    BYTES_PER_SECOND = "Bps"
    PER_SECOND = "ops"
    RATIO = "percentunit"
    COUNT = "short"


class Needs(StrEnum):
    """What has to run, or be switched on, for a panel to have data."""

    NOTHING = "nothing"
    REDIS = "redis"
    S3 = "s3"
    KAFKA = "kafka"
    TLS = "tls"
    KEYS = "keys"
    """Tokens that are verified by the keys of an issuer."""
    STANDALONE = "standalone"
    FAILURES = "failures"
    """A fault of a backend, or a caller who is refused: until then there is no series."""


@dataclass(frozen=True, slots=True)
class Query:
    """One expression, and the legend of its series."""

    expression: str
    legend: str


@dataclass(frozen=True, slots=True)
class Panel:
    """Lines over time.

    Args:
        bound: a value that is drawn as a red line, such as that of an objective.
    """

    title: str
    unit: Unit
    queries: tuple[Query, ...]
    description: str
    needs: Needs = Needs.NOTHING
    bound: float | None = None


@dataclass(frozen=True, slots=True)
class Dashboard:
    """A page of panels, three in a row."""

    uid: str
    title: str
    panels: tuple[Panel, ...]

    def document(self) -> str:
        """Return the JSON that Grafana imports."""
        document = {
            "uid": self.uid,
            "title": f"Sluice / {self.title}",
            "tags": ["sluice"],
            "timezone": "browser",
            "editable": False,
            "graphTooltip": 1,
            "refresh": "30s",
            "schemaVersion": _SCHEMA,
            "time": {"from": "now-3h", "to": "now"},
            "templating": {"list": [_DATASOURCE]},
            "links": [
                {
                    "type": "dashboards",
                    "title": "Sluice",
                    "tags": ["sluice"],
                    "asDropdown": True,
                    "keepTime": True,
                }
            ],
            "panels": list(_placed(self.panels)),
        }
        return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


_DATASOURCE: Final = {
    "name": "datasource",
    "label": "Prometheus",
    "type": "datasource",
    "query": "prometheus",
    "current": {},
    "hide": 0,
}


def per_second(counter: str, *labels: str, selector: str = "") -> str:
    """Return the rate of a counter, summed by these labels."""
    return _summed(f"rate({counter}{selector}[{RATE}])", labels)


def quantile(
    quantile_of: float, histogram: str, *labels: str, selector: str = "", window: str = RATE
) -> str:
    """Return a quantile of a histogram by these labels."""
    buckets = _summed(f"rate({histogram}_bucket{selector}[{window}])", (*labels, "le"))
    return f"histogram_quantile({quantile_of:g}, {buckets})"


def quantiles(histogram: str, *, selector: str = "") -> tuple[Query, ...]:
    """Return the median and the slowest hundredth."""
    return (
        Query(quantile(0.5, histogram, selector=selector), "median"),
        Query(quantile(0.99, histogram, selector=selector), "99 %"),
    )


def _summed(rate: str, labels: Sequence[str]) -> str:
    return f"sum by ({', '.join(labels)}) ({rate})" if labels else f"sum ({rate})"


def _placed(panels: Sequence[Panel]) -> Iterator[dict[str, Any]]:
    width = WIDTH // _PER_ROW
    for index, panel in enumerate(panels):
        row, column = divmod(index, _PER_ROW)
        position = {"x": column * width, "y": row * HEIGHT, "w": width, "h": HEIGHT}
        yield {
            "id": index + 1,
            "type": "timeseries",
            "title": panel.title,
            "description": panel.description,
            "datasource": _SELECTOR,
            "gridPos": position,
            "fieldConfig": {"defaults": _defaults(panel), "overrides": []},
            "options": {
                "legend": {"displayMode": "list", "placement": "bottom"},
                "tooltip": {"mode": "multi", "sort": "desc"},
            },
            "targets": [
                {
                    "refId": chr(ord("A") + number),
                    "datasource": _SELECTOR,
                    "expr": query.expression,
                    "legendFormat": query.legend,
                }
                for number, query in enumerate(panel.queries)
            ],
        }


def _defaults(panel: Panel) -> dict[str, Any]:
    defaults: dict[str, Any] = {"unit": panel.unit.value, "min": 0}
    if panel.bound is not None:
        defaults["custom"] = {"thresholdsStyle": {"mode": "line"}}
        defaults["thresholds"] = {
            "mode": "absolute",
            "steps": [
                {"color": "green", "value": None},
                {"color": "red", "value": panel.bound},
            ],
        }
    return defaults
