"""The parts of the gate GATEWAY, and the runner of the load test."""

from __future__ import annotations

import asyncio
import io
import stat
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from aiohttp import web
from PIL import Image
from PIL.ExifTags import IFD, Base

from bench import loadtest
from bench.load.chunk_sender import LoadFailedError
from bench.load.gateway_client import gateway
from bench.load.gateway_live import WAYS, Sightings
from bench.load.gateway_photos import ended, faults
from bench.load.gateway_users import Tally, iterate
from bench.load.photos import distinct, photo
from bench.processes import free_port, servers
from bench.scenario import Effort
from bench.scenarios.gateway import Photos, Size
from bench.usage import Usage
from support.server import standalone

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    """Answer every request with the handler; yield the address."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        yield f"{host}:{port}"
    finally:
        await runner.cleanup()


async def test_users_count_refusals_as_failed() -> None:
    """Also an answer that is no JSON object of a job: it counts once, and ends no user."""

    async def refuse(_: web.Request) -> web.Response:
        return web.json_response({"reason": "RATE_LIMITED"}, status=429)

    tally = Tally()
    async with serving(refuse) as address, gateway(f"http://{address}") as user:
        await iterate(user, tally, [1, 2])
    assert (tally.requests, tally.error_percent, tally.check_percent) == (1, 100.0, 0.0)
    assert tally.failed == Counter({"429": 1})


async def test_users_count_lost_connections_as_failed() -> None:
    tally = Tally()
    async with gateway(f"http://127.0.0.1:{free_port()}") as user:
        await iterate(user, tally, [1, 2])
    assert (tally.requests, tally.error_percent) == (1, 100.0)
    assert tally.missed_checks["job_is_created"] == 1


async def test_users_check_the_job_that_they_created() -> None:
    async def answer(request: web.Request) -> web.Response:
        if request.method == "GET":
            return web.json_response({"status": "FAILED"})
        items = [
            {"presignedUrl": "http://store/1", "multipart": None},
            {"presignedUrl": None, "multipart": {"uploadId": "u"}},
        ]
        return web.json_response({"jobId": "j", "items": items}, status=201)

    tally = Tally()
    async with serving(answer) as address, gateway(f"http://{address}") as user:
        await iterate(user, tally, [1, 2])
    assert (tally.requests, tally.error_percent) == (2, 0.0)
    assert tally.missed_checks == Counter({"job_is_queued": 1})


async def test_repeated_put_of_a_stored_photo_is_fine() -> None:
    """A store refuses to replace it (412); any other refusal fails the load."""
    statuses = [200, 412, 403]

    async def answer(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(status=statuses.pop(0))

    async with serving(answer) as address, gateway(f"http://{address}") as user:
        signed = {"presignedUrl": f"http://{address}/", "headers": {}}
        await user.put(signed, b"photo")
        await user.put(signed, b"photo")
        with pytest.raises(LoadFailedError):
            await user.put(signed, b"photo")


async def test_balancer_sends_connections_in_turns() -> None:
    def named(name: str) -> Handler:
        async def answer(_: web.Request) -> web.Response:
            return web.json_response({"name": name})

        return answer

    listen = f"127.0.0.1:{free_port()}"
    async with serving(named("a")) as a, serving(named("b")) as b:
        command = ["-m", "bench.balancer", a, b, "--listen", listen]
        balancer = servers([command])
        (running,) = await asyncio.to_thread(balancer.__enter__)
        try:
            assert running.address == listen
            async with gateway(f"http://{listen}", reuse=False) as client:
                found = [(await client.call("GET", "/")).json["name"] for _ in range(4)]
        finally:
            await asyncio.to_thread(balancer.__exit__, None, None, None)
    assert found == ["a", "b", "a", "b"]


async def test_photos_in_parts_and_in_one_put_are_completed(tmp_path: Path) -> None:
    """On `sluice serve`: a photo above 5 MiB is sent in parts."""
    picture = photo(64, 48, 1)
    contents = [distinct(picture, 0), distinct(picture, 1, 6_000_000)]
    with standalone(tmp_path / "data") as server:
        base = f"http://{server.gateway_address}"
        async with gateway(base) as anybody:
            user = await anybody.registered()
            job = await user.create_job([len(content) for content in contents])
            assert [item["multipart"] is None for item in job["items"]] == [True, False]
            for item, content in zip(job["items"], contents, strict=True):
                await user.send(item, content)
            assert await ended(user, job["jobId"]) == "COMPLETED"
        assert await faults(base, user.token, job["jobId"]) == Counter()


async def test_later_state_implies_the_earlier_ones() -> None:
    seen = Sightings("p")
    seen.see("sse", {"photoId": "other", "status": "COMPLETED"})
    seen.see("sse", {"photoId": None, "status": "COMPLETED"})
    seen.see("sse", {"photoId": "p", "status": "UPLOADING"})
    assert seen.at == {}
    seen.see("sse", {"photoId": "p", "status": "COMPLETED"})
    first = dict(seen.at)
    assert set(first) == {("sse", "PROCESSING"), ("sse", "COMPLETED")}
    seen.see("sse", {"photoId": "p", "status": "PROCESSING"})
    assert seen.at == first
    for way in WAYS:
        seen.see(way, {"photoId": "p", "status": "COMPLETED"})
    await seen.complete()


def test_distinct_photos_are_the_same_picture() -> None:
    original = photo(64, 48, 1)
    copies = [distinct(original, number) for number in range(2)]
    assert len({original, *copies}) == 3
    pictures = [Image.open(io.BytesIO(each)) for each in (original, *copies)]
    assert len({picture.tobytes() for picture in pictures}) == 1
    for picture in pictures:
        taken = picture.getexif().get_ifd(IFD.Exif)[Base.DateTimeOriginal]
        assert taken == "2024:05:06 07:08:09"


def test_cpu_of_the_gateway_is_that_of_all_replicas() -> None:
    def usage(cpu_seconds: float) -> Usage:
        return Usage(cpu_seconds, 0, 0, 0, None, None)

    used = {"gateway 1": usage(1.0), "gateway 2": usage(2.0), "database": usage(4.0)}
    photos = Photos({"seconds": 10.0}, used, Counter())
    assert photos.gateway_percent == pytest.approx(30.0)
    assert photos.percent("database") == pytest.approx(40.0)


def test_full_size_is_that_of_the_acceptance_criteria() -> None:
    size = Size.of(Effort.full())
    assert (size.photos, size.users) == (100, 100)


def test_load_test_without_k6_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert loadtest.main(["--k6", "no-such-program"]) == 2
    assert "install k6" in capsys.readouterr().err


@pytest.mark.parametrize("code", [0, 99])
def test_load_test_fails_when_a_threshold_does(
    code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """99 is what k6 exits with then."""

    @contextmanager
    def no_gateways(replicas: int) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(first_url=f"http://gateway/{replicas}")

    monkeypatch.setattr(loadtest, "gateways", no_gateways)
    program, said = tmp_path / "k6", tmp_path / "said"
    program.write_text(f'#!/bin/sh\necho "$BASE_URL $USERS $SCALE $*" > {said}\nexit {code}\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    assert loadtest.main(["--k6", str(program), "--users", "7", "--scale", "0.5"]) == code
    assert said.read_text() == f"http://gateway/1 7 0.5 run {loadtest.SCRIPT}\n"
