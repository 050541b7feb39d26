"""The SQS source on a server that speaks it: everything once it is there, nothing lost, nothing in
the way of the rest."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from sluice_common.telemetry.metrics import Metrics
from sluice_core.errors import FailedPrecondition, PermissionDenied, Unavailable
from sluice_core.uploads.model import ObjectRef
from sluice_processor.deps import ProcessorOptions
from sluice_processor.nodes.handler import Outcome, Work
from sluice_processor.sources.sqs import SqsSource
from sluice_processor.sources.sqs_options import SqsOptions
from sluice_processor.sources.sqs_queue import open_queue
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
    """Stands for the node processor; notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.done: list[str] = []
        self.final: list[bool] = []
        self.errors: dict[str, Exception] = {}
        self.hold: Callable[[str], Awaitable[None]] | None = None
        self.at_once = 0
        self.most_at_once = 0

    async def process(self, work: Work) -> Outcome:
        self.asked.append(work.node_id)
        self.final.append(work.is_final)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if self.hold is not None:
                await self.hold(work.node_id)
            if work.node_id in self.errors:
                raise self.errors[work.node_id]
            self.done.append(work.node_id)
            return Outcome("processed")
        finally:
            self.at_once -= 1


@pytest.fixture
async def queue() -> AsyncIterator[TestQueue]:
    async with new_queue() as opened:
        yield opened


@asynccontextmanager
async def running(
    sqs: SqsOptions,
    handler: Handler,
    *,
    options: ProcessorOptions = OPTIONS,
    metrics: Metrics | None = None,
) -> AsyncIterator[None]:
    """A source for the length of the block, stopped as a service stops it."""
    stop = asyncio.Event()
    source = SqsSource(sqs, handler, options, metrics or Metrics())  # type: ignore[arg-type]
    async with asyncio.timeout(SECONDS * 4), asyncio.TaskGroup() as group:
        group.create_task(source.run(stop))
        try:
            yield
        finally:
            stop.set()


async def emptied(queue: TestQueue) -> None:
    async def is_empty() -> bool:
        return await queue.counts() == (0, 0)

    await until(is_empty, SECONDS, "nothing waits, nothing is in hand")


def value(metrics: Metrics, name: str, **labels: str) -> float:
    return metrics.registry.get_sample_value(name, {"source": "sqs", **labels}) or 0.0


async def test_messages_in_both_forms_are_worked_on_and_deleted(queue: TestQueue) -> None:
    handler, metrics = Handler(), Metrics()
    await queue.send(
        trial_message(),
        aws_message(ref("n-1")),
        bridge_message(ref("n-2")),
        aws_message(ref("n-3"), ref("n-4"), ref("n-3"), ObjectRef("sluice", "readme.txt")),
        aws_message(ref("n-5"), name="ObjectRemoved:Delete"),
    )
    async with running(queue.options(), handler, metrics=metrics):
        await emptied(queue)
    assert sorted(handler.done) == ["n-1", "n-2", "n-3", "n-4"]
    assert await queue.dead() == []
    assert value(metrics, "sluice_processor_messages_total", outcome="handled") == 5
    for reason in ("TEST", "REMOVED", "OTHER_KEY", "SAME_OBJECT"):
        assert value(metrics, "sluice_processor_passed_total", reason=reason) == 1


@pytest.mark.parametrize("poison", ["no JSON at all", json.dumps({"Records": [{"s3": 1}, 2]})])
async def test_what_nobody_can_read_ends_as_a_dead_letter_and_stops_nobody(poison: str) -> None:
    handler, metrics = Handler(), Metrics()
    async with new_queue(receives=2) as queue:
        await queue.send(poison, *(aws_message(ref(f"n-{number}")) for number in range(12)))
        async with running(queue.options(), handler, metrics=metrics):

            async def others_are_done() -> bool:
                return len(handler.done) == 12

            await until(others_are_done, SECONDS, "the others do not wait for it")

            async def buried() -> bool:
                return await queue.dead() == [poison]

            await until(buried, SECONDS, "the redrive policy has moved it")
            await emptied(queue)
    assert value(metrics, "sluice_processor_messages_total", outcome="malformed") == 2
    assert value(metrics, "sluice_processor_messages_total", outcome="handled") == 12


