"""Tests of the SQS source on a real server: at least once, no loss, no blocking."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from unittest.mock import Mock

import pytest

from sluice_backends.sqs.options import SqsOptions
from sluice_backends.sqs.queue import open_queue
from sluice_core.errors import FailedPrecondition, PermissionDenied, Unavailable
from sluice_core.uploads.model import ObjectRef
from sluice_gateway.backlogs import measure_queue
from sluice_gateway.jobs.pressure import BackPressure, PressureLimits
from sluice_gateway.metrics import PressureMetrics
from sluice_processor.metrics import ProcessorMetrics
from sluice_processor.nodes.handler import Outcome, Work
from sluice_processor.options import ProcessorOptions
from sluice_processor.sources.sqs import SqsSource
from support.redis_server import free_port
from support.sqs_server import SqsServer, TestQueue, new_queue, sqs_client
from support.store_notifications import aws_message, bridge_message, trial_message
from support.waiting import until

OPTIONS = ProcessorOptions(
    concurrency=4, attempts=2, retry_base_seconds=0.01, handling_seconds=20.0, drain_seconds=1.0
)
SECONDS = 30.0


def ref(name: str) -> ObjectRef:
    return ObjectRef("sluice", f"acme/photos/{name}")


class Handler:
    """Stand-in for the node processor that records its calls."""

    def __init__(self) -> None:
        self.received: list[str] = []
        self.done: list[str] = []
        self.final: list[bool] = []
        self.errors: dict[str, Exception] = {}
        self.hold: Callable[[str], Awaitable[None]] | None = None
        self.active = 0
        self.max_active = 0

    async def process(self, work: Work) -> Outcome:
        self.received.append(work.node_id)
        self.final.append(work.is_final)
        self.active += 1
        self.max_active = max(self.max_active, self.active)
        try:
            if self.hold is not None:
                await self.hold(work.node_id)
            if work.node_id in self.errors:
                raise self.errors[work.node_id]
            self.done.append(work.node_id)
            return Outcome("processed")
        finally:
            self.active -= 1


@pytest.fixture
async def queue() -> AsyncIterator[TestQueue]:
    async with new_queue() as opened:
        yield opened


@asynccontextmanager
async def running_source(
    sqs: SqsOptions,
    handler: Handler,
    *,
    options: ProcessorOptions = OPTIONS,
    metrics: ProcessorMetrics | None = None,
) -> AsyncIterator[None]:
    """Run a source during the block and stop it as a service does."""
    stop = asyncio.Event()
    source = SqsSource(sqs, handler, options, metrics or ProcessorMetrics())  # type: ignore[arg-type]
    async with asyncio.timeout(SECONDS * 4), asyncio.TaskGroup() as group:
        group.create_task(source.run(stop))
        try:
            yield
        finally:
            stop.set()


async def wait_until_empty(queue: TestQueue) -> None:
    async def is_empty() -> bool:
        return await queue.counts() == (0, 0)

    await until(is_empty, SECONDS, "the queue is empty")


def value(metrics: ProcessorMetrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(name, {"source": "sqs", **labels}) or 0.0


async def test_messages_in_both_formats_are_handled_and_deleted(queue: TestQueue) -> None:
    handler, metrics = Handler(), ProcessorMetrics()
    await queue.send(
        trial_message(),
        aws_message(ref("n-1")),
        bridge_message(ref("n-2")),
        aws_message(ref("n-3"), ref("n-4"), ref("n-3"), ObjectRef("sluice", "readme.txt")),
        aws_message(ref("n-5"), name="ObjectRemoved:Delete"),
    )
    async with running_source(queue.options(), handler, metrics=metrics):
        await wait_until_empty(queue)
    assert sorted(handler.done) == ["n-1", "n-2", "n-3", "n-4"]
    assert await queue.dead() == []
    assert value(metrics, "sluice_processor_messages_total", outcome="handled") == 5
    for reason in ("TEST", "REMOVED", "OTHER_KEY", "SAME_OBJECT"):
        assert value(metrics, "sluice_processor_passed_total", reason=reason) == 1


@pytest.mark.parametrize("poison", ["no JSON at all", json.dumps({"Records": [{"s3": 1}, 2]})])
async def test_malformed_message_becomes_dead_letter_without_delay(poison: str) -> None:
    handler, metrics = Handler(), ProcessorMetrics()
    async with new_queue(receives=2) as queue:
        await queue.send(poison, *(aws_message(ref(f"n-{number}")) for number in range(12)))
        async with running_source(queue.options(), handler, metrics=metrics):

            async def others_are_handled() -> bool:
                return len(handler.done) == 12

            await until(others_are_handled, SECONDS, "the other messages are handled")

            async def is_dead_letter() -> bool:
                return await queue.dead() == [poison]

            await until(is_dead_letter, SECONDS, "the redrive policy moved it")
            await wait_until_empty(queue)
    assert value(metrics, "sluice_processor_messages_total", outcome="malformed") == 2
    assert value(metrics, "sluice_processor_messages_total", outcome="handled") == 12


async def test_failed_message_becomes_dead_letter() -> None:
    """A message is handled as a whole; its finished records are repeated, which is harmless."""
    handler, metrics = Handler(), ProcessorMetrics()
    handler.errors["bad"] = FailedPrecondition("CRASHED", "Its child died.")
    body = aws_message(ref("good"), ref("bad"))
    async with new_queue(receives=2) as queue:
        await queue.send(body)
        async with running_source(queue.options(), handler, metrics=metrics):

            async def is_dead_letter() -> bool:
                return await queue.dead() == [body]

            await until(is_dead_letter, SECONDS, "the redrive policy moved it")
    assert handler.received.count("bad") == handler.received.count("good") == 2
    assert value(metrics, "sluice_processor_messages_total", outcome="left") == 2


async def test_timeout_is_final_at_last_receive() -> None:
    """The queue counts receives across restarts; the last one is recorded."""
    handler = Handler()
    handler.errors["slow"] = FailedPrecondition("TIMEOUT", "…")
    body = aws_message(ref("slow"))
    options = replace(OPTIONS, retry_seconds=1.0)
    async with new_queue(receives=3) as queue:
        await queue.send(body)
        for tries in (1, 2):
            async with running_source(queue.options(), handler, options=options):

                async def is_received() -> bool:
                    return len(handler.received) >= tries  # noqa: B023 - awaited in the loop

                await until(is_received, SECONDS, "the message is redelivered")
        async with running_source(queue.options(), handler, options=options):

            async def is_dead_letter() -> bool:
                return await queue.dead() == [body]

            await until(is_dead_letter, SECONDS, "the redrive policy moved it")
    assert handler.final == [False, False, True]


async def test_transient_error_is_retried_and_redelivered(
    queue: TestQueue,
) -> None:
    handler = Handler()
    handler.errors["n-1"] = Unavailable("STORE_UNAVAILABLE", "The store is down.")
    await queue.send(aws_message(ref("n-1")))
    async with running_source(queue.options(), handler):

        async def all_attempts_failed() -> bool:
            return len(handler.received) >= OPTIONS.attempts

        await until(all_attempts_failed, SECONDS, "all attempts were made")
        handler.errors.clear()
        await wait_until_empty(queue)
    assert handler.done == ["n-1"]
    assert await queue.dead() == []


async def test_message_stays_invisible_during_handling(queue: TestQueue) -> None:
    """Handling exceeds the visibility timeout; another processor never receives it."""
    handler, other = Handler(), Handler()

    async def long(node_id: str) -> None:
        await asyncio.sleep(4.5)

    handler.hold = long
    options = queue.options(visibility_seconds=3)
    await queue.send(aws_message(ref("n-1")))
    async with running_source(options, handler):

        async def begun() -> bool:
            return handler.received == ["n-1"]

        await until(begun, SECONDS, "the message is received")
        async with running_source(options, other):
            await wait_until_empty(queue)
    assert handler.done == handler.received + other.received == ["n-1"]


async def test_concurrency_limit_is_respected(queue: TestQueue) -> None:
    handler = Handler()

    async def briefly(node_id: str) -> None:
        await asyncio.sleep(0.05)

    handler.hold = briefly
    names = [f"n-{number}" for number in range(30)]
    await queue.send(aws_message(*(ref(name) for name in names[:15])))
    await queue.send(*(aws_message(ref(name)) for name in names[15:]))
    async with running_source(queue.options(), handler):
        await wait_until_empty(queue)
    assert sorted(handler.done) == sorted(names)
    assert handler.max_active == OPTIONS.concurrency


async def test_stop_drains_and_releases_unfinished_messages(queue: TestQueue) -> None:
    handler, forever = Handler(), asyncio.Event()

    async def hold(node_id: str) -> None:
        await (asyncio.sleep(0.5) if node_id == "short" else forever.wait())

    handler.hold = hold
    await queue.send(aws_message(ref("short")), aws_message(ref("long")))
    begun = asyncio.get_running_loop().time
    patient = replace(OPTIONS, drain_seconds=3.0, handling_seconds=600.0)
    async with running_source(queue.options(visibility_seconds=600), handler, options=patient):

        async def both_are_active() -> bool:
            return len(handler.received) == 2

        await until(both_are_active, SECONDS, "both are received")
        stopped_at = begun()
    assert begun() - stopped_at < SECONDS
    assert handler.done == ["short"]
    assert await queue.counts() == (1, 0)  # visible immediately, not in ten minutes
    handler.hold = None
    async with running_source(queue.options(), handler):
        await wait_until_empty(queue)
    assert handler.done == ["short", "long"]


async def test_stop_does_not_wait_for_messages(queue: TestQueue) -> None:
    begun = asyncio.get_running_loop().time()
    async with running_source(queue.options(wait_seconds=20), Handler()):
        await asyncio.sleep(0.5)
    assert asyncio.get_running_loop().time() - begun < 5.0


async def test_lag_counts_waiting_messages(
    queue: TestQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sluice_processor.sources.sqs._MEASURE_SECONDS", 0.1)
    handler, metrics, go_on = Handler(), ProcessorMetrics(), asyncio.Event()

    async def hold(node_id: str) -> None:
        await go_on.wait()

    handler.hold = hold
    await queue.send(*(aws_message(ref(f"n-{number}")) for number in range(6)))
    async with running_source(queue.options(), handler, metrics=metrics):

        async def lag_is(messages: int) -> bool:
            return value(metrics, "sluice_processor_lag") == messages

        await until(lambda: lag_is(6), SECONDS, "messages being handled count, too")
        go_on.set()
        await until(lambda: lag_is(0), SECONDS, "the lag is zero")


async def test_source_reconnects_to_restarted_queue() -> None:
    """moto loses its queues when it stops; afterwards the queue is a new one."""
    server, handler = SqsServer(), Handler()
    server.start()
    try:

        async def create_queue() -> TestQueue:
            async with sqs_client(server) as client:
                url = (await client.create_queue(QueueName="q"))["QueueUrl"]
            return TestQueue(None, url, "")

        queue = await create_queue()
        async with running_source(queue.options(), handler):
            await asyncio.to_thread(server.stop)
            await asyncio.sleep(1.0)
            await asyncio.to_thread(server.start)
            await create_queue()
            async with sqs_client(server) as client:
                await client.send_message(QueueUrl=queue.url, MessageBody=aws_message(ref("n-1")))

            async def done() -> bool:
                return handler.done == ["n-1"]

            await until(done, SECONDS, "the source has reconnected")
    finally:
        server.stop()


async def test_missing_queue_differs_from_unreachable_server(
    queue: TestQueue,
) -> None:
    ours = queue.options()
    async with open_queue(replace(ours, queue_url=f"{queue.url}-unknown"), 1) as unknown:
        with pytest.raises(FailedPrecondition) as missing:
            await unknown.facts()
    assert missing.value.reason == "QUEUE_NOT_FOUND"
    nowhere = f"http://127.0.0.1:{free_port()}/1/q"
    async with open_queue(replace(ours, queue_url=nowhere), 1) as unreachable:
        with pytest.raises(Unavailable) as silent:
            await unreachable.facts()
    assert silent.value.reason == "QUEUE_UNAVAILABLE"


async def test_missing_credentials_are_denied(
    queue: TestQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    async with open_queue(SqsOptions(queue.url), 1) as q:
        with pytest.raises(PermissionDenied):
            await q.facts()


@pytest.mark.parametrize(
    ("url", "region"),
    [
        ("https://sqs.eu-central-1.amazonaws.com/123456789012/photos", "eu-central-1"),
        ("https://sqs.cn-north-1.amazonaws.com.cn/123456789012/photos", "cn-north-1"),
        ("https://sqs-fips.us-gov-west-1.amazonaws.com/1/photos", "us-gov-west-1"),
        ("https://vpce-1.sqs.us-west-2.vpce.amazonaws.com/1/photos", "us-west-2"),
        ("http://127.0.0.1:5000/1/photos", "us-east-1"),
    ],
)
def test_region_comes_from_url(url: str, region: str) -> None:
    assert SqsOptions(url).signing_region == region
    assert SqsOptions(url, "ap-south-1").signing_region == "ap-south-1"


async def test_gateway_measures_the_depth_of_the_queue(queue: TestQueue) -> None:
    """Until new jobs are deferred; received messages that are not done count as well."""
    await queue.send(*[aws_message(ref(f"n-{number}")) for number in range(3)])
    load = Mock(connection_wait_seconds=lambda: 0.0)
    pressure = BackPressure(PressureLimits(messages=2), load, PressureMetrics())
    stop = asyncio.Event()
    async with asyncio.timeout(SECONDS), asyncio.TaskGroup() as group:
        group.create_task(measure_queue(queue.options(), pressure, stop))

        async def is_deferred() -> bool:
            return await pressure.retry_after_seconds() is not None

        await until(is_deferred, SECONDS, "the depth is above the limit")
        stop.set()
