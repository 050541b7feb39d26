"""What breaks first: what a load needs, against what there is. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from bench.capacity import facts
from bench.capacity.facts import Basis
from bench.capacity.model import Allowance, Plan
from bench.capacity.shipped import Shipped

_FORGET: Final = "SLUICE_LIFETIMES__FORGET_AFTER_SECONDS"


@dataclass(frozen=True, slots=True)
class Limit:
    """A bound, and what of it a load takes.

    `basis`: what the least certain of the figures behind it rests on. `remedy` says what raises the
    bound; `is_hard`: nothing inside one deployment does.
    """

    name: str
    needed: float
    available: float
    basis: Basis
    remedy: str
    is_hard: bool = False

    @property
    def ratio(self) -> float:
        return self.needed / self.available

    def reached_at(self, bytes_per_second: float) -> float:
        """Return the rate at which the bound is reached, given the rate that `needed` is for."""
        return bytes_per_second / self.ratio


def limits(plan: Plan, shipped: Shipped, allowance: Allowance) -> Sequence[Limit]:
    """Return every bound, the one that is reached first at the top.

    What is not needed at all (decoders without photos) is left out.
    """
    found = (
        *_redis(plan, shipped, allowance),
        *_services(plan, shipped),
        *_stores(plan, allowance),
    )
    return sorted((limit for limit in found if limit.needed > 0), key=lambda limit: -limit.ratio)


def _redis(plan: Plan, shipped: Shipped, allowance: Allowance) -> Iterator[Limit]:
    remedies = {
        "processor time": "Redis Cluster",
        "memory": f"Redis Cluster; {_FORGET}",
    }
    for reason in plan.redis.reasons:
        name, amount = reason.name, reason.amount
        yield Limit(f"one Redis server, {name}", amount, 1, reason.basis, remedies[name])
    yield Limit(
        "bytes that wait in Redis",
        plan.waiting_bytes,
        shipped.budget_bytes * allowance.usable,
        Basis.ASSUMED,
        "SLUICE_BUDGET_BYTES, with memory of Redis for it",
    )
    server_bytes = facts.REDIS_BYTES.value * allowance.usable
    yield Limit(
        "the budget's slot of Redis Cluster, memory",
        plan.budget_bytes,
        server_bytes,
        Basis.ASSUMED,
        f"{_FORGET}; a larger server",
    )
    yield Limit(
        "the budget's slot of Redis Cluster, processor time",
        plan.budget_cores,
        facts.REDIS_CORES.value * allowance.usable,
        Basis.ASSUMED,
        "another deployment",
        is_hard=True,
    )
    yield Limit(
        "servers of one Redis Cluster",
        plan.redis.exact * (1 + facts.REDIS_REPLICAS.value),
        facts.CLUSTER_NODES.value,
        Basis.ASSUMED,
        f"{_FORGET}; larger servers",
    )


def _services(plan: Plan, shipped: Shipped) -> Iterator[Limit]:
    pods = {"intake": plan.intake, "repository": plan.repository, "processor": plan.processor}
    for name, need in pods.items():
        yield Limit(
            f"pods of {name}",
            need.exact,
            shipped.max_pods[name],
            need.decided_by.basis,
            "the autoscaler's maximum",
        )
    yield Limit(
        "partitions of Kafka",
        plan.partitions.exact,
        shipped.partitions,
        plan.partitions.decided_by.basis,
        "SLUICE_KAFKA__PARTITIONS; processors with more cores",
    )


def _stores(plan: Plan, allowance: Allowance) -> Iterator[Limit]:
    yield Limit(
        "requests under one drive's prefix of S3",
        plan.drives.exact,
        1,
        plan.drives.decided_by.basis,
        "more drives",
    )
    yield Limit(
        "thumbnails under one prefix of S3",
        plan.thumbnail_prefixes.exact,
        1,
        plan.thumbnail_prefixes.decided_by.basis,
        "drives with prefixes of their own",
    )
    yield Limit(
        "the MySQL primary, processor time",
        plan.mysql_cores,
        facts.MYSQL_CORES.value * allowance.usable,
        Basis.ASSUMED,
        "another deployment (or a server with more cores)",
        is_hard=True,
    )
