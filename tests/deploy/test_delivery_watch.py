"""Watch of a release: it ends at an alert, at blindness, and when its time is over."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import yaml

from support.clone import ROOT
from tools.delivery.__main__ import main
from tools.delivery.burn_rate import (
    ALERTS,
    BLIND_POLLS,
    POLL_SECONDS,
    BlindError,
    Prometheus,
    watch,
)
from tools.delivery.errors import DeliveryError

QUIET = {"name": "SluiceAcknowledgementBudgetFastBurn", "state": "inactive", "health": "ok"}
PENDING = {"name": "SluicePhotosBudgetFastBurn", "state": "pending", "health": "ok"}
FIRING = {"name": "SluiceAcknowledgementBudgetFastBurn", "state": "firing", "health": "ok"}
OTHER = {"name": "SluiceDeadLetters", "state": "firing", "health": "ok"}
SLOW = {"name": "SluiceAcknowledgementBudgetSlowBurn", "state": "firing", "health": "ok"}


class Rules:
    """A server that answers as Prometheus lists its alerts, one list a poll; the last one stays."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.polls: list[list[dict[str, Any]] | int] = []
        """Alerts, or the status of a failure."""
        self.requests: list[tuple[str, str | None]] = []

    def next_answer(self) -> tuple[int, bytes]:
        polled = self.polls[0]
        if len(self.polls) > 1:
            self.polls.pop(0)
        if isinstance(polled, int):
            return polled, b"not now"
        answer = {"status": "success", "data": {"groups": [{"name": "slo", "rules": polled}]}}
        return 200, json.dumps(answer).encode()


@pytest.fixture
def rules() -> Iterator[Rules]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.requests.append((self.path, self.headers.get("Authorization")))
            status, body = served.next_answer()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        served = Rules(server.server_port)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield served
        server.shutdown()
        thread.join()


class Clock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def watched(rules: Rules, seconds: float, **settings: Any) -> tuple[int, float]:
    clock = Clock()
    polls = watch(Prometheus(rules.url, **settings), seconds, clock=clock, sleep=clock.sleep)
    return polls, clock.now


def test_quiet_release_is_watched_to_the_end(rules: Rules) -> None:
    """Slow burns, alerts of other kinds and pending ones do not end it.

    They have runbooks, not rollbacks.
    """
    rules.polls = [[QUIET, PENDING, OTHER, SLOW]]
    assert watched(rules, 100) == (8, 100)
    assert rules.requests == [("/api/v1/rules?type=alert", None)] * 8


def test_burning_budget_ends_the_watch_at_once(rules: Rules) -> None:
    rules.polls = [[QUIET], [QUIET], [QUIET, FIRING]]
    with pytest.raises(DeliveryError, match=r"budget burns: SluiceAcknowledgementBudgetFastBurn$"):
        watched(rules, 3600)
    assert len(rules.requests) == 3


def test_alert_in_the_last_moment_counts(rules: Rules) -> None:
    rules.polls = [[QUIET], [QUIET], [FIRING]]
    with pytest.raises(DeliveryError, match="burns"):
        watched(rules, 2 * POLL_SECONDS)


def test_short_blindness_is_survived(rules: Rules) -> None:
    rules.polls = [*[503] * (BLIND_POLLS - 1), [QUIET], *[503] * (BLIND_POLLS - 1), [QUIET]]
    polls, _ = watched(rules, POLL_SECONDS * 20)
    assert polls == 21


def test_long_blindness_ends_the_watch(rules: Rules) -> None:
    rules.polls = [503]
    with pytest.raises(BlindError, match="did not list its alerts"):
        watched(rules, 3600)
    assert len(rules.requests) == BLIND_POLLS


def test_blindness_at_the_end_is_no_success(rules: Rules) -> None:
    rules.polls = [[QUIET], 503]
    with pytest.raises(BlindError):
        watched(rules, POLL_SECONDS)


@pytest.mark.parametrize(
    ("listed", "reason"),
    [
        ([], "no alert that matches"),
        ([OTHER], "no alert that matches"),
        ([QUIET, {**PENDING, "health": "err"}], "cannot evaluate SluicePhotosBudgetFastBurn"),
    ],
    ids=["none", "other", "broken"],
)
def test_rules_that_cannot_fire_are_blindness(
    rules: Rules, listed: list[dict[str, Any]], reason: str
) -> None:
    rules.polls = [listed]
    with pytest.raises(BlindError, match=reason):
        Prometheus(rules.url).firing()


def test_default_is_every_fast_burn_of_the_rules() -> None:
    """A renamed alert would be watched by nobody."""
    text = (ROOT / "deploy/prometheus/rules/objectives.yaml").read_text(encoding="utf-8")
    alerts = [
        rule["alert"]
        for group in yaml.safe_load(text)["groups"]
        for rule in group["rules"]
        if "alert" in rule
    ]
    matched = {name for name in alerts if re.search(ALERTS, name)}
    assert len(matched) >= 4
    assert matched == {name for name in alerts if name.endswith("FastBurn")}
    assert matched < set(alerts)


@pytest.mark.parametrize("url", ["", "prometheus:9090", "file:///etc/passwd"])
def test_address_must_be_http(url: str) -> None:
    with pytest.raises(BlindError, match="PROMETHEUS_URL"):
        Prometheus(url).firing()


def test_preflight_refuses_an_incident(
    rules: Rules, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PROMETHEUS_URL", f"{rules.url}/")
    monkeypatch.setenv("PROMETHEUS_TOKEN", "a-token")
    rules.polls = [[QUIET, SLOW], [FIRING]]
    assert main(["preflight"]) == 0
    assert main(["preflight"]) == 1
    assert "burns already: SluiceAcknowledgementBudgetFastBurn" in capsys.readouterr().err
    assert rules.requests == [("/api/v1/rules?type=alert", "Bearer a-token")] * 2


def test_release_that_mends_an_incident_names_other_alerts(
    rules: Rules, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PROMETHEUS_URL", rules.url)
    rules.polls = [[FIRING, PENDING]]
    assert main(["preflight"]) == 1
    assert main(["preflight", "--alerts", "PhotosBudgetFastBurn"]) == 0
