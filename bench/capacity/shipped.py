"""What Sluice has by default: settings of the services, bounds of the manifests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from sluice_backends.kafka.options import KafkaOptions
from sluice_common.settings.backends import Redis
from sluice_common.settings.groups import Grpc, Limits, Workers
from sluice_common.settings.processor import Processor
from sluice_core.ledger.options import LedgerOptions
from sluice_core.uploads.model import DEFAULT_PART_BYTES

BASE: Final = Path(__file__).resolve().parents[2] / "deploy" / "k8s" / "base"


@dataclass(frozen=True, slots=True)
class Shipped:
    """Defaults; `max_pods` is what each autoscaler allows, `streams_per_intake` what its memory."""

    part_bytes: int
    chunk_bytes: int
    parts_at_once: int
    thumbnails: int
    budget_bytes: int
    forget_after_seconds: float
    queues: int
    window_bytes: int
    partitions: int
    streams_per_intake: int
    max_pods: dict[str, int]


def read_shipped(base: Path = BASE) -> Shipped:
    """Read the defaults where the services and the cluster read them."""
    ledger = LedgerOptions()
    intake = _yaml(base / "intake" / "deployment.yaml")
    annotations = intake["spec"]["template"]["metadata"]["annotations"]
    scalers = {
        "intake": "intake",
        "repository": "repository/parts",
        "processor": "processor",
        "gateway": "gateway",
    }
    return Shipped(
        part_bytes=DEFAULT_PART_BYTES,
        chunk_bytes=Limits().preferred_chunk_bytes,
        parts_at_once=Workers().parts,
        thumbnails=len(Processor().thumbnail_sizes.split(",")),
        budget_bytes=ledger.budget_bytes,
        forget_after_seconds=ledger.forget_after_seconds,
        queues=Redis().shards,
        window_bytes=Grpc().stream_window_bytes,
        partitions=KafkaOptions(bootstrap_servers="kafka:9092").partitions,
        streams_per_intake=int(annotations["sluice/sending-streams"]),
        max_pods={
            service: int(_yaml(base / folder / "hpa.yaml")["spec"]["maxReplicas"])
            for service, folder in scalers.items()
        },
    )


def _yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))
