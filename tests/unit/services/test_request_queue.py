"""The queue: bounded, fair, honest about positions, and leak-free whatever is cancelled when."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from app.core.errors import Cancelled, Draining, NoHealthyHost, QueueFull
from app.core.generation import Priority
from app.services.host_lease import Lease
from app.services.host_pool import HostPool
from app.services.request_queue import Ask, QueueLimits, RequestQueue
from tests.fakes import MODEL, FakeBackend, FakeClock, model_info, settle

pytestmark = pytest.mark.anyio
INTERACTIVE, BATCH = Priority.INTERACTIVE, Priority.BATCH


async def pool_of(*backends: FakeBackend, clock: FakeClock | None = None) -> HostPool:
    """A pool that was asked once and is not watching: tests move it by hand."""
    pool = HostPool(backends, clock or FakeClock())
    await pool.start()
    await settle()
    return pool


def ask(flow: str, priority: Priority = INTERACTIVE, model: str = MODEL, **more: Any) -> Ask:
    return Ask(flow=flow, priority=priority, model=model, **more)


@pytest.fixture
async def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def pool(clock):
    pool = await pool_of(FakeBackend(), clock=clock)
    yield pool
    await pool.stop()


@pytest.fixture
async def queue(pool, clock) -> RequestQueue:
    queue = RequestQueue(pool, clock, limits=QueueLimits(4, per_client=3))
    pool.on_change(queue.poke)
    return queue


async def test_a_free_slot_is_given_without_waiting(queue):
    ticket = queue.enter(ask("a"))
    lease = await ticket.admitted()
    assert lease.address.name == "one"
    assert (ticket.position, queue.running, queue.waiting) == (0, 1, 0)
    ticket.finish()
    assert queue.running == 0


async def test_the_next_in_line_gets_the_slot_when_it_is_freed(queue):
    first, second = queue.enter(ask("a")), queue.enter(ask("b"))
    waiting = asyncio.create_task(second.admitted())
    await settle()
    assert not waiting.done()
    assert second.position == 1
    first.finish()
    lease = await waiting
    assert isinstance(lease, Lease)
    assert queue.running == 1


async def test_queue_full_is_refused_without_waiting(queue):
    queue.enter(ask("a"))
    for flow in "bcde":
        queue.enter(ask(flow))
    with pytest.raises(QueueFull) as caught:
        queue.enter(ask("f"))
    assert (caught.value.status, caught.value.limit) == (503, 4)
    assert (caught.value.reason, caught.value.most) == ("count", 4)
    assert 1 <= caught.value.retry_after <= 60
    assert queue.waiting == 4


async def test_one_flow_cannot_fill_the_queue(queue):
    queue.enter(ask("a"))
    for _ in range(3):
        queue.enter(ask("a"))
    with pytest.raises(QueueFull) as caught:
        queue.enter(ask("a"))
    assert (caught.value.status, caught.value.reason, caught.value.most) == (429, "flow", 3)
    queue.enter(ask("b"))


async def test_flows_take_turns_and_positions_say_so(queue):
    running = queue.enter(ask("x"))
    heavy = [queue.enter(ask("heavy")) for _ in range(3)]
    light = queue.enter(ask("light"))
    assert [ticket.position for ticket in heavy] == [1, 3, 4]
    assert light.position == 2
    order = []
    for _ in range(4):
        running.finish()
        [running] = [ticket for ticket in (*heavy, light) if ticket.lease is not None and ticket not in order]
        order.append(running)
    assert order == [heavy[0], light, heavy[1], heavy[2]]


async def served_order(clock: FakeClock, tickets: int, priorities: list[Priority]) -> list[Priority]:
    """Serve a backlog one by one; the classes in the order in which they were served."""
    pool = await pool_of(FakeBackend(), clock=clock)
    queue = RequestQueue(pool, clock, limits=QueueLimits(1000, per_client=1000))
    blocker = queue.enter(ask("blocker"))
    waiting = [queue.enter(ask(str(n % 3), priorities[n % len(priorities)], MODEL)) for n in range(tickets)]
    order: list[Priority] = []
    blocker.finish()
    while waiting:
        [ticket] = [ticket for ticket in waiting if ticket.lease is not None]
        order.append(ticket.priority)
        waiting.remove(ticket)
        clock.advance(1)
        ticket.finish()
    await pool.stop()
    return order


async def test_one_batch_request_is_served_to_nine_interactive_ones(clock):
    order = await served_order(clock, 60, [INTERACTIVE, BATCH])
    assert order[:30].count(BATCH) == 3
    assert order.count(BATCH) == 30


async def test_batch_alone_is_served_at_once_and_in_order(clock):
    assert await served_order(clock, 5, [BATCH]) == [BATCH] * 5


async def test_positions_are_the_order_in_which_requests_are_served(clock):
    pool = await pool_of(FakeBackend(), clock=clock)
    queue = RequestQueue(pool, clock, limits=QueueLimits(100, per_client=100))
    blocker = queue.enter(ask("blocker"))
    dice = random.Random(7)
    waiting = [queue.enter(ask(dice.choice("abcd"), dice.choice((INTERACTIVE, BATCH)))) for _ in range(40)]
    queue.refresh()
    promised = sorted(waiting, key=lambda ticket: ticket.position)
    assert [ticket.position for ticket in promised] == list(range(1, 41))
    clock.advance(1)
    blocker.finish()
    served = []
    while waiting:
        [ticket] = [ticket for ticket in waiting if ticket.lease is not None]
        served.append(ticket)
        waiting.remove(ticket)
        clock.advance(1)
        ticket.finish()
    assert served == promised
    await pool.stop()


async def test_a_full_host_does_not_hold_up_requests_for_a_free_one(clock):
    left = FakeBackend("left", models=[model_info("a:1", "a" * 64)])
    right = FakeBackend("right", models=[model_info("b:1", "b" * 64)])
    pool = await pool_of(left, right, clock=clock)
    queue = RequestQueue(pool, clock, limits=QueueLimits(10))
    queue.enter(ask("x", INTERACTIVE, "a:1"))
    stuck = queue.enter(ask("x", INTERACTIVE, "a:1"))
    passing = queue.enter(ask("y", INTERACTIVE, "b:1"))
    assert stuck.position == 1
    assert passing.lease is not None
    await pool.stop()


async def test_the_estimate_comes_from_measured_service_times(queue, clock):
    first = queue.enter(ask("a"))
    second, third = queue.enter(ask("b")), queue.enter(ask("c"))
    assert second.eta is None
    clock.advance(10)
    first.finish()
    queue.enter(ask("d"))
    assert third.eta.likely == pytest.approx(10)
    assert third.eta.low <= 10 <= third.eta.high <= 3 * third.eta.low
    clock.advance(4)
    queue.poke()
    assert third.eta.likely == pytest.approx(6)
    assert queue.snapshot().waiting[0].waited == pytest.approx(14)
    second.finish()


async def test_a_waiter_that_leaves_is_never_served(queue):
    first, second, third = (queue.enter(ask(flow)) for flow in "abc")
    waiting = asyncio.create_task(second.admitted())
    await settle()
    waiting.cancel()
    first.finish()  # before the cancelled task has run: it must not get the slot
    assert third.lease is not None
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (queue.running, queue.waiting) == (1, 0)


async def test_a_waiter_that_is_cancelled_just_after_it_got_the_slot_gives_it_back(queue, pool):
    first, second = queue.enter(ask("a")), queue.enter(ask("b"))
    waiting = asyncio.create_task(second.admitted())
    await settle()
    first.finish()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert (queue.running, pool.statuses()[0].busy_slots) == (0, 0)


async def test_a_cancelled_waiter_counts_no_more(queue):
    queue.enter(ask("a"))
    waiting = asyncio.create_task(queue.enter(ask("b")).admitted())
    await settle()
    waiting.cancel()
    await settle()
    assert queue.waiting == 0


async def test_leaving_the_context_frees_the_slot(queue, pool):
    async with queue.enter(ask("a")) as ticket:
        await ticket.admitted()
        assert pool.statuses()[0].busy_slots == 1
    assert pool.statuses()[0].busy_slots == 0


async def test_someone_else_may_cancel_a_waiting_request(queue):
    queue.enter(ask("a"))
    ticket = queue.enter(ask("b"))
    waiting = asyncio.create_task(ticket.admitted())
    await settle()
    ticket.cancel()
    with pytest.raises(Cancelled):
        await waiting


async def test_closing_tells_everyone_who_waits_and_admits_nobody(queue):
    running = queue.enter(ask("a"))
    waiting = asyncio.create_task(queue.enter(ask("b")).admitted())
    await settle()
    queue.close()
    with pytest.raises(Draining):
        await waiting
    with pytest.raises(Draining):
        queue.enter(ask("c"))
    running.finish()
    assert queue.running == 0


async def test_what_waiting_cannot_mend_is_told_at_once(clock):
    from app.core.errors import HostUnreachable

    backend = FakeBackend()
    backend.down = HostUnreachable("one", "refused")
    pool = await pool_of(backend, clock=clock)
    queue = RequestQueue(pool, clock, limits=QueueLimits(10))
    with pytest.raises(NoHealthyHost, match="refused"):
        await queue.enter(ask("a")).admitted()
    assert queue.waiting == 0
    await pool.stop()


@pytest.mark.parametrize("seed", range(40))
async def test_no_slot_is_lost_or_given_twice_whatever_is_cancelled_when(seed, clock):
    dice = random.Random(seed)
    hosts = [FakeBackend(name, slots=dice.randint(1, 3)) for name in ("one", "two")]
    pool = await pool_of(*hosts, clock=clock)
    queue = RequestQueue(pool, clock, limits=QueueLimits(8, per_client=6))
    pool.on_change(queue.poke)
    capacity = sum(host.address.slots for host in hosts)
    served = 0

    async def request(flow: str, priority: Priority, hold: asyncio.Event) -> None:
        nonlocal served
        async with queue.enter(ask(flow, priority, MODEL)) as ticket:
            await ticket.admitted()
            await hold.wait()
            served += 1

    tasks: list[tuple[asyncio.Task[None], asyncio.Event]] = []
    for _ in range(150):
        match dice.choice(("enter", "enter", "cancel", "finish", "finish", "step")):
            case "enter":
                hold = asyncio.Event()
                work = request(dice.choice("abc"), dice.choice((INTERACTIVE, BATCH)), hold)
                tasks.append((asyncio.create_task(work), hold))
            case "cancel" if tasks:
                dice.choice(tasks)[0].cancel()
            case "finish" if tasks:
                dice.choice(tasks)[1].set()
            case _:
                for _ in range(dice.randint(0, 3)):
                    await asyncio.sleep(0)
        busy = sum(status.busy_slots for status in pool.statuses())
        assert 0 <= busy == queue.running <= capacity
        assert all(status.busy_slots <= status.address.slots for status in pool.statuses())
        if queue.waiting:
            assert busy == capacity, "a slot is idle while someone waits"
    for _, hold in tasks:
        hold.set()
    outcomes = await asyncio.gather(*(task for task, _ in tasks), return_exceptions=True)
    assert all(outcome is None or isinstance(outcome, asyncio.CancelledError | QueueFull) for outcome in outcomes)
    assert served == outcomes.count(None) > 0
    assert (queue.running, queue.waiting) == (0, 0)
    assert all(status.busy_slots == 0 for status in pool.statuses())
    await pool.stop()
