"""Free ports for test servers: unique across the processes of a test run."""

from __future__ import annotations

import pytest

from support.redis_server import ports_of


@pytest.mark.parametrize("workers", [1, 2, 3, 5])
def test_processes_of_a_test_run_have_distinct_ports(workers: int) -> None:
    shares = [set(ports_of(f"gw{number}", workers)) for number in range(workers)]
    assert sum(map(len, shares)) == len(set().union(*shares)) > 10_990


def test_process_that_replaces_another_has_its_ports() -> None:
    assert ports_of("gw3", 2) == ports_of("gw1", 2)
