"""The dashboards of Grafana, one module each."""

from __future__ import annotations

from typing import Final

from tools.monitoring.dashboards import (
    backends,
    failures,
    gateway,
    intake,
    processor,
    uploads,
)
from tools.monitoring.dashboards.panels import Dashboard

DASHBOARDS: Final[tuple[Dashboard, ...]] = (
    uploads.DASHBOARD,
    processor.DASHBOARD,
    failures.DASHBOARD,
    intake.DASHBOARD,
    backends.DASHBOARD,
    gateway.DASHBOARD,
)
