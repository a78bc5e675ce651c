"""Whether the batching lab names the same knee each time: some sweeps of one model on Loupe's own runtime.

python -m benchmarks.batching [--runs 3] [--model smollm2:135m-instruct-q4_0] [--most 12] [--shape 64:48]

Three runs of one shape take 4 to 12 minutes on a machine that rests.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
from pathlib import Path

from app.bootstrap import Services, build
from app.comparison.batching.study import LADDER, UNDER_WAY, AskedStudy, Shape, Study
from app.config import Settings
from app.core.hosts import ANSWERING
from benchmarks.harness import Report
from tests.starter_cache import linked_store


async def sweep(services: Services, asked: AskedStudy) -> Study:
    study = await services.batching.begin(asked)
    while services.batching.get(study.id).state in UNDER_WAY:
        await asyncio.sleep(0.2)
    return services.batching.get(study.id)


async def measure(folder: Path, runs: int, asked: AskedStudy) -> list[Study]:
    linked_store(folder / "models", (asked.model.rpartition("-")[2],))
    services = build(Settings(data=folder, starter=False))
    await services.start()
    try:
        while not any(one.state in ANSWERING for one in services.pool.statuses()):
            await asyncio.sleep(0.05)
        return [await sweep(services, asked) for _ in range(runs)]
    finally:
        await services.stop()


def shape_of(text: str) -> Shape:
    prompt, _, output = text.partition(":")
    return Shape(int(prompt), int(output))


def rows(number: int, study: Study) -> list[list[str]]:
    found = []
    for knee in study.knees:
        points = [point for point in study.points if point.shape == knee.shape]
        rates = " ".join(f"{point.slots}:{point.rate.value:.1f}" for point in points)
        minutes = ((study.ended_at or study.started_at) - study.started_at) / 60
        found.append([
            str(number), knee.shape.told, rates, str(knee.slots), f"{knee.confidence:.0%}", f"{knee.near:.0%}",
            str(len(points[0].rates)), f"{minutes:.1f}",
        ])  # fmt: skip
    return found


def verdict(studies: list[Study], shape: Shape) -> str:
    """Whether all named the same step, or one beside the middle one."""
    ladder = sorted({*LADDER, *(study.asked.most for study in studies)})
    named = [knee.slots for study in studies for knee in study.knees if knee.shape == shape]
    if not named:
        return f"{shape.told}: no knee was named."
    places = sorted(ladder.index(slots) for slots in named)
    middle = places[len(places) // 2]
    apart = max(abs(place - middle) for place in places)
    told = "the same each time" if apart == 0 else f"up to {apart} step{'s' if apart > 1 else ''} from the middle one"
    return f"{shape.told}: knees at {', '.join(map(str, named))} slots: {told}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--model", default="smollm2:135m-instruct-q4_0")
    parser.add_argument("--most", type=int, default=12)
    parser.add_argument("--shape", action="append", default=[], type=shape_of, metavar="PROMPT:ANSWER")
    options = parser.parse_args()
    asked = AskedStudy(options.model, most=options.most, shapes=tuple(options.shape) or (Shape(64, 48),)).checked()
    with tempfile.TemporaryDirectory() as folder:
        studies = asyncio.run(measure(Path(folder), options.runs, asked))
    heads = ("run", "shape", "tok/s by slots", "knee", "sure", "± one step", "rounds", "minutes")
    report = Report("batching", "Batching lab: the same knee each time?")
    report.table(options.model, heads, [row for number, study in enumerate(studies, 1) for row in rows(number, study)])
    for number, study in enumerate(studies, 1):
        report.say(f"{number}: {study.advice.sentence if study.advice else study.state}")
    for shape in asked.shapes:
        report.say(verdict(studies, shape))
    report.finish()


if __name__ == "__main__":
    main()
