"""Speed from requests made for it, on a bench that answers as it was told: what counts, what is measured again."""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Mapping, Sequence

import pytest

from app.comparison import speed
from app.comparison.bench import Reply
from app.comparison.speed import (
    QUICK_VISITS,
    SpeedSamples,
    Visit,
    log_t,
    measure_answers,
    measure_depths,
    measure_load,
    no_joules,
    speed_of,
)
from app.core.generation import Json, Usage
from app.core.hosts import LoadedModel, ModelDetail

pytestmark = pytest.mark.anyio
OPTIONS: Mapping[str, Json] = {"num_ctx": 4096}
VISIT = Visit(2, 2, 2, 2)
FAST, SLOW = 4000.0, 400.0  # tokens a second that are read: 256 of them in 0.06 s, or in 0.6 s


class FakeBench:
    """A host that reads `prefill` and writes `decode` tokens a second. `disturb` says which requests are disturbed."""

    def __init__(self, *, prefill: float = 400.0, decode: float = 50.0, longest: int = 10_000) -> None:
        self.prefill, self.decode, self.longest = prefill, decode, longest
        self.bodies: list[Mapping[str, Json]] = []
        self.did: list[str] = []
        self.load_seconds = [3.0, 1.0, 1.2]
        self.disturb: Callable[[int], bool] = lambda number: False
        self.cached = False
        self.noise: random.Random | None = None  # of a tenth of each time, where there is one

    @property
    def host(self) -> str:
        return "one"

    async def generate(self, model: str, body: Mapping[str, Json]) -> Reply:
        self.bodies.append(body)
        options = body["options"]
        assert isinstance(options, dict) and isinstance(body["prompt"], str)
        most = options["num_predict"]
        assert isinstance(most, int)
        prompt, written = len(body["prompt"].split()), min(most, self.longest)
        reading = 0.02 + (40 if self.cached else prompt) / self.prefill
        reading *= math.exp(self.noise.gauss(0, 0.1)) if self.noise else 1.0
        usage = Usage(0, 0, prompt, int(reading * 1e9), written, int(written / self.decode * 1e9))
        return Reply("x " * written, usage, reading + 0.01, reading + written / self.decode,
                     disturbed=self.disturb(len(self.bodies)))  # fmt: skip

    async def render(self, model: str, question: str, system: str = "") -> str:
        return question

    async def load(self, model: str, options: Mapping[str, Json]) -> float:
        self.did.append("load")
        return self.load_seconds.pop(0) if self.load_seconds else 1.0

    async def unload(self, model: str) -> None:
        self.did.append("unload")

    async def loaded(self) -> Sequence[LoadedModel]:
        return ()

    async def show(self, model: str) -> ModelDetail:
        return ModelDetail({})

    async def version(self) -> tuple[str, str]:
        return "0.33.0", ""


async def measured(bench: FakeBench, visit: Visit = VISIT) -> SpeedSamples:
    samples = SpeedSamples()
    await measure_load(bench, "m", OPTIONS, visit, samples)
    await measure_answers(bench, "m", OPTIONS, visit, samples, no_joules)
    return samples


async def test_the_figures_are_those_of_the_host() -> None:
    samples = await measured(FakeBench(prefill=SLOW))
    told, notes = speed_of(samples)
    assert samples.short_pairs
    assert told.decode_tps and told.prefill_tps and told.ttft and told.load
    assert told.decode_tps.value == pytest.approx(50, rel=1e-6) and told.decode_tps.n == 2  # the first is a warm-up
    assert told.prefill_tps.value == pytest.approx(400, rel=1e-6)  # the fixed cost of a request cancels
    assert told.ttft.value == pytest.approx(0.03 + 257 / 400, rel=0.05)
    assert (told.load.value, told.load.low, told.load.high, told.load.n) == (2.0, 1.0, 3.0, 2)
    assert notes == ("energy is not measurable here",)


async def test_where_reading_is_fast_prefill_is_told_from_long_prompts() -> None:
    bench = FakeBench(prefill=FAST)
    samples = await measured(bench)
    assert samples.short_pairs is False and len(samples.prefills) == VISIT.pairs
    assert samples.prefills == pytest.approx([FAST] * VISIT.pairs)
    assert max(len(str(body["prompt"]).split()) for body in bench.bodies) > 600


async def test_how_the_first_variant_was_measured_so_are_the_others() -> None:
    samples = SpeedSamples(short_pairs=True)
    await measure_answers(FakeBench(prefill=FAST), "m", OPTIONS, VISIT, samples, no_joules)
    assert len(samples.prefills) == VISIT.ttfts
    samples, bench = SpeedSamples(short_pairs=False), FakeBench(prefill=SLOW)
    await measure_answers(bench, "m", OPTIONS, VISIT, samples, no_joules)
    assert len(samples.prefills) == VISIT.pairs and max(len(str(body["prompt"]).split()) for body in bench.bodies) > 400


