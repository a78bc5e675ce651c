"""How true the queue's estimates are: what was foretold at each position against the wait that came.

    python -m benchmarks.eta [--waits 600] [--minutes 24] [--seed 1] [--plot docs/queue-eta.svg]

Four variants of the starter family on Loupe's own runtime, one slot, one model in memory. Eight clients (flows) ask in
turn and think for a while in between. Three want stories and limit them (`num_predict`), which is where these end; five
want facts, ask with a low temperature, and their answers end by themselves, but for a guard of 60 tokens. Every
statement counts: one at the arrival, and one at each further position a request comes to, the first ones included.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from app.core.errors import LoupeError
from app.core.generation import CacheMode, GenerationRequest, Json
from app.services.chat import Caller
from app.services.queueing.views import Eta
from benchmarks.harness import Report
from benchmarks.plot import Plot
from proving.stand import Loupe, loupe
from tests.runtime_process import runtime
from tests.starter_cache import linked_store

VARIANTS = ("q8_0", "q4_k_m", "q4_0", "q2_k")
PLACES = ("France", "Japan", "Peru", "Kenya", "Norway", "Egypt", "Canada", "India", "Chile", "Poland", "Cuba", "Iran")
THINGS = ("rain", "bread", "the moon", "a river", "gold", "music", "a bridge", "salt", "wind", "paper", "glass", "ice")
MEAN_THINKING = 2.5  # seconds


@dataclass(frozen=True, slots=True)
class Kind:
    """What one client asks: the text around a word, and what it sets. Who wants a fact asks with a low temperature."""

    text: str
    words: Sequence[str]
    most: int = 60  # tokens; who expects a sentence says so, for a small model may never come to an end
    temperature: float = 0.2


KINDS = (
    Kind("What is the capital of {}?", PLACES),
    Kind("Say in one sentence what {} is.", THINGS),
    Kind("In which continent is {}? Answer in a short sentence.", PLACES),
    Kind("Name one use of {}, in one sentence.", THINGS),
    Kind("What is the capital of {}? Answer shortly.", PLACES),
    Kind("Tell a long story about {}.", THINGS, 32, 0.8),
    Kind("Write everything you know about {}.", PLACES, 64, 0.8),
    Kind(
        "Tell a long story about {}. " + "It is told at night, by the fire, to children who cannot sleep. " * 8,
        THINGS,
        128,
        0.8,
    ),
)


@dataclass(slots=True)
class Told:
    """One statement, and what came."""

    position: int
    eta: Eta
    actual: float

    @property
    def held(self) -> bool:
        return self.eta.low <= self.actual <= self.eta.high

    @property
    def error(self) -> float:
        return abs(self.eta.likely - self.actual) / max(self.actual, 1e-3)


class Trial:
    def __init__(self, product: Loupe, waits: int, minutes: float, dice: random.Random) -> None:
        self._product, self._waits, self._dice = product, waits, dice
        self._until = time.monotonic() + 60 * minutes
        self.told: list[Told] = []
        self.arrivals = self.ended = self.cut = self.broken = 0

    def foretold(self, position: int, eta: Eta, actual: float) -> None:
        self.told.append(Told(position, eta, actual))

    async def client(self, number: int, kind: Kind) -> None:
        dice = random.Random(self._dice.random())
        while self.arrivals < self._waits and time.monotonic() < self._until:
            await asyncio.sleep(dice.expovariate(1 / MEAN_THINKING))
            await self._ask(f"client {number}", kind, dice)

    async def _ask(self, flow: str, kind: Kind, dice: random.Random) -> None:
        options: dict[str, Json] = {
            "seed": dice.randrange(1 << 30), "num_ctx": 2048, "num_predict": kind.most, "temperature": kind.temperature,
        }  # fmt: skip
        body: dict[str, Json] = {
            "model": f"smollm2:135m-instruct-{dice.choice(VARIANTS)}",
            "messages": [{"role": "user", "content": kind.text.format(dice.choice(kind.words))}],
            "options": options,
        }
        services = self._product.services
        caller = Caller(flow=flow, cache_mode=CacheMode.BYPASS, trace=services.telemetry.trace(flow=flow))
        before = len(self.told)
        try:
            async with aclosing(services.chat.ask(GenerationRequest("chat", body), caller)) as chunks:
                async for chunk in chunks:
                    if chunk.done:
                        self.ended += chunk.done_reason == "stop"
                        self.cut += chunk.done_reason == "length"
        except LoupeError:  # a small model that repeats itself is stopped by its host
            self.broken += 1
        self.arrivals += len(self.told) > before


async def measure(waits: int, minutes: float, seed: int, folder: Path) -> Trial:
    store = linked_store(folder / "store", VARIANTS)
    with runtime(store, folder / "runtime.log", OLLAMA_MAX_LOADED_MODELS="1") as host:
        async with loupe(
            folder, [host.url], queue_wait_seconds=3600, queue_batch_wait_seconds=3600, queue_per_client=64,
            swap_hold_seconds=5, swap_overdue_seconds=20,
        ) as product:  # fmt: skip
            trial = Trial(product, waits, minutes, random.Random(seed))
            product.services.telemetry.metrics.foretold = trial.foretold  # type: ignore[method-assign]
            await asyncio.gather(*(trial.client(number, kind) for number, kind in enumerate(KINDS)))
    return trial


def tell(trial: Trial, plot: Path | None) -> None:
    report = Report("eta", "Estimates of the queue against the waits that came")
    positions = sorted({told.position for told in trial.told})
    rows = [_row(str(position), [told for told in trial.told if told.position == position]) for position in positions]
    rows.append(_row("4 and more", [told for told in trial.told if told.position >= 4]))
    heads = ("position", "n", "median wait, s", "median error, %", "range holds, %", "high / low, widest")
    report.table("Statements by position", heads, rows)
    report.say(
        f"{trial.arrivals} waits; {trial.ended} answers ended by themselves, {trial.cut} at their limit, "
        f"{trial.broken} were broken off by the host (a repeated token). The first statements are made while nothing "
        "has been learned; they are in the figures."
    )
    report.finish()
    if plot is not None:
        points = [(told.actual, told.eta.likely) for told in trial.told]
        drawn = Plot("Foretold and actual wait, seconds", "actual wait, s", "foretold, s")
        drawn.points("statements", points)
        top = max(max(point) for point in points)
        drawn.line("as it came", [(0.0, 0.0), (top, top)])
        plot.write_text(drawn.svg(), encoding="utf-8")


def _row(name: str, told: Sequence[Told]) -> list[str]:
    if not told:
        return [name, "0", "–", "–", "–", "–"]
    return [
        name, str(len(told)), f"{median(one.actual for one in told):.2f}",
        f"{100 * median(one.error for one in told):.0f}", f"{100 * sum(one.held for one in told) / len(told):.0f}",
        f"{max(one.eta.high / one.eta.low for one in told):.2f}",
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description="Estimates of the queue against the waits that came.")
    parser.add_argument("--waits", type=int, default=600)
    parser.add_argument("--minutes", type=float, default=24.0, help="stop asking after so long")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--plot", type=Path)
    words = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="eta-") as folder:
        trial = asyncio.run(measure(words.waits, words.minutes, words.seed, Path(folder)))
    tell(trial, words.plot)


if __name__ == "__main__":
    main()
