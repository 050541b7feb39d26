"""Settings of the rates, and the limiter that they open."""

from __future__ import annotations

import pytest

from sluice_backends.instruments import Registry
from sluice_common.rates.opening import open_rate_limiter
from sluice_common.settings import load_settings
from sluice_common.settings.rates import Rates
from sluice_core.access.principal import LOCAL_PRINCIPAL
from sluice_core.configuration import ConfigurationError
from sluice_core.errors import ResourceExhausted
from sluice_core.rates.model import RateKind, RateScope


async def test_no_limit_opens_no_limiter() -> None:
    async with open_rate_limiter(load_settings(), Registry()) as limiter:
        assert limiter is None


async def test_limits_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLUICE_RATES__SUBJECT_CALLS_PER_SECOND", "2")
    monkeypatch.setenv("SLUICE_RATES__BURST_SECONDS", "1.5")
    async with open_rate_limiter(load_settings(), Registry()) as limiter:
        assert limiter is not None
        for _ in range(3):
            await limiter.admit_call(LOCAL_PRINCIPAL, RateKind.CALLS)
        with pytest.raises(ResourceExhausted):
            await limiter.admit_call(LOCAL_PRINCIPAL, RateKind.CALLS)


def test_burst_is_a_time_of_the_rate_and_at_least_one() -> None:
    rates = Rates(
        tenant_uploads_per_minute=3, tenant_bytes_per_second=1000, burst_seconds=10.0
    ).to_rates()
    assert rates[RateScope.TENANT, RateKind.UPLOADS].burst == 1
    assert rates[RateScope.TENANT, RateKind.BYTES].burst == 10_000
    assert len(rates) == 2


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TENANT_CALLS_PER_SECOND", "-1"),
        ("TENANT_CALLS_PER_SECOND", "1.5"),
        ("SUBJECT_BYTES_PER_SECOND", "1000000000001"),
        ("BURST_SECONDS", "0"),
        ("BURST_SECONDS", "inf"),
        ("ALLOWANCE_SECONDS", "11"),
        ("TENANT_CALLS_PER_MINUTE", "1"),
    ],
)
def test_bad_limit_ends_the_start(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"SLUICE_RATES__{name}", value)
    with pytest.raises(ConfigurationError, match=f"SLUICE_RATES__{name}"):
        load_settings()
