"""Guessing of passwords and of accounts: limits, costs and times."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sluice_backends.memory.rates import MemoryRateBuckets
from sluice_common.rates.metrics import RateMetrics
from sluice_core.errors import ResourceExhausted, Unavailable
from sluice_gateway.auth import passwords as module
from sluice_gateway.auth.guess_limits import GuessLimits, GuessRates
from sluice_gateway.auth.passwords import Passwords
from sluice_gateway.http.addresses import network_of
from sluice_gateway.metrics import AccountMetrics
from support.gateway import ANN, BOB, Gateway, running_gateway
from support.tokens import DrivenClock


def limits(clock: DrivenClock, **rates: int) -> GuessLimits:
    none = {"per_pair": 0, "per_account": 0, "per_address": 0}
    return GuessLimits(MemoryRateBuckets(clock), GuessRates(**{**none, **rates}), RateMetrics())


async def refusals(guesses: GuessLimits, pairs: list[tuple[str, str]]) -> list[bool]:
    """Return for each attempt whether it was refused."""
    found = [await _refusal(guesses, *pair) for pair in pairs]
    for refused in filter(None, found):
        assert refused.reason == "RATE_LIMITED"
        assert (refused.retry_after_seconds or 0) > 0
    return [refused is not None for refused in found]


async def _refusal(guesses: GuessLimits, email: str, address: str) -> ResourceExhausted | None:
    try:
        await guesses.admit(email, address)
    except ResourceExhausted as error:
        return error
    return None


async def test_one_guesser_is_stopped() -> None:
    guesses = limits(DrivenClock(), per_pair=3)
    pairs = [("ann", "10.0.0.1")] * 5 + [("ann", "10.0.0.2"), ("bob", "10.0.0.1")]
    assert await refusals(guesses, pairs) == [False] * 3 + [True] * 2 + [False] * 2


async def test_many_guessers_of_one_account_are_stopped() -> None:
    guesses = limits(DrivenClock(), per_account=3)
    pairs = [("ann", f"10.0.0.{number}") for number in range(5)] + [("bob", "10.0.0.1")]
    assert await refusals(guesses, pairs) == [False] * 3 + [True] * 2 + [False]


async def test_one_password_for_many_accounts_is_stopped() -> None:
    guesses = limits(DrivenClock(), per_address=3)
    pairs = [(f"user{number}", "10.0.0.1") for number in range(5)] + [("ann", "10.0.0.2")]
    assert await refusals(guesses, pairs) == [False] * 3 + [True] * 2 + [False]


async def test_guesses_are_allowed_again_later() -> None:
    clock = DrivenClock()
    guesses = limits(clock, per_pair=6)
    assert await refusals(guesses, [("ann", "10.0.0.1")] * 7) == [False] * 6 + [True]
    clock.now += 10.0
    assert await refusals(guesses, [("ann", "10.0.0.1")] * 2) == [False, True]


async def test_refused_guess_costs_the_account_nothing() -> None:
    """A stopped guesser must not keep the owner out."""
    guesses = limits(DrivenClock(), per_pair=2, per_account=4)
    await refusals(guesses, [("ann", "10.0.0.1")] * 50)
    assert await refusals(guesses, [("ann", "10.0.0.2")] * 2) == [False, False]


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::"),
        ("", "unknown"),
        ("a path/../x", "unknown"),
    ],
)
def test_address_counts_by_network(address: str, network: str) -> None:
    assert network_of(address) == network


@pytest.fixture
async def strict(tmp_path: Path) -> AsyncIterator[Gateway]:
    rates = GuessRates(per_pair=3, per_account=0, per_address=0)
    async with running_gateway(
        tmp_path, change=lambda options: replace(options, guess_rates=rates)
    ) as running:
        yield running


@pytest.mark.parametrize("path", ["/api/auth/login", "/api/auth/register"])
async def test_limit_is_the_same_for_unknown_accounts(strict: Gateway, path: str) -> None:
    """Whether an account exists must not show in when its guesses are refused."""
    await strict.register(BOB)
    guess = {**BOB, "password": "wrong password"}
    known = [(await strict.post(path, guess)).status for _ in range(4)]
    unknown = [
        (await strict.post(path, {**ANN, "password": f"wrong password {number}"})).status
        for number in range(5)
    ]
    assert known[-1] == unknown[-1] == 429
    assert len(set(known + unknown)) == 2
    # The registration counted as an attempt of the known account.
    assert known.count(429) == 2
    assert unknown.count(429) == 2


async def test_refused_guess_says_when_to_retry(strict: Gateway) -> None:
    for _ in range(3):
        await strict.post("/api/auth/login", ANN)
    reply = await strict.post("/api/auth/login", ANN)
    assert (reply.status, reply.reason) == (429, "RATE_LIMITED")
    assert 1 <= int(reply.headers["retry-after"]) <= 20


async def test_right_password_is_refused_above_the_limit(strict: Gateway) -> None:
    """Otherwise the limit would only stop guessers who never guess right."""
    await strict.register()
    for _ in range(3):
        await strict.post("/api/auth/login", {**ANN, "password": "wrong password"})
    assert (await strict.post("/api/auth/login", ANN)).status == 429


# -- costs


@pytest.fixture
def passwords() -> Iterator[Passwords]:
    opened = Passwords(AccountMetrics().password_seconds)
    yield opened
    opened.close()


async def test_password_verifies_against_its_hash_only(passwords: Passwords) -> None:
    stored = await passwords.hash(b"correct horse")
    assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert await passwords.verify(b"correct horse", stored)
    assert not await passwords.verify(b"correct horsE", stored)
    assert not await passwords.verify(b"", stored)
    assert stored != await passwords.hash(b"correct horse"), "each hash has its own salt"


async def test_unknown_account_costs_a_whole_check(
    passwords: Passwords, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted, not timed: the same function runs with the same parameters."""
    checked: list[str] = []
    verify = module._verify

    def counted(password: bytes, password_hash: str) -> bool:
        checked.append(password_hash.rpartition("$")[0].rpartition("$")[0])
        return verify(password, password_hash)

    monkeypatch.setattr(module, "_verify", counted)
    stored = await passwords.hash(b"correct horse")
    assert not await passwords.verify(b"correct horse", None)
    assert not await passwords.verify(b"wrong horse", stored)
    assert checked[0] == checked[1]


