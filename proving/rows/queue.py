"""Rows 1, 2 and 4 to 7: the queue's bounds, its goodput under overload, and its fairness, on a simulated clock."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from functools import partial

import psutil

from app.core.generation import Priority
from app.services.queueing.schedule import cost
from app.services.request_queue import QueueLimits
from proving.event_world import UNBOUNDED, Host, Work, World
from proving.promises import Run, promise

LIMITER_OFF = "hosts that give more slots than they have"
BOUNDS_OFF = "a queue without bounds"
FCFS = "first come, first served"
ONE_CLASS = "one class for all"
TOLERANCE = 0.10  # of the ideal share, as in Kubernetes' queueset test
SLOTS = {"one": 1, "two": 3}


@promise(
    1, "Never more in flight than slots, per host", section="queue",
    figure="0 violations over random arrivals, hang-ups, ends, pauses and moves",
    controls=(LIMITER_OFF,),
)  # fmt: skip
async def never_more_in_flight_than_slots(run: Run) -> None:
    world = _random_world(run)
    for _ in range(run.scale(short=1500, full=100_000)):
        _random_step(run.random, world)
        over = [host.name for host in world.hosts.values() if host.busy > host.slots]
        running = sum(host.busy for host in world.hosts.values())
        run.trial(not over and running == world.queue.running, f"{over} over its slots")
    run.figure("requests served", sum(work.ended is not None for work in world.works))


def _random_world(run: Run) -> World:
    hosts = [Host(name, slots, room=2, load=0.5) for name, slots in SLOTS.items()]
    return World(hosts, limits=QueueLimits(24), limited=not run.off, foretell=False)


def _random_step(dice: random.Random, world: World) -> None:
    match dice.choice(("ask", "ask", "end", "end", "leave", "pause", "move")):
        case "ask":
            world.ask(
                dice.choice("abcde"), model=dice.choice(("m:1", "m:2", "m:3")), prompt=dice.randint(1, 500),
                answer=dice.randint(1, 200), priority=dice.choice(list(Priority)),
            )  # fmt: skip
        case "leave":
            open_ones = [work for work in world.works[-60:] if work.ended is None and not work.left]
            if open_ones:
                world.leave(dice.choice(open_ones))
        case "pause":
            world.queue.pause() if dice.random() < 0.3 else world.queue.resume()
            world.look()
        case "move":
            waiting = [work.ticket for work in world.works[-60:] if work.ticket and work.ticket.position]
            for ticket in waiting[:1]:
                world.queue.move(ticket.ask.id, dice.choice(list(Priority)))
        case _:
            world.clock.step()


@promise(
    2, "The queue is bounded by foretold wait, count and tokens", section="queue",
    figure="400 clients flood it with 10 times its capacity: 98 of 100 that were let in wait at most 30 s and none "
    "longer than 36 s (how long answers become is not known beforehand, and nobody who was let in is put out for "
    "it), at most 64 wait, memory grows by less than 50 MB",
    controls=(BOUNDS_OFF,),
)  # fmt: skip
async def the_queue_is_bounded(run: Run) -> None:
    world = World(limits=UNBOUNDED if run.off else QueueLimits(), foretell=not run.off)
    before = psutil.Process().memory_info().rss
    seconds = run.scale(short=40, full=300)
    _flood(run.random, world, 10.0, seconds, flows=400, watch=lambda: _within(run, world))
    world.clock.run(seconds + 3600)
    for work in world.works:
        waited = work.waited
        run.trial(waited is not None and waited <= 36.0, f"waited {waited} s")
        run.measure("wait of those admitted, s", waited if waited is not None else float("inf"))
    grown = (psutil.Process().memory_info().rss - before) / 2**20
    late = sum((work.waited or 0.0) > 30.0 for work in world.works) / len(world.works)
    run.figure("waited longer than 30 s, % of those let in", 100 * late)
    run.require(late <= 0.02, f"{100 * late:.1f} % waited longer than 30 s")
    run.figure("memory grown, MB", grown)
    run.figure("refused", len(world.refused))
    run.require(grown < 50, f"memory grew by {grown:.0f} MB")


def _within(run: Run, world: World) -> None:
    waiting = world.queue.waiting
    run.require(waiting <= 64, f"{waiting} wait")


def _flood(
    dice: random.Random, world: World, load: float, seconds: float, *, flows: int,
    watch: Callable[[], None] = lambda: None,
) -> None:  # fmt: skip
    """Open-loop arrivals at `load` times what one slot can do; a request takes one second on average."""
    at = 0.0

    def arrive() -> None:
        world.ask(f"flow {dice.randrange(flows)}", prompt=dice.randint(100, 300), answer=dice.randint(200, 600))
        watch()

    while (at := at + dice.expovariate(load)) < seconds:
        world.clock.at(at, arrive)


@promise(
    4, "Goodput stays flat under overload", section="queue",
    figure="at 10 times the capacity at least 90 % of the peak (answers that began within 30 s)",
    controls=(BOUNDS_OFF,),
)  # fmt: skip
async def goodput_stays_flat(run: Run) -> None:
    loads = (1.0, 10.0) if run.short or run.off else (0.5, 1.0, 2.0, 4.0, 10.0)
    found = {load: goodput(run.random, load, run.scale(short=300, full=900), bounded=not run.off) for load in loads}
    peak = max(found.values())
    for load, good in found.items():
        run.figure(f"answers a second at {load:g}x", good)
        if load >= 1:
            run.trial(good >= 0.9 * peak, f"{good:.2f} of {peak:.2f} answers a second at {load:g}x")


def goodput(dice: random.Random, load: float, seconds: float, *, bounded: bool, patience: float = 30.0) -> float:
    """Answers a second that began before their client had enough; nobody hangs up, as behind a proxy that buffers."""
    world = World(limits=QueueLimits() if bounded else UNBOUNDED, fcfs=not bounded, foretell=bounded)
    _flood(dice, world, load, seconds, flows=40)
    world.clock.run(seconds)
    good = [work for work in world.works if work.ended is not None and (work.waited or 0.0) <= patience]
    return len(good) / seconds


@promise(
    5, "Fair between backlogged users", section="queue",
    figure="each of 2 to 16 flows within 10 % of the ideal share; counters never further apart than two requests",
    controls=(FCFS,),
)  # fmt: skip
async def fair_between_backlogged_users(run: Run) -> None:
    for flows in (2, 5) if run.short or run.off else (2, 3, 5, 8, 12, 16):
        world = World([Host("one", slots=1 if flows < 8 else 2)], fcfs=bool(run.off), foretell=False)
        seconds = 60.0 * flows
        for number in range(flows):
            prompt, answer = run.random.randint(20, 400), run.random.randint(20, 400)
            world.backlog(f"flow {number}", seconds, prompt=prompt, answer=answer)
        world.clock.run(seconds)
        shares, served = world.slot_seconds(lambda work: work.flow), dict[str, float]()
        for work in world.works:
            if work.began is not None:
                served[work.flow] = served.get(work.flow, 0.0) + cost(work.prompt, work.answer)
        ideal = sum(shares.values()) / flows
        for flow, share in shares.items():
            run.measure("deviation from the ideal share, %", 100 * abs(share / ideal - 1))
            run.trial(abs(share / ideal - 1) <= TOLERANCE, f"{flow} of {flows} had {share:.1f} s, ideal {ideal:.1f}")
        largest = max(cost(work.prompt, work.answer) for work in world.works)
        apart = max(served.values()) - min(served.values())
        run.require(apart <= 2 * largest, f"{apart:.0f} tokens apart, the largest request costs {largest:.0f}")


@promise(
    6, "A light user is not stuck behind a heavy one", section="queue",
    figure="a wait of at most what runs and one request of each other flow, whatever the heavy one has queued",
    controls=(FCFS,),
)  # fmt: skip
async def a_light_user_is_not_stuck(run: Run) -> None:
    world = World(fcfs=bool(run.off), foretell=False)
    for flow in ("elephant", "mammoth"):
        for _ in range(200):
            world.ask(flow, prompt=run.random.randint(50, 400), answer=run.random.randint(50, 400))
    seconds = run.scale(short=60, full=200)
    for number in range(1, seconds // 10 + 1):
        world.clock.at(10.0 * number, partial(_mouse, world))
    world.clock.run(seconds + 60.0)
    longest = max(work.service for work in world.works if work.flow != "mouse")
    for work in [work for work in world.works if work.flow == "mouse"]:
        waited = work.waited if work.waited is not None else float("inf")
        run.measure("wait of the light user, s", waited)
        run.trial(waited <= 3 * longest, f"waited {waited:.2f} s; a request takes {longest:.2f} s at most")


def _mouse(world: World) -> None:
    world.ask("mouse", prompt=100, answer=50)


@promise(
    7, "Batch never starves, interactive comes first", section="queue",
    figure="batch gets 10 % (+-2) of the slot time while both classes are backlogged", controls=(ONE_CLASS,),
)  # fmt: skip
async def batch_never_starves(run: Run) -> None:
    for slots in (1, 2):
        world = World([Host("one", slots)], fcfs=bool(run.off), foretell=False)
        seconds = run.scale(short=200, full=600)
        for number in range(3):
            for priority in Priority:
                prompt, answer = run.random.randint(50, 300), run.random.randint(50, 300)
                world.backlog(f"{priority} {number}", seconds, prompt=prompt, answer=answer, priority=priority)
        world.clock.run(float(seconds))
        shares: Mapping[str, float] = world.slot_seconds(_class)
        share = 100 * shares[str(Priority.BATCH)] / sum(shares.values())
        run.figure(f"batch, % of the time of {slots} slots", share)
        run.trial(8 <= share <= 12, f"batch had {share:.1f} %")
    run.require(_interactive_first(bool(run.off)), "a batch request went before an interactive one")


def _class(work: Work) -> str:
    return str(work.priority)


def _interactive_first(fcfs: bool) -> bool:
    """Of a batch and an interactive request that wait, the second one is served first though it came later."""
    world = World(fcfs=fcfs, foretell=False)
    world.ask("x")
    world.ask("b", priority=Priority.BATCH)
    world.ask("i")
    world.clock.run(10.0)
    began = {work.flow: work.began or 0.0 for work in world.works}
    return began["i"] < began["b"]
