"""Every query of dashboards and alerts returns data of a Sluice under load."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, AsyncExitStack
from pathlib import Path
from typing import Final

import pytest

from support.certificates import DAY, Authority, write_tls
from support.clone import ROOT
from support.fleet import running
from support.gateway_stages import QUICK, EmbeddedStage, gateway_stage, services_stage
from support.monitored import Load, repeat
from support.processes import ServiceProcess
from support.prometheus import Prometheus, prometheus
from support.redis_server import RedisServer
from support.waiting import until
from tools.monitoring import rules
from tools.monitoring.dashboards import DASHBOARDS
from tools.monitoring.dashboards.panels import RATE, Needs
from tools.monitoring.files import PROMETHEUS
from tools.monitoring.model import Recording

pytestmark = pytest.mark.slow

SECONDS: Final = 200.0
RULES: Final = sorted((ROOT / PROMETHEUS / "rules").glob("*.yaml"))
NEEDS: Final = {
    "sluice_redis_": Needs.REDIS,
    "sluice_tls_": Needs.TLS,
    "sluice_auth_keys_": Needs.KEYS,
    "sluice_data_disk_": Needs.STANDALONE,
    'backlog=~"kafka': Needs.KAFKA,
}
PHASE_1: Final = {
    "SLUICE_COORDINATION": "memory",
    "SLUICE_CHUNK_TRANSPORT": "local",
    "SLUICE_OBJECTS": "discard",
    "SLUICE_EVENTS": "off",
    "SLUICE_CATALOGUE": "off",
}


def queries() -> Iterator[tuple[str, Needs]]:
    """Yield every expression, and what has to run for it to have data."""
    for board in DASHBOARDS:
        for panel in board.panels:
            for query in panel.queries:
                yield query.expression.replace(RATE, "5m"), panel.needs
    for alert in rules.all_alerts():
        if alert.value:
            yield alert.value, needs_of(alert.value)
    for group in rules.all_groups():
        for rule in group.rules:
            if isinstance(rule, Recording):
                yield rule.name, Needs.NOTHING


def needs_of(expression: str) -> Needs:
    return next((needs for name, needs in NEEDS.items() if name in expression), Needs.NOTHING)


async def test_queries_return_data_of_embedded_sluice(
    program: Callable[[str], str], tmp_path: Path
) -> None:
    program("prometheus")
    paths = write_tls(tmp_path / "tls", (authority := Authority()), authority.issue(ends=60 * DAY))
    tls = {"SLUICE_TLS__CERT_FILE": str(paths.cert), "SLUICE_TLS__KEY_FILE": str(paths.key)}
    async with AsyncExitStack() as stack:
        stage = await stack.enter_async_context(gateway_stage("embedded", tmp_path))
        assert isinstance(stage, EmbeddedStage)
        issuer = {"SLUICE_AUTH__MODE": "jwt", "SLUICE_AUTH__ISSUER": stage.gateways[0]}
        keys = {**issuer, "SLUICE_AUTH__AUDIENCE": "sluice"}
        other = ServiceProcess("sluice_intake", tmp_path, {**PHASE_1, **tls, **keys})
        await stack.enter_async_context(running(other))
        server = stage.server
        targets = {"sluice": [server.metrics_address], "sluice-tls": [other.metrics_address]}
        load = Load(stage.gateways[0], server.address, server.repository_address)
        await judge(
            load,
            functools.partial(
                prometheus, tmp_path / "prometheus", targets, RULES, with_tls=["sluice-tls"]
            ),
            {Needs.NOTHING, Needs.STANDALONE, Needs.TLS, Needs.KEYS},
        )


@pytest.mark.slow_fault
@pytest.mark.timeout(600)  # seven processes start first
async def test_queries_return_data_of_services(
    program: Callable[[str], str], tmp_path: Path
) -> None:
    program("prometheus")
    async with AsyncExitStack() as stack:
        redis = stack.enter_context(RedisServer("--maxmemory", "1gb"))
        stage = await stack.enter_async_context(services_stage(tmp_path, redis))
        settings = {**stage.settings, **QUICK}
        roles = ServiceProcess(
            "sluice_repository", tmp_path, settings, "--roles", "parts,completer"
        )
        repository = stage.repository
        address = {"SLUICE_REPOSITORY_SERVER": repository.address}
        intake = ServiceProcess("sluice_intake", tmp_path, {**settings, **address})
        await stack.enter_async_context(running(roles, intake))
        targets = {
            "sluice-intake": [intake.metrics_address],
            "sluice-repository": [repository.metrics_address, roles.metrics_address],
            "sluice-processor": [stage.processor.metrics_address],
            "sluice-gateway": [each.metrics_address for each in stage.gateway_processes],
        }
        load = Load(stage.gateways[0], intake.address, repository.address)
        await judge(
            load,
            functools.partial(prometheus, tmp_path / "prometheus", targets, RULES),
            {Needs.NOTHING, Needs.REDIS, Needs.S3, Needs.KAFKA},
        )


async def judge(
    load: Load, start: Callable[[], AbstractContextManager[Prometheus]], there: set[Needs]
) -> None:
    """Load the deployment while Prometheus scrapes it, until every query has answered."""
    await load.begin()
    with start() as server:
        stop = asyncio.Event()
        async with asyncio.TaskGroup() as group:
            group.create_task(repeat(load, stop))
            try:
                await answered(server, there)
            finally:
                stop.set()
        assert server.failed_rules() == []
        assert server.firing() == set()


async def answered(server: Prometheus, there: set[Needs]) -> None:
    waiting = {expression for expression, needs in queries() if needs in there}

    async def all_have_data() -> bool:
        for expression in sorted(waiting):
            if await asyncio.to_thread(server.values, expression):
                waiting.discard(expression)
        return not waiting

    try:
        await until(all_have_data, SECONDS, "every query returns data")
    except AssertionError:
        raise AssertionError("no data:\n" + "\n".join(sorted(waiting))) from None
    # What has data after a fault alone still has to be a valid expression.
    for expression in {text for text, needs in queries() if needs not in there}:
        await asyncio.to_thread(server.query, expression)