async def test_short_pairs_read_less_than_half_and_say_it_no_less_surely() -> None:
    """On a host whose times vary by a tenth: the same figure, from fewer tokens, with a narrower interval."""
    middles: dict[bool, list[float]] = {}
    widths: dict[bool, list[float]] = {}
    read: dict[bool, int] = {}
    for short in (True, False):
        for seed in range(80):
            bench, samples = FakeBench(prefill=SLOW), SpeedSamples(short_pairs=short, words_per_token=1.0)
            bench.noise = random.Random(seed)
            for visit in QUICK_VISITS:
                await measure_answers(bench, "m", OPTIONS, visit, samples, no_joules)
            figure = speed_of(samples)[0].prefill_tps
            assert figure and figure.low and figure.high
            middles.setdefault(short, []).append(figure.value)
            widths.setdefault(short, []).append(math.log(figure.high / figure.low))
            read[short] = sum(len(str(body["prompt"]).split()) for body in bench.bodies)
    assert statistics.median(middles[True]) == pytest.approx(statistics.median(middles[False]), rel=0.02)
    assert statistics.median(widths[True]) < statistics.median(widths[False])
    assert read[True] < read[False] / 2


async def test_every_prompt_begins_with_another_nonce_and_asks_for_nothing_that_slows() -> None:
    bench = FakeBench()
    await measured(bench)
    prompts = [str(body["prompt"]) for body in bench.bodies]
    assert len({prompt[:10] for prompt in prompts}) == len(prompts)
    for body in bench.bodies:
        assert body["raw"] is True and not {"logprobs", "format", "top_logprobs"} & set(body)
        assert isinstance(body["options"], dict) and body["options"]["num_ctx"] == 4096


async def test_the_first_load_of_all_brings_the_file_into_the_cache_and_does_not_count() -> None:
    bench, samples = FakeBench(), SpeedSamples()
    await measure_load(bench, "m", OPTIONS, Visit(2, 1, 1, 1, first=True), samples)
    assert samples.loads == [1.0] and bench.did == ["unload", "load"] * 2


async def test_what_was_disturbed_is_measured_again_and_said_where_it_stays_so() -> None:
    bench = FakeBench()
    bench.disturb = lambda number: number == 2
    assert (await measured(bench)).disturbed == 0
    bench = FakeBench()
    bench.disturb = lambda number: number > 1
    assert (await measured(bench)).disturbed > 0


async def test_a_host_that_answers_from_its_prompt_cache_is_caught() -> None:
    bench = FakeBench()
    bench.cached = True
    for short in (None, True):  # long prompts, for it reads them fast; and short ones, where the first variant was slow
        samples = SpeedSamples(short_pairs=short)
        await measure_answers(bench, "m", OPTIONS, VISIT, samples, no_joules)
        told, notes = speed_of(samples)
        assert samples.absurd and told.prefill_tps is None and any("prompt cache" in note for note in notes)


async def test_a_model_that_ends_early_is_given_other_openings_and_then_left_unmeasured() -> None:
    bench = FakeBench(longest=20)
    told, notes = speed_of(await measured(bench))
    assert told.decode_tps is None and any("no answer had 48 tokens" in note for note in notes)
    openings = {str(body["prompt"]).partition("] ")[2] for body in bench.bodies[-5:]}
    assert len(openings) == 5


async def test_energy_is_what_was_drawn_meanwhile() -> None:
    samples, drawn = SpeedSamples(), iter(range(0, 1000, 32))

    async def joules() -> float:
        return float(next(drawn))

    await measure_answers(FakeBench(), "m", OPTIONS, VISIT, samples, joules)
    told, _ = speed_of(samples)
    assert told.joules_per_token and told.joules_per_token.value == pytest.approx(32 / 64)


async def test_depths_go_as_far_as_the_context() -> None:
    samples = SpeedSamples(words_per_token=1.0)
    found = await measure_depths(FakeBench(), "m", {"num_ctx": 4096}, samples)
    assert [one.depth for one in found] == [0, 2048]
    assert found[0].decode_tps.value == pytest.approx(50, rel=1e-6)


async def test_a_short_context_has_short_prompts() -> None:
    bench, samples = FakeBench(), SpeedSamples(words_per_token=1.0)
    await measure_answers(bench, "m", {"num_ctx": 512}, VISIT, samples, no_joules)
    assert max(len(str(body["prompt"]).split()) for body in bench.bodies) <= 260 and samples.prefills


async def test_sustained_speed_is_the_end_to_the_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = FakeBench()

    async def slowing(model: str, body: Mapping[str, Json]) -> Reply:
        bench.decode *= 0.98
        return await FakeBench.generate(bench, model, body)

    monkeypatch.setattr(bench, "generate", slowing)
    ratio = await speed.measure_sustained(bench, "m", OPTIONS, seconds=30.0)
    assert ratio is not None and 0.3 < ratio < 0.95


def test_an_interval_is_that_of_the_logarithms() -> None:
    told = log_t([90.0, 100.0, 110.0, 100.0])
    logs = [math.log(one) for one in (90, 100, 110, 100)]
    middle = sum(logs) / 4
    spread = math.sqrt(sum((one - middle) ** 2 for one in logs) / 3 / 4) * 3.182446
    assert told.value == pytest.approx(math.exp(middle))
    assert (told.low, told.high) == (
        pytest.approx(math.exp(middle - spread), rel=1e-5), pytest.approx(math.exp(middle + spread), rel=1e-5),
    )  # fmt: skip
    assert log_t([5.0]).low is None
