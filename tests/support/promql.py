"""Names and labels in expressions of PromQL, to compare them with the declared instruments."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from prometheus_client.metrics import MetricWrapperBase

from sluice_backends.instruments import Instruments

TARGET_LABELS: Final = frozenset({"job", "instance", "namespace"})
"""Labels that Prometheus adds to every series of a target."""
_SUFFIXES: Final = {
    "counter": ("_total",),
    "gauge": ("",),
    "histogram": ("_bucket", "_sum", "_count"),
}
_TEXT: Final = re.compile(r'"[^"]*"')
_WINDOW: Final = re.compile(r"\[[^\]]*\]")
_GROUPED: Final = re.compile(r"\b(by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_SELECTOR: Final = re.compile(r"(?<![\w:.])([a-zA-Z_:][\w:]*)(\s*\{([^}]*)\})?(\s*\()?")
_OPERATORS: Final = frozenset({"and", "or", "unless", "bool", "offset"})


@dataclass(frozen=True, slots=True)
class Selector:
    """A series of an expression, and the labels that it is selected by."""

    name: str
    labels: frozenset[str]


def selectors(expression: str) -> Iterator[Selector]:
    """Yield the series that an expression reads."""
    text = _GROUPED.sub("", _WINDOW.sub("", _TEXT.sub('""', expression)))
    for name, _, matchers, is_call in _SELECTOR.findall(text):
        if not is_call and name not in _OPERATORS:
            yield Selector(name, frozenset(re.findall(r"(\w+)\s*(?:=|!)", matchers)))


def grouping_labels(expression: str) -> frozenset[str]:
    """Return the labels that the expression aggregates by."""
    found = _GROUPED.findall(_TEXT.sub('""', expression))
    return frozenset(label for _, labels in found for label in re.findall(r"\w+", labels))


def declared_series(*groups: Instruments) -> Mapping[str, frozenset[str]]:
    """Return the labels of each series that these groups declare."""
    return {
        f"{instrument._name}{suffix}": frozenset(
            {*instrument._labelnames, *({"le"} if suffix == "_bucket" else ())}
        )
        for group in groups
        for instrument in _instruments(group)
        for suffix in _SUFFIXES[str(instrument._type)]
    }


def problems(expression: str, declared: Mapping[str, frozenset[str]]) -> list[str]:
    """Return what an expression reads that no service exports."""
    found: list[str] = []
    known: set[str] = set(TARGET_LABELS)
    for selector in selectors(expression):
        labels = declared.get(selector.name)
        if labels is None:
            found.append(f"{selector.name} is not exported")
            continue
        known |= labels
        unknown = selector.labels - labels - TARGET_LABELS
        found += [f"{selector.name} has no label {label}" for label in sorted(unknown)]
    unknown = grouping_labels(expression) - known
    return found + [f"no series has the label {label}" for label in sorted(unknown)]


def _instruments(group: Instruments) -> Iterator[MetricWrapperBase]:
    # The client has no public list of the declared label names: a family without samples shows
    # none. The versions of the client are locked; the test of this module notices a change.
    yield from {
        collector
        for collector in group.registry._names_to_collectors.values()
        if isinstance(collector, MetricWrapperBase)
    }
