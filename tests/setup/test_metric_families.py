"""Each service declares exactly the metric families that docs/operations.md says it exports."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest
from prometheus_client import Counter

from sluice_backends.instruments import Instruments, Registry
from sluice_backends.redis.metrics import RedisMetrics
from sluice_gateway.metrics import GatewayMetrics
from sluice_intake.metrics import IntakeMetrics
from sluice_processor.metrics import ProcessorMetrics
from sluice_repository.metrics import RepositoryMetrics
from sluice_standalone.metrics import StandaloneMetrics
from support.clone import ROOT
from support.exported_metrics import (
    SERVICES,
    SWITCHED_ON,
    declared,
    documented,
    documented_by_switch,
    family_of,
)

METRICS: Final[dict[str, type[Instruments]]] = {
    "intake": IntakeMetrics,
    "repository": RepositoryMetrics,
    "processor": ProcessorMetrics,
    "gateway": GatewayMetrics,
}
ONLY: Final = {
    "intake": {"sluice_chunks", "sluice_ack_seconds", "sluice_throttled"},
    "repository": {"sluice_parts", "sluice_events_pending", "sluice_event_publish_seconds"},
    "processor": {"sluice_processor_nodes", "sluice_processor_lag", "sluice_processor_adopted"},
    "gateway": {"http_server_requests_seconds", "sluice_gateway_sessions", "photo_completed"},
}
"""Some families that no other service can change."""
DOCUMENTS: Final = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MENTIONED: Final = re.compile(r"`((?:sluice|grpc_server)_\w+)(?:\{[\w,]+\})?`")
PACKAGES: Final = {path.name for path in ROOT.glob("*/*/src/sluice_*")}


@pytest.mark.parametrize("service", SERVICES)
def test_service_exports_the_documented_families(service: str) -> None:
    assert sorted(declared(METRICS[service]())) == sorted(documented()[service])


@pytest.mark.parametrize("service", SERVICES)
def test_service_exports_no_family_of_another(service: str) -> None:
    families = declared(METRICS[service]())
    assert ONLY[service] <= families
    for other in set(SERVICES) - {service}:
        assert not ONLY[other] & families
    assert service == "processor" or not any("_processor_" in name for name in families)


def test_standalone_exports_the_families_of_all() -> None:
    assert declared(StandaloneMetrics()) == frozenset().union(*documented().values())


def test_switched_on_families_are_documented() -> None:
    assert documented_by_switch() == {
        setting: declared(group()) for setting, group in SWITCHED_ON.items()
    }


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_metrics_in_documents_are_exported(document: Path) -> None:
    mentioned = set(MENTIONED.findall(document.read_text(encoding="utf-8"))) - PACKAGES
    families = declared(StandaloneMetrics()).union(
        *(declared(group()) for group in SWITCHED_ON.values())
    )
    # Of a histogram, documents may name the series that counts.
    missing = {name for name in mentioned if family_of(name).removesuffix("_count") not in families}
    assert not missing


def test_mentions_of_metrics_are_found() -> None:
    """With labels, of counters and of gRPC; packages are none."""
    text = "`sluice_part_seconds` `sluice_s3_seconds{operation}` `grpc_server_handled_total`"
    assert len(MENTIONED.findall(text)) == 3
    assert "sluice_common" in PACKAGES


def test_services_in_one_process_share_a_group() -> None:
    metrics = StandaloneMetrics()
    assert metrics.intake.redis is metrics.repository.redis
    assert metrics.repository.s3 is metrics.processor.s3
    metrics.intake.ledger.sweeps.labels("expired").inc()
    metrics.repository.ledger.sweeps.labels("expired").inc()
    value = metrics.registry.get_sample_value("sluice_sweeps_total", {"kind": "expired"})
    assert value == 2


def test_groups_without_registry_are_separate() -> None:
    one, other = RedisMetrics(), RedisMetrics()
    one.errors.labels("get").inc()
    assert one.registry is not other.registry
    assert (
        other.registry.get_sample_value("sluice_redis_errors_total", {"operation": "get"}) is None
    )


def test_group_with_a_taken_name_is_refused() -> None:
    class Taken(Instruments):
        def __init__(self, registry: Registry | None = None) -> None:
            super().__init__(registry)
            Counter("sluice_redis_errors", "The same name.", registry=self.registry)

    registry = Registry()
    registry.group(RedisMetrics)
    with pytest.raises(ValueError, match="sluice_redis_errors"):
        registry.group(Taken)
