"""Groups of Prometheus instruments, and the registry of a process that holds each group once.

Histogram buckets are shared by all latencies, so that dashboards can compare them."""

from __future__ import annotations

from typing import Final, TypeVar

from prometheus_client import CollectorRegistry

# The objective of acknowledgements needs the bound 0.25 (docs/slo.md), that of completions 60.
FAST_SECONDS: Final = (
    *(0.0005, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.04, 0.08),
    *(0.16, 0.25, 0.32, 0.64, 1.25, 2.5, 5, 10),
)
SLOW_SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

Group = TypeVar("Group", bound="Instruments")


class Registry(CollectorRegistry):
    """The instruments of one process."""

    def __init__(self) -> None:
        super().__init__(auto_describe=True)
        self._groups: dict[type[Instruments], Instruments] = {}

    def group(self, kind: type[Group]) -> Group:
        """Return the group of this kind, and declare its instruments at the first request.

        Services that run in one process share the group, because a registry refuses a second
        instrument of the same name.
        """
        found = self._groups.get(kind)
        if found is None:
            found = self._groups[kind] = kind(self)
        assert isinstance(found, kind)
        return found


class Instruments:
    """Base class of all groups. A group without a registry gets one of its own."""

    def __init__(self, registry: Registry | None = None) -> None:
        self.registry: Final = registry if registry is not None else Registry()
