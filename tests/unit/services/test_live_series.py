"""All series on one axis: what the service's figures say, what happened, and what those who watch are told."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from app.core.generation import Span, Usage
from app.core.hardware import Gpus, HardwareState, Machine
from app.core.hosts import HostAddress, HostState, HostStatus, LoadedModel
from app.services.happenings import Happening, Happenings
from app.services.hardware import Hardware
from app.services.live_series import LiveSeries
from app.services.request_log import RequestLog
from app.services.request_trace import CacheDecision, FinishedRequest
from app.services.series_store import SeriesStore
from app.services.service_figures import ServiceFigures
from tests.fakes import FakeClock

pytestmark = pytest.mark.anyio
HERE, AWAY = HostAddress("built-in", "http://127.0.0.1:1", embedded=True), HostAddress("bench", "http://10.0.0.9:11434")
GB = 10**9


def loaded(name: str, size: int, vram: int = 0) -> LoadedModel:
    return LoadedModel(name, "", size, vram, datetime.now(UTC), 4096)


class Layer:
    """Queue and hosts as they are set."""

    def __init__(self) -> None:
        self.waiting = self.running = self.written = 0
        self.hosts: Sequence[HostStatus] = (HostStatus(HERE, HostState.HEALTHY),)
        self.held: list[tuple[HostAddress, LoadedModel]] = []

    def statuses(self) -> tuple[HostStatus, ...]:
        return tuple(self.hosts)

    def loads(self) -> list[tuple[HostAddress, LoadedModel]]:
        return self.held


class Watched:
    """The parts that make a sample, with clocks that are moved by hand."""

    def __init__(self, folder: Path) -> None:
        self.clock, self.layer, self.log = FakeClock(), Layer(), RequestLog()
        self.hardware = Hardware(Machine, Gpus, self.clock)
        self.store = SeriesStore(folder / "figures.db")
        self.happenings = Happenings(self.layer.statuses, self.log)
        self.figures = ServiceFigures(self.log, self.layer, self.layer, self.clock)
        self.live = LiveSeries(self.hardware, self.figures, self.happenings, self.store)
        self.looks = 0

    def look(self, **machine: Any) -> None:
        """A second goes by."""
        self.clock.advance(1)
        self.looks += 1
        state = HardwareState(self.looks, self.clock.now(), Machine(**machine), Gpus(why="no NVIDIA GPU here"))
        self.live._take(state)

    def ended(self, ttft: float | None = 0.5, **changes: Any) -> None:
        number = self.log.size.requests
        made = FinishedRequest(
            id=f"r{number}", principal="local", flow="local", model="m:q4", digest="", host="built-in", endpoint="chat",
            status="ok", error="", cache=CacheDecision("miss"), started_at=self.clock.now() - 2.0, seconds=2.0,
            ttft=ttft, usage=Usage(output_tokens=4), spans=(Span("queue", 0.0, 0.25),),
        )  # fmt: skip
        self.log.add(made._replace(**changes))


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


def test_a_figure_that_nothing_can_be_said_about_is_left_out_and_no_zero(watched: Watched) -> None:
    watched.clock.advance(1)
    assert watched.figures.look() == {
        "queue_waiting": 0.0, "queue_running": 0.0, "hosts_down": 0.0, "tokens_per_second": 0.0, "jobs_running": 0.0,
    }  # fmt: skip


def test_percentiles_and_shares_are_of_the_requests_that_ended_in_the_last_minute(watched: Watched) -> None:
    watched.ended(9.0)
    watched.clock.advance(61)
    for ttft in (0.1, 0.2, 0.3):
        watched.ended(ttft)
    watched.ended(cache=CacheDecision("hit"))
    watched.ended(cache=CacheDecision("bypass"), status="host_unreachable")
    watched.ended(cache=CacheDecision("bypass"), status="cancelled")
    told = watched.figures.look()
    assert told["ttft_p50"] == pytest.approx(0.2) and told["ttft_p95"] == pytest.approx(0.29)
    assert told["cache_hit_rate"] == 0.25 and told["error_rate"] == 0.2 and told["queue_wait_p95"] == 0.25


def test_the_tokens_of_a_second_add_up_to_what_the_hosts_counted(watched: Watched) -> None:
    told = []
    for written in (0, 10, 30, 29, 29, 35):  # pieces came, and at the end the host counted one fewer
        watched.layer.written = written
        watched.clock.advance(2)
        told.append(watched.figures.look()["tokens_per_second"] * 2)
    assert told == [0, 10, 20, 0, 0, 5] and sum(told) == 35


def test_a_loaded_model_is_a_layer_of_the_memory_it_is_in(watched: Watched) -> None:
    watched.layer.held = [(HERE, loaded("m:q4", 3 * GB, GB)), (HERE, loaded("n:q8", GB)), (AWAY, loaded("x", GB))]
    watched.clock.advance(1)
    told = watched.figures.look()
    layers = {name: value / GB for name, value in told.items() if name.startswith("loaded")}
    assert layers == {"loaded.m:q4": 2.0, "loaded_gpu.m:q4": 1.0, "loaded.n:q8": 1.0}


def test_what_happened_is_told_once_and_in_words(watched: Watched) -> None:
    def seen() -> list[tuple[str, str]]:
        return [(one.kind, one.text) for one in watched.happenings.since_last(1.0)]

    assert seen() == []
    watched.layer.hosts = (
        HostStatus(HERE, HostState.HEALTHY, loaded=("m:q4",)), HostStatus(AWAY, HostState.HEALTHY, loaded=("x",)),
    )  # fmt: skip
    assert seen() == [("host", "host bench was added"), ("load", "m:q4 was loaded on the built-in runtime")]
    watched.ended(status="host_unreachable")
    watched.ended(status="host_unreachable")
    watched.ended(status="cancelled")
    watched.layer.hosts = (
        HostStatus(HERE, HostState.BUSY, loaded=("n:q8",)), HostStatus(AWAY, HostState.OFFLINE),
    )  # fmt: skip
    assert seen() == [
        ("host", "host bench does not answer"), ("unload", "m:q4 left the memory of the built-in runtime"),
        ("load", "n:q8 was loaded on the built-in runtime"), ("error", "2 requests to m:q4 failed: host unreachable"),
    ]  # fmt: skip
    watched.happenings.add(5.0, "alert", "disk is full")
    assert seen() == [("alert", "disk is full")]


def test_a_failure_that_goes_on_is_told_at_once_and_then_twice_a_minute(watched: Watched) -> None:
    """A client that asks again and again while the queue is full leaves the other marks to be seen."""

    def seen(at: float) -> list[str]:
        return [one.text for one in watched.happenings.since_last(at)]

    assert seen(0.0) == []
    watched.ended(status="queue_full")
    assert seen(1.0) == ["a request to m:q4 failed: queue full"]
    told = []
    for at in range(2, 31):
        watched.ended(status="queue_full")
        told += seen(float(at))
    watched.ended(status="stalled")
    assert told == [] and seen(30.5) == ["a request to m:q4 failed: stalled"]
    assert seen(31.0) == ["29 requests to m:q4 failed: queue full"] and seen(90.0) == []
    watched.ended(status="queue_full")
    assert seen(91.0) == ["a request to m:q4 failed: queue full"]
    watched.ended(status="queue_full")
    assert seen(40.0) == ["a request to m:q4 failed: queue full"]  # the clock was set back


async def test_who_watches_is_told_everything_first_and_then_what_changed(watched: Watched) -> None:
    watched.look(cpu=0.5, memory_used=GB)
    feed = watched.live.watch()
    first: Any = await anext(feed)
    assert first["now"]["cpu"] == 0.5 and first["unknown"]["gpu"] == "no NVIDIA GPU here"
    watched.look(cpu=0.5, memory_used=2 * GB)
    assert await anext(feed) == {"at": watched.clock.now(), "set": {"memory_used": 2.0 * GB}}
    watched.layer.hosts = (HostStatus(HERE, HostState.OFFLINE),)
    watched.look(memory_used=2 * GB, unknown={"cpu": "denied"})
    told: Any = await anext(feed)
    assert told["gone"] == ["cpu"] and told["set"] == {"hosts_down": 1.0}
    assert told["unknown"] == {"cpu": "denied", "gpu": "no NVIDIA GPU here"}
    assert told["happened"][0]["text"] == "the built-in runtime does not answer"
    await feed.aclose()


async def test_who_missed_a_second_is_told_everything_again(watched: Watched) -> None:
    watched.look(cpu=0.1)
    feed = watched.live.watch()
    await anext(feed)
    watched.look(cpu=0.2)
    watched.look(cpu=0.3)
    told: Any = await anext(feed)
    assert told["now"]["cpu"] == 0.3
    await feed.aclose()


async def test_one_difference_is_made_for_all_who_watch(watched: Watched) -> None:
    watched.look(cpu=0.1)
    feeds = [watched.live.watch() for _ in range(3)]
    for feed in feeds:
        await anext(feed)
    watched.look(cpu=0.2)
    first, *others = [await anext(feed) for feed in feeds]
    assert all(other is first for other in others)
    for feed in feeds:
        await feed.aclose()


def test_what_is_kept_has_the_moment_it_was_seen_at(watched: Watched) -> None:
    begun = watched.clock.now()
    for number in range(3):
        watched.look(cpu=number / 10)
    watched.happenings.add(begun + 3.5, "alert", "hot")
    watched.look(cpu=0.3)
    watched.live.keep()
    _, intervals = watched.store.read(begun, begun + 10)
    assert [(one.at - begun, one.figures["cpu"][0]) for one in intervals] == [(1, 0.0), (2, 0.1), (3, 0.2), (4, 0.3)]
    assert watched.store.marks(begun, begun + 10) == (Happening(begun + 3.5, "alert", "hot"),)
    watched.store.close()


def test_a_listener_that_fails_costs_nobody_else(watched: Watched) -> None:
    heard: list[int] = []

    def fails(_: Any) -> None:
        raise ValueError

    watched.live.on_sample(fails)
    watched.live.on_sample(lambda sample: heard.append(sample.number))
    watched.look(cpu=0.1)
    assert heard == [1]


async def test_it_follows_the_real_sampler(tmp_path: Path) -> None:
    watched = Watched(tmp_path)
    hardware = Hardware(lambda: Machine(cpu=0.25), lambda: Gpus(why="none"), watched.clock, every=0.01)
    live = LiveSeries(hardware, watched.figures, watched.happenings, watched.store)
    live.start()
    hardware.start()
    async with asyncio.timeout(30):
        feed = live.watch()
        while live.newest.number < 3:
            await anext(feed)
        await feed.aclose()
    await hardware.close()
    await live.stop()
    assert live.newest.figures["cpu"] == 0.25
    watched.store.close()
