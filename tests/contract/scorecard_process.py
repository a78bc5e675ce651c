"""A process that measures one scorecard and may be killed: `python -m tests.contract.scorecard_process DATA HOST`.

The real services over a real host; only speed is measured more briefly than a user would have it, and the texts are as
many and as long each time (they are planned from speed). What was begun under the same data folder is gone on with.
Prints what it does, line by line, and at the end the figures as JSON. `serve` in place of DATA HOST serves the product.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from app.__main__ import main as serve
from app.bootstrap import Services, build
from app.comparison import probes, scorecard
from app.comparison.plan import Asked
from app.comparison.results import Scorecard
from app.comparison.speed import Visit
from app.config import Settings
from app.host_urls import parse_hosts

BRIEF = (Visit(1, 1, 1, 2, first=True), Visit(1, 1, 1, 2))
QUESTIONS = (
    "What is the capital of France?",
    "Name three colours of the rainbow.",
    "Explain in one sentence what a bridge is.",
    "What does a baker do?",
    "How many days has a week, and which are they?",
    "Write a short greeting to a friend.",
)
ASKED = Asked(
    ("smollm2:135m-instruct-q8_0", "smollm2:135m-instruct-q4_0"),
    context=512,
    questions=QUESTIONS[:4],
    question_set="few",
)


def briefly() -> None:
    scorecard.QUICK_VISITS = BRIEF
    probes.plan = lambda speeds, seconds, *, available, deep=False: probes.Plan(min(available, 24), 12, 2)


def services_of(data: Path, host: str) -> Services:
    briefly()
    return build(Settings(data=data, hosts=parse_hosts(f"one={host}"), starter=False))


def figures(card: Scorecard) -> list[object]:
    """Everything about quality: what a comparison that was interrupted must end with as well."""
    return [[one.name, repr(one.quality), one.tier and one.tier.value] for one in card.variants] + [
        repr(card.separations)
    ]


async def main(data: Path, host: str) -> None:
    services = services_of(data, host)
    await services.start()
    try:
        known = services.comparisons.list()
        card = known[0] if known else await services.comparisons.begin(ASKED)
        told = ""
        while (job := services.comparisons.job(card.id)) is not None and job.active:
            if job.detail != told:
                told = job.detail
                print(told, flush=True)
            await asyncio.sleep(0.01)
        card = services.comparisons.get(card.id)
        print(
            json.dumps({"state": card.state, "error": job.error if job else "", "figures": figures(card)}), flush=True
        )
    finally:
        await services.stop()


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        briefly()
        sys.exit(serve(["serve", "--no-starter"]))
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
