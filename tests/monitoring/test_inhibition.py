"""What the example of an Alertmanager holds back, by a real Alertmanager."""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from support.clone import ROOT
from support.prometheus import alertmanager
from support.waiting import until
from tools.monitoring.files import PROMETHEUS

pytestmark = pytest.mark.slow

ROUTES: Final = ROOT / PROMETHEUS / "alertmanager.yaml"
SECONDS: Final = 30.0
Labels = Mapping[str, str]
SWEEPER: Final = {"alertname": "SluiceRoleMissing", "role": "sweeper", "namespace": "sluice"}
BEHIND: Final = {"alertname": "SluiceSweeperBehind", "kind": "cleaned", "namespace": "sluice"}
FAST: Final = {"alertname": "F", "burn": "fast", "objective": "photos", "namespace": "sluice"}
SLOW: Final = {**FAST, "alertname": "S", "burn": "slow"}
DOWN: Final = {"alertname": "SluiceTargetDown", "job": "intake", "namespace": "sluice"}


async def held_back(folder: Path, sent: list[Labels], expected: list[Labels]) -> None:
    """Send alerts, and wait until those expected are suppressed, and all others are not."""
    with alertmanager(folder, ROUTES) as (address, _):
        url = f"http://{address}/api/v2/alerts"

        def ask(body: bytes | None = None) -> bytes:
            request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
            with urllib.request.urlopen(request, timeout=SECONDS) as answer:
                found: bytes = answer.read()
                return found

        body = json.dumps([{"labels": labels} for labels in sent]).encode()
        await asyncio.to_thread(ask, body)

        async def is_judged() -> bool:
            found: list[dict[str, Any]] = json.loads(await asyncio.to_thread(ask))
            states = [(alert["labels"], alert["status"]["state"]) for alert in found]
            return len(states) == len(sent) and all(
                state == ("suppressed" if labels in expected else "active")
                for labels, state in states
            )

        await until(is_judged, SECONDS, "every alert is suppressed or active")


async def test_missing_sweeper_holds_its_backlog_back(
    program: Callable[[str], str], tmp_path: Path
) -> None:
    program("alertmanager")
    others = [{**BEHIND, "namespace": "another"}, {**SWEEPER, "role": "relay"}]
    await held_back(tmp_path, [SWEEPER, BEHIND, *others], [BEHIND])


async def test_fast_burn_holds_the_slow_one_back(
    program: Callable[[str], str], tmp_path: Path
) -> None:
    program("alertmanager")
    others = [{**SLOW, "objective": "gateway"}, {**SLOW, "namespace": "another"}]
    await held_back(tmp_path, [FAST, SLOW, *others], [SLOW])


async def test_process_that_is_down_hides_no_backlog(
    program: Callable[[str], str], tmp_path: Path
) -> None:
    """An intake, or one repository of several, explains none. A pair shows that rules apply."""
    program("alertmanager")
    names = ("SluiceQueueOld", "SluiceEventsOld", "SluiceSweeperBehind", "SluiceBudgetFull")
    backlogs = [{"alertname": name, "namespace": "sluice"} for name in names]
    down = [DOWN, {**DOWN, "job": "repository"}]
    await held_back(tmp_path, [*down, *backlogs, FAST, SLOW], [SLOW])