async def test_hashes_run_beside_the_event_loop(
    passwords: Passwords, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, most, lock = 0, 0, threading.Lock()
    hashed = module._hash

    def watched(password: bytes) -> str:
        nonlocal running, most
        assert threading.current_thread().name.startswith("passwords")
        with lock:
            running += 1
            most = max(most, running)
        try:
            return hashed(password)
        finally:
            with lock:
                running -= 1

    monkeypatch.setattr(module, "_hash", watched)
    await asyncio.gather(*(passwords.hash(b"correct horse") for _ in range(8)))
    assert most <= 2


async def test_too_many_waiting_checks_are_refused(
    passwords: Passwords, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    monkeypatch.setattr(module, "_hash", lambda _: "held" if release.wait(30) else "late")
    held = [asyncio.create_task(passwords.hash(b"p")) for _ in range(66)]
    await asyncio.sleep(0)
    with pytest.raises(Unavailable) as refused:
        await passwords.hash(b"p")
    assert refused.value.reason == "LOGIN_BUSY"
    release.set()
    assert set(await asyncio.gather(*held)) == {"held"}
    assert await passwords.hash(b"p") == "held", "room again"


async def test_registration_takes_a_whole_number_of_steps(tmp_path: Path) -> None:
    """A known email is not written, which must not show in the time."""
    step = 0.4
    async with running_gateway(tmp_path, even_seconds=step) as gateway:
        await gateway.register()
        accounts = gateway.deps.accounts
        assert accounts is not None
        for seconds in (0.0, 0.05, step + 0.05):
            began = time.monotonic()
            async with accounts.even_time():
                await asyncio.sleep(seconds)
            passed = (time.monotonic() - began) / step
            assert passed >= 1 or seconds == 0.0
            assert abs(passed - round(passed)) < 0.2


# -- addresses behind proxies


@pytest.mark.parametrize(
    ("trusted", "statuses"),
    [((), [401, 429, 429]), (("127.0.0.0/8",), [401, 401, 429])],
    ids=["stranger", "trusted-proxy"],
)
async def test_forwarded_address_counts_from_proxies_only(
    tmp_path: Path, trusted: tuple[str, ...], statuses: list[int]
) -> None:
    """Otherwise a guesser would name a new address with each guess."""
    rates = GuessRates(per_pair=0, per_account=0, per_address=1)
    async with running_gateway(
        tmp_path,
        change=lambda options: replace(options, guess_rates=rates, trusted_proxies=trusted),
    ) as gateway:
        found = [
            (await gateway.post("/api/auth/login", ANN, **{"x-forwarded-for": address})).status
            for address in ("192.0.2.1", "192.0.2.2", "192.0.2.1")
        ]
    assert found == statuses


async def test_address_that_a_client_forges_does_not_count(tmp_path: Path) -> None:
    """A proxy appends to what the client sends: the last address that is no proxy counts."""
    rates = GuessRates(per_pair=0, per_account=0, per_address=1)
    async with running_gateway(
        tmp_path,
        change=lambda options: replace(
            options, guess_rates=rates, trusted_proxies=("127.0.0.1/32", "10.0.0.0/8")
        ),
    ) as gateway:
        chains = ("203.0.113.1, 192.0.2.1, 10.0.0.1", "203.0.113.2, 192.0.2.1, 10.0.0.1")
        found = [
            (await gateway.post("/api/auth/login", ANN, **{"x-forwarded-for": chain})).status
            for chain in chains
        ]
    assert found == [401, 429]
