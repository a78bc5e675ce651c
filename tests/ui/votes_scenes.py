"""States of the votes view to look at, over fake services."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import combinations
from typing import Any

from app.comparison.ballots import Poll
from app.comparison.blind_votes import Choice, Vote
from app.comparison.rounds import Pane
from app.core.errors import HostUnreachable
from app.core.generation import GenerationRequest
from app.services.chat import Caller
from tests.ui.fake_services import FakeServices, Step
from tests.ui.side_scenes import NAMES, TEXTS, label_of, says

FAMILY = "SmolLM2 135M Instruct"
QUESTIONS = ("What is the capital of France, and what is it known for?", "And of Italy?", "And of Spain?")
STRENGTH = {"F16": 1.0, "Q8_0": 0.9, "Q4_K_M": 0.5, "Q2_K": -1.6}


def poll(services: FakeServices, *labels: str, questions: tuple[str, ...] = QUESTIONS) -> None:
    """A poll begun as from another page, when something can be seen of it."""

    async def begin() -> None:
        panes = tuple(Pane(NAMES[label], label) for label in labels)
        await services.ballots.open(Poll(FAMILY, "general", panes, questions), Caller())
        async for view in services.ballots.watch("local"):
            if view.ballot or view.done or view.error:
                break

    services.run(begin())


def cast(services: FakeServices, number: int, *labels: str, task: str = "general") -> None:
    """Votes of somebody who prefers more bits, most of the time."""
    draw = random.Random(4)
    for at in range(number):
        one, other = draw.choice(list(combinations(labels, 2)))
        tie = draw.random() < 0.15
        better = draw.random() < 1 / (1 + 2.718 ** (2 * (STRENGTH[other] - STRENGTH[one])))
        choice: Choice = "tie" if tie else "a" if better else "b"
        if draw.random() < 0.1:
            choice = "same"
        vote = Vote(f"{task}{at}", float(at), "local", FAMILY, task, "?", NAMES[one], NAMES[other], choice)
        services.ballots._store.add(vote)


def votes_empty(services: FakeServices) -> str:
    return "/compare?view=Votes"


def votes(services: FakeServices) -> str:
    services.model.script = says(TEXTS)
    cast(services, 60, "F16", "Q4_K_M", "Q2_K")
    cast(services, 9, "F16", "Q8_0", task="code")
    poll(services, "F16", "Q4_K_M")
    return "/compare?view=Votes"


def votes_results(services: FakeServices) -> str:
    cast(services, 90, *STRENGTH)
    cast(services, 9, "F16", "Q8_0", task="code")
    return "/compare?view=Votes"


def votes_waiting(services: FakeServices) -> str:
    event, _ = services.gate()
    services.model.script = lambda _: ["Paris", event]

    async def begin() -> None:
        panes = tuple(Pane(NAMES[label], label) for label in ("F16", "Q2_K"))
        await services.ballots.open(Poll(FAMILY, "general", panes, QUESTIONS), Caller())

    services.run(begin())
    return "/compare?view=Votes"


def votes_same(services: FakeServices) -> str:
    """Nothing to choose: every answer has the same words."""
    services.model.script = lambda _: ["Paris."]
    poll(services, "F16", "Q8_0")
    return "/compare?view=Votes"


def votes_error(services: FakeServices) -> str:
    def script(request: GenerationRequest) -> Sequence[Step]:
        return [HostUnreachable("built-in", "connection refused")] if label_of(request.model) == "Q2_K" else ["Paris"]

    services.model.script = script
    poll(services, "F16", "Q2_K")
    return "/compare?view=Votes"


VOTES_SCENES: dict[str, Any] = {
    scene.__name__: scene
    for scene in (votes_empty, votes, votes_results, votes_waiting, votes_same, votes_error)
}  # fmt: skip
