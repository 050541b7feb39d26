"""Free ports for servers: unique across the processes of a test run, and not ephemeral."""

from __future__ import annotations

import pytest

from bench.processes import free_port as bench_port
from support.redis_server import free_port as port_of_a_test
from support.redis_server import ports_of
from tools.backends.ports import HIGHEST, LOWEST

EPHEMERAL_FROM = 32_768
"""First port that Linux gives to outgoing connections (ip_local_port_range)."""


@pytest.mark.parametrize("workers", [1, 2, 3, 5])
def test_processes_of_a_test_run_have_distinct_ports(workers: int) -> None:
    shares = [set(ports_of(f"gw{number}", workers)) for number in range(workers)]
    assert sum(map(len, shares)) == len(set().union(*shares)) > 10_990


def test_process_that_replaces_another_has_its_ports() -> None:
    assert ports_of("gw3", 2) == ports_of("gw1", 2)


def test_no_chosen_port_is_ephemeral() -> None:
    assert max(bench_port(), port_of_a_test(), HIGHEST) < EPHEMERAL_FROM


def test_tools_and_tests_choose_different_ports() -> None:
    assert not set(range(LOWEST, HIGHEST)) & set(ports_of("gw0", 1))
