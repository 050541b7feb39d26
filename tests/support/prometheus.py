"""A real Prometheus and Alertmanager on free ports, for one test."""

from __future__ import annotations

import json
import math
import re
import subprocess
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, Final

import yaml

from support.redis_server import free_port
from support.starting import wait_for_start
from support.waiting import until
from tools.backends.monitoring import need_program

START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 20.0
ALERT_SECONDS: Final = 60.0
SCRAPE: Final = "1s"
SHORT_WAIT: Final = "1s"
"""`for` of alerts whose fault a test injects; promtool tests the real ones."""
WINDOW: Final = "20s"
SHORTENED: Final = {
    "SluiceRoleErrors": ("[15m]", f"[{WINDOW}]"),
    "SluiceJobsDeferred": ("[5m]", f"[{WINDOW}]"),
    "SluiceSweeperItemsFail": ("[5m]", f"[{WINDOW}]"),
    "SluiceQuotaDrift": ("[2h]", f"[{WINDOW}]"),
    "SluiceEventsOld": ("> 300", "> 20"),
    "SluiceSweeperBehind": ("> 1800", "> 20"),
}
"""Times in conditions that `prometheus(shorten=True)` replaces, by alert. The windows of recorded
rates become `WINDOW` too. All other bounds stay real; promtool tests the real times."""
_RANGE: Final = re.compile(r"\[\w+\]")


class Prometheus:
    """A running server; `query` and `alerts` ask its API."""

    def __init__(self, url: str, configure: Callable[[Mapping[str, Sequence[str]]], None]) -> None:
        self._url = url
        self._configure = configure

    def scrape_only(self, targets: Mapping[str, Sequence[str]]) -> None:
        """Replace the targets, as a service discovery does."""
        self._configure(targets)
        with urllib.request.urlopen(
            urllib.request.Request(f"{self._url}/-/reload", method="POST"), timeout=30
        ):
            pass

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the series of an instant query. Raise AssertionError with its error."""
        parameters = urllib.parse.urlencode({"query": expression})
        answer = _answer_of(f"{self._url}/api/v1/query?{parameters}")
        assert answer["status"] == "success", f"{answer.get('error')}: {expression}"
        data = answer["data"]
        if data["resultType"] == "scalar":
            return [{"metric": {}, "value": data["result"]}]
        result: list[dict[str, Any]] = data["result"]
        return result

    def values(self, expression: str) -> list[float]:
        """Return the numbers that a query answers, NaN left out."""
        found = (float(series["value"][1]) for series in self.query(expression))
        return [value for value in found if not math.isnan(value)]

    def firing(self) -> set[str]:
        """Return the names of the firing alerts."""
        alerts = _answer_of(f"{self._url}/api/v1/alerts")["data"]["alerts"]
        return {alert["labels"]["alertname"] for alert in alerts if alert["state"] == "firing"}

    def failed_rules(self) -> list[str]:
        """Return the rules whose last evaluation failed, with their errors."""
        groups = _answer_of(f"{self._url}/api/v1/rules")["data"]["groups"]
        return [
            f"{rule['name']}: {rule.get('lastError')}"
            for group in groups
            for rule in group["rules"]
            if rule["health"] == "err"
        ]


@contextmanager
def prometheus(
    folder: Path,
    targets: Mapping[str, Sequence[str]],
    rule_files: Sequence[Path] = (),
    alertmanager: str | None = None,
    with_tls: Sequence[str] = (),
    *,
    shorten: bool = False,
) -> Iterator[Prometheus]:
    """Run Prometheus inside the block, and wait until it has scraped every target.

    Args:
        targets: addresses by job.
        rule_files: evaluated every second, with `for` shortened.
        alertmanager: its address.
        with_tls: jobs whose targets answer by TLS.
        shorten: shorten times inside conditions too (`SHORTENED`).
    """
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    configuration = folder / "prometheus.yaml"
    rules = [_hurried(path, folder, shorten=shorten) for path in rule_files]

    def configure(targets: Mapping[str, Sequence[str]]) -> None:
        text = _configuration(targets, rules, alertmanager, with_tls)
        configuration.write_text(text, encoding="utf-8")

    configure(targets)
    url = f"http://127.0.0.1:{port}"
    command = [
        need_program("prometheus"),
        f"--config.file={configuration}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--web.enable-lifecycle",
        "--log.level=warn",
    ]
    server = Prometheus(url, configure)
    expected = sum(map(len, targets.values()))

    def has_scraped_all() -> bool:
        if not _is_ready(f"{url}/-/ready"):
            return False
        return sum(value == 1 for value in server.values("up")) == expected

    with _process(command, folder / "prometheus.log", has_scraped_all):
        yield server


async def fires(server: Prometheus, *alerts: str, seconds: float = ALERT_SECONDS) -> None:
    """Wait until each of these alerts has been seen firing, at the same time or not."""
    unseen = set(alerts)

    def all_seen() -> bool:
        unseen.difference_update(server.firing())
        return not unseen

    await until(all_seen, seconds, f"{', '.join(alerts)}: all fire")


async def ends(server: Prometheus, *alerts: str, seconds: float = ALERT_SECONDS) -> None:
    """Wait until none of these alerts fires, any more or at all."""
    await until(
        lambda: not server.firing().intersection(alerts), seconds, f"{', '.join(alerts)}: all end"
    )


class Webhook:
    """What an Alertmanager has sent: names of firing alerts by the path of the receiver."""

    def __init__(self) -> None:
        self.url = ""
        self.firing: dict[str, set[str]] = {}
        self.resolved: set[str] = set()


@contextmanager
def alertmanager(folder: Path, configuration: Path) -> Iterator[tuple[str, Webhook]]:
    """Run Alertmanager with a configuration whose webhooks lead to this process.

    Yield its address and what the webhooks receive. Its waits are shortened.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _webhook() as webhook:
        text = configuration.read_text(encoding="utf-8")
        text = text.replace("http://localhost:9095", webhook.url)
        text = re.sub(r"group_(wait|interval): \w+", r"group_\1: 1s", text)
        changed = folder / "alertmanager.yaml"
        changed.write_text(text, encoding="utf-8")
        port = free_port()
        command = [
            need_program("alertmanager"),
            f"--config.file={changed}",
            f"--storage.path={folder / 'alertmanager'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--cluster.listen-address=",
        ]
        ready = f"http://127.0.0.1:{port}/-/ready"
        with _process(command, folder / "alertmanager.log", lambda: _is_ready(ready)):
            yield f"127.0.0.1:{port}", webhook


