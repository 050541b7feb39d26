"""What breaks first: what a load needs, against what there is. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.capacity import facts
from bench.capacity.model import Allowance, Plan
from bench.capacity.shipped import Shipped


@dataclass(frozen=True, slots=True)
class Limit:
    """A bound, and what of it a load takes.

    `remedy` says what raises it; `is_hard`: no setting of the deployment does.
    """

    name: str
    needed: float
    available: float
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
    nodes = plan.redis.exact * (1 + facts.REDIS_REPLICAS.value)
    found = [
        Limit(
            "one Redis server",
            plan.redis.exact,
            1,
            "Redis Cluster; SLUICE_LIFETIMES__FORGET_AFTER_SECONDS, where memory decides",
        ),
        Limit(
            "bytes that wait in Redis",
            plan.waiting_bytes,
            shipped.budget_bytes * allowance.usable,
            "SLUICE_BUDGET_BYTES, with memory of Redis for it",
        ),
        Limit(
            "partitions of Kafka",
            plan.partitions.exact,
            shipped.partitions,
            "SLUICE_KAFKA__PARTITIONS, or pods with more cores (--core-share)",
        ),
        *(
            Limit(f"pods of {name}", need.exact, shipped.max_pods[name], "the autoscaler's maximum")
            for name, need in (
                ("intake", plan.intake),
                ("repository", plan.repository),
                ("processor", plan.processor),
            )
        ),
        Limit("requests to one drive's prefix of S3", plan.drives.exact, 1, "more drives"),
        Limit(
            "thumbnails under one prefix of S3",
            plan.thumbnail_prefixes.exact,
            1,
            "drives with prefixes of their own",
        ),
        Limit(
            "the budget's slot of Redis Cluster",
            plan.budget_cores,
            facts.REDIS_CORES.value * allowance.usable,
            "another deployment",
            is_hard=True,
        ),
        Limit(
            "processor of the MySQL primary",
            plan.mysql_cores,
            facts.MYSQL_CORES.value * allowance.usable,
            "a larger server, or another deployment",
            is_hard=True,
        ),
        Limit(
            "servers of one Redis Cluster",
            nodes,
            facts.CLUSTER_NODES.value,
            "larger servers, a shorter SLUICE_LIFETIMES__FORGET_AFTER_SECONDS, or another "
            "deployment",
            is_hard=True,
        ),
    ]
    return sorted((limit for limit in found if limit.needed > 0), key=lambda limit: -limit.ratio)
