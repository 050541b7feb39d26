"""Watch of the error budget: the burn-rate alerts of Prometheus, during and after a release."""

from __future__ import annotations

import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from tools.delivery.errors import DeliveryError

ALERTS: Final = "BudgetFastBurn"
"""Matches the names of the alerts that end a release.

Slow burns look back for days: they would stop the release that mends what has burned.
"""
POLL_SECONDS: Final = 15.0
BLIND_POLLS: Final = 8
"""Failed polls in a row after which nothing is known of the release."""
_ANSWER_SECONDS: Final = 10.0


class BlindError(DeliveryError):
    """Prometheus did not say whether the budget burns."""


@dataclass(frozen=True, slots=True)
class Prometheus:
    """The rules of one server."""

    url: str
    token: str | None = None
    alerts: str = ALERTS

    def firing(self) -> Sequence[str]:
        """Return the names of the burn-rate alerts that fire.

        Raise `BlindError` when it does not answer, has no such alert, or cannot evaluate one.
        """
        rules = [rule for rule in self._rules() if re.search(self.alerts, rule["name"])]
        if not rules:
            raise BlindError(
                f"{self.url} has no alert that matches {self.alerts!r}: load the rules"
            )
        broken = [rule["name"] for rule in rules if rule.get("health") == "err"]
        if broken:
            raise BlindError(f"{self.url} cannot evaluate {', '.join(sorted(set(broken)))}")
        return sorted({rule["name"] for rule in rules if rule["state"] == "firing"})

    def _rules(self) -> list[dict[str, Any]]:
        if urllib.parse.urlsplit(self.url).scheme not in ("http", "https"):
            raise BlindError(f"{self.url!r} is no address of Prometheus: set PROMETHEUS_URL")
        request = urllib.request.Request(f"{self.url.rstrip('/')}/api/v1/rules?type=alert")
        if self.token:
            request.add_header("Authorization", f"Bearer {self.token}")
        try:
            with urllib.request.urlopen(request, timeout=_ANSWER_SECONDS) as answer:
                groups = json.load(answer)["data"]["groups"]
                return [rule for group in groups for rule in group["rules"]]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BlindError(f"{self.url} did not list its alerts: {error!r}") from error


def watch(
    prometheus: Prometheus,
    seconds: float,
    *,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Return the number of polls when no burn-rate alert has fired for `seconds`.

    Raise `DeliveryError` as soon as one fires, and `BlindError` when too many polls in a row, or
    the last one, said nothing: a release that nobody could see is not a good one.
    """
    end = clock() + seconds
    polls = blind = 0
    while True:
        is_last = clock() >= end
        polls += 1
        try:
            firing = prometheus.firing()
        except BlindError:
            blind += 1
            if is_last or blind >= BLIND_POLLS:
                raise
        else:
            blind = 0
            if firing:
                raise DeliveryError(f"the error budget burns: {', '.join(firing)}")
        if is_last:
            return polls
        sleep(min(POLL_SECONDS, max(0.0, end - clock())))
