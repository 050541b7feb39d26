"""Contract of work queues: leases (rule 15) and retries."""

from __future__ import annotations

import pytest

from sluice_core.ports import WorkQueue
from support.work_queues import (
    LONG_SECONDS,
    age_delivery,
    assert_nothing,
    elapse_delays,
    part,
    take,
)

# ------------------------------------------------------------------ leases (rule 15)


@pytest.mark.rule(15)
async def test_a_dead_workers_item_is_taken_over(lapsing_soon: WorkQueue) -> None:
    queue = lapsing_soon
    await queue.put(part())
    first = await take(queue)
    second = await take(queue)
    assert (second.item, second.attempt) == (first.item, 2)
    assert second.delivery_id != first.delivery_id


async def test_a_heartbeat_keeps_an_item(frequent_polling: WorkQueue) -> None:
    queue = frequent_polling
    await queue.put(part())
    delivery = await take(queue)
    for _ in range(5):
        await age_delivery(queue, delivery, 0.6)
        await assert_nothing(queue, 0.2)
        await queue.extend(delivery)
    await age_delivery(queue, delivery, 1.1)  # and without one
    assert (await take(queue)).attempt == 2


async def test_extended_and_acknowledged_item_is_not_redelivered(
    frequent_polling: WorkQueue,
) -> None:
    queue = frequent_polling
    await queue.put(part())
    delivery = await take(queue)
    await age_delivery(queue, delivery, 0.6)
    await queue.extend(delivery)
    await queue.acknowledge(delivery)
    await age_delivery(queue, delivery, 1.1)
    await assert_nothing(queue, 0.2)


@pytest.mark.rule(15)
async def test_late_call_of_the_old_holder_is_a_no_op(frequent_polling: WorkQueue) -> None:
    queue = frequent_polling
    await queue.put(part())
    old = await take(queue)
    await age_delivery(queue, old, 1.1)
    new = await take(queue)
    await queue.extend(old)
    await queue.acknowledge(old)
    await queue.retry(old, 0.0)
    await assert_nothing(queue, 0.2)
    await queue.acknowledge(new)
    await age_delivery(queue, new, 1.1)
    await assert_nothing(queue, 0.2)


@pytest.mark.rule(15)
async def test_repeated_acknowledge_is_a_no_op(queue: WorkQueue) -> None:
    await queue.put(part())
    delivery = await take(queue)
    for _ in range(2):
        await queue.acknowledge(delivery)


# ------------------------------------------------------------------ retries


async def test_retried_item_is_redelivered_after_the_delay(frequent_polling: WorkQueue) -> None:
    queue = frequent_polling
    await queue.put(part())
    await queue.retry(await take(queue), LONG_SECONDS)
    await elapse_delays(queue, part(), 0.6)
    await assert_nothing(queue, 0.2)
    await elapse_delays(queue, part(), 0.6)
    again = await take(queue)
    assert (again.item, again.attempt) == (part(), 2)


async def test_retried_item_without_delay_is_redelivered_at_once(
    without_polling: WorkQueue,
) -> None:
    await without_polling.put(part())
    await without_polling.retry(await take(without_polling), 0.0)
    assert (await take(without_polling)).attempt == 2


async def test_putting_an_item_does_not_shorten_its_delay(frequent_polling: WorkQueue) -> None:
    queue = frequent_polling
    await queue.put(part())
    await queue.retry(await take(queue), LONG_SECONDS)
    await queue.put(part())
    await assert_nothing(queue, 0.2)
    await elapse_delays(queue, part(), 1.1)
    await queue.acknowledge(await take(queue))
    await assert_nothing(queue)


async def test_retried_item_that_was_put_again_is_one_item(queue: WorkQueue) -> None:
    await queue.put(part())
    held = await take(queue)
    await queue.put(part())
    await queue.retry(held, 0.0)
    await queue.acknowledge(await take(queue))
    await assert_nothing(queue)