async def test_what_cannot_be_done_ends_as_a_dead_letter() -> None:
    """A message is not done until all of it is; what was done of it is done again, which is
    harmless."""
    handler, metrics = Handler(), Metrics()
    handler.errors["bad"] = FailedPrecondition("CRASHED", "Its child died.")
    body = aws_message(ref("good"), ref("bad"))
    async with new_queue(receives=2) as queue:
        await queue.send(body)
        async with running(queue.options(), handler, metrics=metrics):

            async def buried() -> bool:
                return await queue.dead() == [body]

            await until(buried, SECONDS, "the redrive policy has moved it")
    assert handler.asked.count("bad") == handler.asked.count("good") == 2
    assert value(metrics, "sluice_processor_messages_total", outcome="left") == 2


async def test_timeouts_are_final_with_the_last_receive() -> None:
    """The queue counts the tries, across restarts; the last one is recorded."""
    handler = Handler()
    handler.errors["slow"] = FailedPrecondition("TIMEOUT", "…")
    body = aws_message(ref("slow"))
    options = replace(OPTIONS, retry_seconds=1.0)
    async with new_queue(receives=3) as queue:
        await queue.send(body)
        for tries in (1, 2):
            async with running(queue.options(), handler, options=options):

                async def tried() -> bool:
                    return len(handler.asked) >= tries  # noqa: B023 - awaited in the loop

                await until(tried, SECONDS, "it came again")
        async with running(queue.options(), handler, options=options):

            async def buried() -> bool:
                return await queue.dead() == [body]

            await until(buried, SECONDS, "the redrive policy has moved it")
    assert handler.final == [False, False, True]


async def test_an_error_that_passes_is_tried_again_and_the_message_comes_again(
    queue: TestQueue,
) -> None:
    handler = Handler()
    handler.errors["n-1"] = Unavailable("STORE_UNAVAILABLE", "It is away.")
    await queue.send(aws_message(ref("n-1")))
    async with running(queue.options(), handler):

        async def given_up_once() -> bool:
            return len(handler.asked) >= OPTIONS.attempts

        await until(given_up_once, SECONDS, "all attempts were made")
        handler.errors.clear()
        await emptied(queue)
    assert handler.done == ["n-1"]
    assert await queue.dead() == []


async def test_a_message_stays_hidden_while_it_is_worked_on(queue: TestQueue) -> None:
    """Longer than it is hidden for: another processor never sees it."""
    handler, other = Handler(), Handler()

    async def long(node_id: str) -> None:
        await asyncio.sleep(4.5)

    handler.hold = long
    options = queue.options(visibility_seconds=3)
    await queue.send(aws_message(ref("n-1")))
    async with running(options, handler):

        async def begun() -> bool:
            return handler.asked == ["n-1"]

        await until(begun, SECONDS, "the message is in hand")
        async with running(options, other):
            await emptied(queue)
    assert handler.done == handler.asked + other.asked == ["n-1"]


async def test_no_more_is_in_hand_than_may_be(queue: TestQueue) -> None:
    handler = Handler()

    async def briefly(node_id: str) -> None:
        await asyncio.sleep(0.05)

    handler.hold = briefly
    names = [f"n-{number}" for number in range(30)]
    await queue.send(aws_message(*(ref(name) for name in names[:15])))
    await queue.send(*(aws_message(ref(name)) for name in names[15:]))
    async with running(queue.options(), handler):
        await emptied(queue)
    assert sorted(handler.done) == sorted(names)
    assert handler.most_at_once == OPTIONS.concurrency