def _configuration(
    targets: Mapping[str, Sequence[str]],
    rules: Sequence[Path],
    alertmanager: str | None,
    with_tls: Sequence[str],
) -> str:
    document: dict[str, Any] = {
        "global": {"scrape_interval": SCRAPE, "evaluation_interval": SCRAPE},
        "rule_files": [str(path) for path in rules],
        "scrape_configs": [
            {
                "job_name": job,
                "scheme": "https" if job in with_tls else "http",
                "tls_config": {"insecure_skip_verify": True},
                "static_configs": [{"targets": list(addresses)}],
            }
            for job, addresses in targets.items()
        ],
    }
    if alertmanager is not None:
        managers = [{"static_configs": [{"targets": [alertmanager]}]}]
        document["alerting"] = {"alertmanagers": managers}
    text: str = yaml.safe_dump(document)
    return text


def _hurried(path: Path, folder: Path, *, shorten: bool) -> Path:
    """Copy rules, with a short interval and a short `for`.

    The conditions stay as they are, unless `shorten`.
    """
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    for group in document["groups"]:
        group["interval"] = SCRAPE
        for rule in group["rules"]:
            if "for" in rule:
                rule["for"] = SHORT_WAIT
            if shorten and "record" in rule:
                rule["expr"] = _RANGE.sub(f"[{WINDOW}]", rule["expr"])
            if shorten and rule.get("alert") in SHORTENED:
                long, short = SHORTENED[rule["alert"]]
                assert rule["expr"].count(long) == 1, rule
                rule["expr"] = rule["expr"].replace(long, short)
    copy = folder / path.name
    copy.write_text(yaml.safe_dump(document), encoding="utf-8")
    return copy


@contextmanager
def _process(command: Sequence[str], log: Path, is_ready: Callable[[], bool]) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        wait_for_start(process, is_ready, log, START_SECONDS)
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_SECONDS)
            raise


@contextmanager
def _webhook() -> Iterator[Webhook]:
    webhook = Webhook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            for alert in body["alerts"]:
                name = alert["labels"]["alertname"]
                if alert["status"] == "firing":
                    webhook.firing.setdefault(self.path, set()).add(name)
                else:
                    webhook.resolved.add(name)
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
            """Keep the output of the tests clean."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    webhook.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield webhook
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _answer_of(url: str) -> Any:
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        return json.load(error)


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
