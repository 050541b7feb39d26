"""Metric families that a service exports: as documented, as declared and as scraped."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from sluice_backends.instruments import Instruments
from sluice_common.security.metrics import TlsMetrics, TokenMetrics
from support.clone import ROOT
from support.waiting import scrape

SERVICES: Final = ("intake", "repository", "processor", "gateway")
STANDALONE: Final = "standalone"
"""What only `sluice serve` exports, besides all that the services do."""
SWITCHED_ON: Final[dict[str, type[Instruments]]] = {
    "SLUICE_AUTH__MODE=jwt": TokenMetrics,
    "SLUICE_TLS__CERT_FILE": TlsMetrics,
}
"""Groups that a service exports with this setting only."""
_HEADING: Final = "### Which service exports which metric\n"
_ROW: Final = re.compile(r"^\| ([a-z, ]+) \| (`.*`) \|$", re.MULTILINE)
_SWITCHED_ROW: Final = re.compile(r"^\| `(SLUICE_\w+(?:=\w+)?)` \| (`sluice_.*`) \|$", re.MULTILINE)
_TIMES_OF_CREATION: Final = "_created"


def documented() -> Mapping[str, frozenset[str]]:
    """Return the families of each service in the table of docs/operations.md."""
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    section = text.partition(_HEADING)[2].partition("\n### ")[0]
    rows = [
        (services.split(", "), frozenset(map(family_of, re.findall(r"`(\w+)`", metrics))))
        for services, metrics in _ROW.findall(section)
    ]
    return {
        service: frozenset().union(*(names for services, names in rows if service in services))
        for service in (*SERVICES, STANDALONE)
    }


def documented_by_switch() -> Mapping[str, frozenset[str]]:
    """Return the families of the second table of docs/operations.md, by setting."""
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    section = text.partition(_HEADING)[2].partition("\n### ")[0]
    return {
        setting: frozenset(map(family_of, re.findall(r"`(\w+)`", metrics)))
        for setting, metrics in _SWITCHED_ROW.findall(section)
    }


def declared(group: Instruments) -> frozenset[str]:
    """Return the families on the registry of a group of instruments."""
    return _families(generate_latest(group.registry).decode())


def scraped(address: str) -> frozenset[str]:
    """Return the families in `/metrics` of a running service."""
    return _families(scrape(address))


def family_of(metric: str) -> str:
    """Return the name of a metric's family: that of a counter lacks `_total`."""
    return metric.removesuffix("_total")


def _families(text: str) -> frozenset[str]:
    names = {family.name for family in text_string_to_metric_families(text)}
    # A family of its own may end in the suffix too, such as `upload_job_created`.
    times = {name for name in names if name.removesuffix(_TIMES_OF_CREATION) in names - {name}}
    return frozenset(names - times)