async def test_a_stop_lets_end_what_ends_and_gives_back_what_does_not(queue: TestQueue) -> None:
    handler, forever = Handler(), asyncio.Event()

    async def hold(node_id: str) -> None:
        await (asyncio.sleep(0.5) if node_id == "short" else forever.wait())

    handler.hold = hold
    await queue.send(aws_message(ref("short")), aws_message(ref("long")))
    begun = asyncio.get_running_loop().time
    patient = replace(OPTIONS, drain_seconds=3.0, handling_seconds=600.0)
    async with running(queue.options(visibility_seconds=600), handler, options=patient):

        async def both() -> bool:
            return len(handler.asked) == 2

        await until(both, SECONDS, "both are in hand")
        stopped_at = begun()
    assert begun() - stopped_at < SECONDS
    assert handler.done == ["short"]
    assert await queue.counts() == (1, 0)  # visible at once, not in ten minutes
    handler.hold = None
    async with running(queue.options(), handler):
        await emptied(queue)
    assert handler.done == ["short", "long"]


async def test_a_stop_does_not_wait_for_messages(queue: TestQueue) -> None:
    begun = asyncio.get_running_loop().time()
    async with running(queue.options(wait_seconds=20), Handler()):
        await asyncio.sleep(0.5)
    assert asyncio.get_running_loop().time() - begun < 5.0


async def test_how_many_wait_is_told(queue: TestQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sluice_processor.sources.sqs._MEASURE_SECONDS", 0.1)
    handler, metrics, go_on = Handler(), Metrics(), asyncio.Event()

    async def hold(node_id: str) -> None:
        await go_on.wait()

    handler.hold = hold
    await queue.send(*(aws_message(ref(f"n-{number}")) for number in range(6)))
    async with running(queue.options(), handler, metrics=metrics):

        async def lag_is(messages: int) -> bool:
            return value(metrics, "sluice_processor_lag") == messages

        await until(lambda: lag_is(6), SECONDS, "those in hand count too")
        go_on.set()
        await until(lambda: lag_is(0), SECONDS, "nothing waits")


async def test_a_queue_that_goes_away_is_waited_for() -> None:
    """moto forgets its queues when it ends: what is there afterwards is a new one."""
    server, handler = SqsServer(), Handler()
    server.start()
    try:

        async def made() -> TestQueue:
            async with sqs_client(server) as client:
                url = (await client.create_queue(QueueName="q"))["QueueUrl"]
            return TestQueue(None, url, "")

        queue = await made()
        async with running(queue.options(), handler):
            await asyncio.to_thread(server.stop)
            await asyncio.sleep(1.0)
            await asyncio.to_thread(server.start)
            await made()
            async with sqs_client(server) as client:
                await client.send_message(QueueUrl=queue.url, MessageBody=aws_message(ref("n-1")))

            async def done() -> bool:
                return handler.done == ["n-1"]

            await until(done, SECONDS, "the source has come back by itself")
    finally:
        server.stop()


async def test_a_queue_that_is_not_there_is_told_apart_from_a_server_that_is_not(
    queue: TestQueue,
) -> None:
    ours = queue.options()
    async with open_queue(replace(ours, queue_url=f"{queue.url}-unknown"), 1) as unknown:
        with pytest.raises(FailedPrecondition) as missing:
            await unknown.facts()
    assert missing.value.reason == "QUEUE_NOT_FOUND"
    nowhere = f"http://127.0.0.1:{free_port()}/1/q"
    async with open_queue(replace(ours, queue_url=nowhere), 1) as away:
        with pytest.raises(Unavailable) as silent:
            await away.facts()
    assert silent.value.reason == "QUEUE_UNAVAILABLE"


async def test_without_credentials_it_is_refused(
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
def test_the_region_is_the_one_of_the_url(url: str, region: str) -> None:
    assert SqsOptions(url).signing_region == region
    assert SqsOptions(url, "ap-south-1").signing_region == "ap-south-1"
