"""The batching lab against machines whose truth is known: sweeps, arms, advice, pictures, and what may be asked."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from app.comparison.batching import advice, waves
from app.comparison.batching.frame import Frame
from app.comparison.batching.lab import HostAsItIs, _check_reach
from app.comparison.batching.options_run import OptionsRun
from app.comparison.batching.pictures import throughput
from app.comparison.batching.site import Around, Site
from app.comparison.batching.slots_run import SlotsRun
from app.comparison.batching.study import OPTIONS, AskedStudy, Shape, Study
from app.comparison.batching.waves import Answered, Visit, Wave, run_wave
from app.comparison.chart_parts import Look
from app.comparison.courtesy import Courtesy
from app.comparison.result_json import from_json, to_json
from app.comparison.results import Environment
from app.core.errors import BadRequest, HostRefused
from app.core.generation import Chunk, GenerationRequest, Usage
from app.core.hosts import HostAddress
from app.core.measures import Memory
from app.core.runtime_setup import RuntimeSetup

pytestmark = pytest.mark.anyio
SHAPE = Shape(64, 48)


class Handle:
    def __init__(self) -> None:
        self.details: list[str] = []

    def progress(self, done: int, total: int, detail: str, **_: Any) -> None:
        assert 0 <= done <= total
        self.details.append(detail)


@dataclass
class Machine:
    """Gives `rate(slots, batch)` tokens a second, each round a little off; runs at most `slots` at once."""

    rate: Callable[[int, int], float]
    slots: int = 64
    most: int = 64  # slots that fit into memory
    visits: list[tuple[RuntimeSetup, Shape, int]] = field(default_factory=list)
    unloads: int = 0

    async def open(self, setup: RuntimeSetup) -> Any:
        return replace_setup(self, setup)

    async def close(self) -> None:
        pass


def replace_setup(machine: Machine, setup: RuntimeSetup) -> Any:
    return machine, setup


class KnownSite:
    """In place of `Site`: visits without a host."""

    disturbed = 0

    def __init__(self, backend: Any, model: str, options: Any, around: Any) -> None:
        self.machine, self.setup = backend

    async def ready(self) -> None:
        if (self.setup.slots or 1) > self.machine.most:
            raise HostRefused("lab", 500, "not enough memory")

    async def visit(self, shape: Shape, count: int, waves: int = 2) -> Visit:
        self.machine.visits.append((self.setup, shape, count))
        wobble = 1 + 0.004 * (len(self.machine.visits) % 5 - 2)
        rate = self.machine.rate(min(count, self.machine.slots), self.setup.batch or 128) * wobble
        seconds = count * shape.output / rate
        at_once = min(count, self.machine.slots)
        answers = [
            Answered(0.1 if place < at_once else seconds, seconds if place >= at_once else seconds * 0.9,
                     shape.output, 0.02, shape.prompt)
            for place in range(count)
        ]  # fmt: skip
        answers[-1] = replace(answers[-1], last=seconds)
        return Visit((Wave(tuple(answers)),) * waves)

    async def unload(self, model: str) -> None:
        self.machine.unloads += 1


async def swept(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, *, own: bool = True, **asked: Any
) -> tuple[Study, Handle]:
    monkeypatch.setattr("app.comparison.batching.frame.Site", KnownSite)
    wanted = AskedStudy("m:1b", **{"shapes": (SHAPE,), **asked}).checked()
    handle, told = Handle(), []

    async def publish(study: Study) -> None:
        told.append(study)

    frame = Frame(study_of(wanted, own=own), machine, own, None, handle, publish)  # type: ignore[arg-type]
    await SlotsRun(frame).run()
    assert told
    return frame.study, handle


def study_of(asked: AskedStudy, *, own: bool = True) -> Study:
    where = Environment("0.1", "embedded", "loupe", "a machine", {"embedded": own})
    return Study("20261127-0000", "running", 0.0, asked, "d" * 64, where)


def saturating(most: float) -> Callable[[int, int], float]:
    return lambda slots, _: min(10.0 * slots, most)


async def test_a_sweep_goes_up_to_eight_slots_and_two_steps_beyond_the_knee_and_names_it(monkeypatch):
    machine = Machine(saturating(30))
    study, _ = await swept(machine, monkeypatch, most=64, rounds=6, base=RuntimeSetup(slots=1, batch=128))
    assert [point.slots for point in study.points] == [1, 2, 3, 4, 6, 8]
    assert (study.knees[0].slots, study.knees[0].bound) == (3, "")
    assert study.knees[0].confidence > 0.8 and study.knees[0].near > 0.99
    assert len(study.points[0].rates) == 3  # sure after the least number of rounds
    assert machine.visits[-1][0] == RuntimeSetup(slots=3, batch=128)  # once more as it would be set
    assert study.confirmed is not None and study.confirmed.slots == 3


async def test_after_the_first_round_small_and_large_steps_are_visited_in_turn(monkeypatch):
    machine = Machine(saturating(20))
    await swept(machine, monkeypatch, most=4, rounds=3, batches=())
    counts = [count for _, _, count in machine.visits]
    assert counts[:12] == [1, 2, 3, 4, 1, 4, 2, 3, 3, 2, 4, 1]


async def test_a_first_round_that_ended_too_early_is_made_good(monkeypatch):
    """It slowed down from visit to visit, as if nothing were gained; the later ones were undisturbed."""
    slowed = iter((1.0, 0.55, 0.42, 0.32, 0.25, 0.22))
    machine = Machine(lambda slots, _: min(10.0 * slots, 120) * next(slowed, 1.0))
    study, _ = await swept(machine, monkeypatch, most=24, rounds=6, batches=())
    assert [count for _, _, count in machine.visits][:7] == [1, 2, 3, 4, 6, 8, 1]
    assert max(point.slots for point in study.points) >= 16
    assert study.knees[0].slots in (8, 12, 16)


async def test_a_curve_that_rises_to_the_end_says_so(monkeypatch):
    study, _ = await swept(Machine(saturating(1000)), monkeypatch, most=4, batches=())
    assert (study.knees[0].slots, study.knees[0].bound) == (4, "most")
    told = advice.of_slots(study, None, None)
    assert told is not None and "still rises" in told.sentence


async def test_a_host_that_runs_no_more_at_once_ends_the_sweep(monkeypatch):
    machine = Machine(saturating(1000), slots=2)
    study, _ = await swept(machine, monkeypatch, own=False, most=16, batches=())
    assert max(point.slots for point in study.points) == 3  # of three no more ran at once than of two
    told = advice.of_slots(replace(study), None, None)
    assert told is not None and told.lines == ("OLLAMA_NUM_PARALLEL=2",)


async def test_slots_that_do_not_fit_into_memory_are_halved_and_it_is_said(monkeypatch):
    study, _ = await swept(Machine(saturating(1000), most=5), monkeypatch, most=16, batches=())
    assert max(point.slots for point in study.points) == 4
    assert "8 slots could not be had" in study.notes[1]


async def test_a_batch_is_named_only_where_it_is_faster_beyond_doubt(monkeypatch):
    base = RuntimeSetup(slots=1, batch=128)
    faster = Machine(lambda slots, batch: min(10.0 * slots, 20) * (1.3 if batch == 256 else 1.0))
    study, _ = await swept(faster, monkeypatch, most=6, base=base, batches=(256, 512))
    told = advice.of_slots(study, Memory(4096, predicted=3 << 30), 2 << 30)
    assert told is not None and told.setup == RuntimeSetup(slots=2, batch=256)
    assert told.lines == ("OLLAMA_NUM_PARALLEL=2", "LOUPE_RUNTIME_BATCH=256")
    assert any("take fewer slots" in note for note in told.notes)
    study, _ = await swept(Machine(saturating(20)), monkeypatch, most=6, base=base, batches=(256,))
    told = advice.of_slots(study, None, None)
    assert told is not None and told.setup == RuntimeSetup(slots=2)
    assert any("stays at 128" in note for note in told.notes)


async def test_what_is_set_already_is_no_change(monkeypatch):
    study, _ = await swept(Machine(saturating(20)), monkeypatch, most=6, base=RuntimeSetup(slots=2, batch=128))
    told = advice.of_slots(study, None, None)
    assert told is not None and not told.setup.changes and "set already" in told.sentence
    with pytest.raises(BadRequest, match="no change"):
        replace(study, advice=told).applicable()


async def test_a_study_survives_its_store_and_its_picture_names_every_point(monkeypatch):
    study, _ = await swept(Machine(saturating(30)), monkeypatch, most=8, base=RuntimeSetup(slots=1, batch=128))
    study = replace(study, advice=advice.of_slots(study, None, None))
    assert from_json(Study, to_json(study)) == study
    for dark in (False, True):
        drawn = throughput(study, Look(dark=dark))
        assert drawn is not None and "6 at once" in drawn["description"]
    assert throughput(study_of(study.asked), Look()) is None


# -- arms -------------------------------------------------------------------------------------------------------------


def told_speeds(factor: Callable[[RuntimeSetup], float]) -> Any:
    count = iter(range(10_000))

    async def measured(bench: Any, model: str, options: Any, visit: Any, samples: Any, joules: Any) -> None:
        speed = 40.0 * factor(bench.setup) * (1 + 0.002 * (next(count) % 3))
        samples.decodes.append([speed])
        samples.prefills.append(speed * 5)
        samples.ttfts.append(1 / speed)

    return measured


async def test_an_arm_is_faster_slower_or_not_told_apart(monkeypatch):
    monkeypatch.setattr("app.comparison.batching.frame.Site", KnownSite)
    monkeypatch.setattr(KnownSite, "words_per_token", 0.75, raising=False)
    factors = {4: 1.5, 1: 0.5, None: 1.0}
    monkeypatch.setattr(
        "app.comparison.batching.options_run.measuring.measure_answers",
        told_speeds(lambda setup: factors[setup.threads]),
    )
    arms = (RuntimeSetup(threads=4), RuntimeSetup(threads=1), RuntimeSetup(batch=64))
    asked = AskedStudy("m:1b", OPTIONS, arms=arms, rounds=4, base=RuntimeSetup(slots=1), shapes=(SHAPE,)).checked()

    async def publish(study: Study) -> None:
        pass

    machine = Machine(saturating(30))
    frame = Frame(study_of(asked), machine, True, None, Handle(), publish)  # type: ignore[arg-type]
    await OptionsRun(frame, ()).run()
    base, four, one, batch = frame.study.arms
    assert (base.verdict, four.verdict, one.verdict, batch.verdict) == ("", "faster", "slower", "no difference shown")
    assert four.decode_ratio is not None and math.isclose(four.decode_ratio.value, 1.5, rel_tol=0.01)
    assert machine.unloads == 16  # one of them at a time is in memory
    told = advice.of_options(frame.study)
    assert told is not None and told.setup == RuntimeSetup(threads=4)
    assert told.lines == ("LOUPE_RUNTIME_THREADS=4",)
    elsewhere = replace(frame.study, environment=Environment("0.1", "o", "ollama", "", {"embedded": False}))
    told = advice.of_options(elsewhere)
    assert told is not None and told.lines == ("PARAMETER num_thread 4",)


# -- waves ------------------------------------------------------------------------------------------------------------


class Counting:
    """A host that answers three pieces when all requests of a wave are there."""

    address = HostAddress("h", "http://127.0.0.1:1")

    def __init__(self, together: int) -> None:
        self.together, self.requests = together, []
        self.all_here = asyncio.Event()

    async def stream(self, request: GenerationRequest) -> AsyncIterator[Chunk]:
        self.requests.append(request)
        if len(self.requests) == self.together:
            self.all_here.set()
        await self.all_here.wait()
        for word in ("14", ",", " 15"):
            yield Chunk(b"", text=word)
        yield Chunk(b"", done=True, usage=Usage(output_tokens=3, prompt_tokens=64))


class Ticking:
    def __init__(self) -> None:
        self.at = 0.0

    def monotonic(self) -> float:
        self.at += 0.01
        return self.at

    def now(self) -> float:
        return self.at


async def test_a_wave_begins_together_and_each_request_has_words_of_its_own():
    host = Counting(4)
    wave = await run_wave(host, "m:1b", SHAPE, 4, {"num_ctx": 256}, Ticking(), 0.75)  # type: ignore[arg-type]
    assert (len(wave.answers), wave.tokens) == (4, 12)
    assert len({str(request.body["prompt"]) for request in host.requests}) == 4
    options = host.requests[0].body["options"]
    assert isinstance(options, dict) and (options["num_predict"], options["num_ctx"]) == (48, 256)


def test_how_many_ran_at_once_is_counted_from_their_answers():
    def one(first: float, last: float) -> Answered:
        return Answered(first, last, 10, 0.1, 5)

    assert Wave((one(0.1, 1.0), one(0.2, 1.0), one(1.1, 2.0))).at_once == 2
    assert Wave((one(0.1, 1.0), one(1.1, 2.0), one(2.1, 3.0))).at_once == 1


def test_a_longer_prompt_has_more_words():
    assert len(waves.prompt_of(512, 0.75)) > len(waves.prompt_of(64, 0.75)) > 0


async def test_a_measurement_beside_other_work_is_made_again():
    seen = iter([(0, 1), (0, 2), (0, 2), (0, 2)])  # before and after: one came, then none
    host = Counting(1)
    around = Around(Courtesy(lambda: False), lambda: next(seen), Ticking())
    site = Site(host, "m:1b", {}, around)  # type: ignore[arg-type]
    visit = await site.visit(SHAPE, 1, waves=1)
    assert len(visit.waves) == 1 and len(host.requests) == 3  # the warm-up, a spoiled one, a good one
    assert site.disturbed == 0


# -- what may be asked ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "wrong"),
    [
        (AskedStudy(" "), "say which model"),
        (AskedStudy("m", kind="else"), "kind is"),
        (AskedStudy("m", most=1), "most is"),
        (AskedStudy("m", rounds=1), "rounds is"),
        (AskedStudy("m", shapes=()), "shapes"),
        (AskedStudy("m", shapes=(Shape(64, 0),)), "a shape has"),
        (AskedStudy("m", batches=(4096,)), "batch is"),
        (AskedStudy("m", OPTIONS), "1 to 8 setups"),
        (AskedStudy("m", OPTIONS, arms=(RuntimeSetup(),)), "an arm names"),
        (AskedStudy("m", OPTIONS, arms=(RuntimeSetup(slots=2),)), "an arm names"),
        (AskedStudy("m", OPTIONS, arms=(RuntimeSetup(threads=2),) * 2), "the same"),
        (AskedStudy("m", OPTIONS, arms=(RuntimeSetup(kv_type="q9"),)), "kv_type is one of"),
        (AskedStudy("m", OPTIONS, arms=(RuntimeSetup(kv_type="q8_0", flash=False),)), "needs flash attention"),
        (AskedStudy("m", OPTIONS, arms=(RuntimeSetup(threads=2),), at_once=0), "at_once"),
    ],
)  # fmt: skip
def test_what_cannot_be_asked_is_refused_in_a_sentence(asked, wrong):
    with pytest.raises(BadRequest, match=wrong):
        asked.checked()


def test_a_host_that_is_not_ours_takes_what_goes_with_a_request():
    there = HostAddress("ollama", "http://127.0.0.1:11434")
    _check_reach(AskedStudy("m", OPTIONS, arms=(RuntimeSetup(threads=2, batch=64),)), there)
    with pytest.raises(BadRequest, match="set OLLAMA_KV_CACHE_TYPE there"):
        _check_reach(AskedStudy("m", OPTIONS, arms=(RuntimeSetup(kv_type="q8_0"),)), there)


async def test_a_host_as_it_is_stays():
    host = object()
    grounds = HostAsItIs(host)  # type: ignore[arg-type]
    await grounds.close()
    assert await grounds.open(RuntimeSetup(slots=4)) is host


def test_a_setup_says_what_it_changes():
    setup = RuntimeSetup(slots=4, batch=256, flash=False, threads=1, kv_type="f16")
    assert setup.told == "4 slots, 1 thread, batch 256, flash attention off, KV cache f16"
    assert setup.environment["OLLAMA_FLASH_ATTENTION"] == "0"
    assert setup.options == {"num_thread": 1, "num_batch": 256}
    assert setup.without(RuntimeSetup(slots=4, batch=128)).changes.keys() == {"batch", "flash", "threads", "kv_type"}
    assert RuntimeSetup(slots=1, batch=64).under(RuntimeSetup(slots=2)) == RuntimeSetup(slots=2, batch=64)
