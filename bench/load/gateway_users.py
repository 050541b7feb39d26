"""Load: users of loadtest/k6-upload-test.js; each creates a job a second and looks at it.

python -m bench.load.gateway_users --gateway URL --users 100 --seconds 60
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
import uvloop

from bench.latency import Latencies
from bench.load.gateway_client import Answer, Gateway, gateway, job_of
from bench.load.lifecycle import await_start, report

FILES: Final = 10
_THINK_SECONDS: Final = 1.0
_REGISTERED_AT_ONCE: Final = 4
_SEED: Final = 13


@dataclass(slots=True)
class Tally:
    """What k6 counts: durations of requests, failed requests, and checks by name."""

    durations: Latencies = field(default_factory=Latencies)
    requests: int = 0
    failed: Counter[str] = field(default_factory=Counter)
    passed_checks: int = 0
    missed_checks: Counter[str] = field(default_factory=Counter)

    async def request(self, user: Gateway, method: str, path: str, body: Any = None) -> Answer:
        """Send a request and count it; a failed connection is an answer with the status 0."""
        began = time.perf_counter()
        try:
            answer = await user.call(method, path, body)
        except (aiohttp.ClientError, TimeoutError) as error:
            answer = Answer(0, "", None)
            self.failed[type(error).__name__] += 1
        else:
            if answer.status >= 400:
                self.failed[str(answer.status)] += 1
        self.durations.record(time.perf_counter() - began)
        self.requests += 1
        return answer

    def check(self, **checks: bool) -> bool:
        for name, passed in checks.items():
            if passed:
                self.passed_checks += 1
            else:
                self.missed_checks[name] += 1
        return all(checks.values())

    @property
    def check_percent(self) -> float:
        """Share of the checks that passed."""
        checks = self.passed_checks + self.missed_checks.total()
        return 100 * self.passed_checks / checks

    @property
    def error_percent(self) -> float:
        """Share of the requests that failed."""
        return 100 * self.failed.total() / self.requests


async def iterate(user: Gateway, tally: Tally, sizes: Sequence[int]) -> None:
    """Create a job and look at it, as an iteration of the script does."""
    created = await tally.request(user, "POST", "/commands/upload-jobs", job_of(sizes))
    body = created.json if created.status == 201 else {}
    signed = [item.get("presignedUrl") or item.get("multipart") for item in body.get("items", ())]
    if tally.check(
        job_is_created=created.status == 201,
        job_has_an_id=bool(body.get("jobId")),
        every_photo_can_be_sent=len(signed) == len(sizes) and all(signed),
    ):
        shown = await tally.request(user, "GET", f"/queries/upload-jobs/{body['jobId']}")
        state = shown.json["status"] if shown.status == 200 else None
        tally.check(job_is_shown=shown.status == 200, job_is_queued=state == "QUEUED")


async def _user(user: Gateway, tally: Tally, delay: float, until: float, seed: int) -> None:
    drawn = random.Random(seed)
    await asyncio.sleep(delay)
    while time.perf_counter() < until:
        await iterate(user, tally, [drawn.randint(1_000_000, 6_000_000) for _ in range(FILES)])
        await asyncio.sleep(_THINK_SECONDS)


async def run(options: argparse.Namespace) -> None:
    """Print what k6 would. The users begin spread over the first second, and all are there then."""
    async with gateway(options.gateway) as anybody:
        room = asyncio.Semaphore(_REGISTERED_AT_ONCE)

        async def registered() -> Gateway:
            async with room:
                return await anybody.registered()

        users = await asyncio.gather(*(registered() for _ in range(options.users)))
        tally = Tally()
        await await_start()
        cpu, begun = time.process_time(), time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for number, user in enumerate(users):
                delay = number / len(users)
                until = begun + options.seconds
                group.create_task(_user(user, tally, delay, until, _SEED + number))
        figures = {
            "users": len(users),
            "requests": tally.requests,
            "durations": tally.durations.to_json(),
            "error_percent": tally.error_percent,
            "check_percent": tally.check_percent,
            "failed": tally.failed,
            "missed_checks": tally.missed_checks,
            "seconds": time.perf_counter() - begun,
            "cpu_seconds": time.process_time() - cpu,
        }
        await report(figures, linger=True)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gateway", required=True, help="URL of the API")
    parser.add_argument("--users", type=int, default=100)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--in-step", action="store_true", help="always; for bench.processes")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    uvloop.run(run(parse()))
