"""What a comparison measures, in which order: what was asked for, the options of every request, and the steps.

Speed goes to and fro (A B C, then C B A): a machine that slows down as it warms up slows all variants alike. Quality
comes with the second round, because how many texts are forced is planned from the speeds of the first. The reference
is where the way turns, so that it answers while it is loaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from app.comparison.forcing import FIXED_OPTIONS
from app.core.errors import BadRequest
from app.core.generation import Json
from app.models.wishes import Use

QUICK, DEEP = "quick", "deep"
LEAST_CONTEXT = 512
MOST_VARIANTS = 24
QUALITY_SECONDS = 34.0  # of a quick comparison, all variants together


@dataclass(frozen=True, slots=True)
class Asked:
    """A comparison as it was asked for. `models`: any names of variants, or one of a family for all of it.

    `reference` "" takes the variant of the most bits. `questions` are the user's own (`question_set` then names them),
    else `question_set` names shipped ones, "" the usual. `host` "" takes the one that has most of them; `budget`
    (bytes), `floor` (tokens a second) and `use` are for the recommendation.
    """

    models: tuple[str, ...]
    reference: str = ""
    depth: str = QUICK
    context: int = 4096
    question_set: str = ""
    questions: tuple[str, ...] = ()
    host: str = ""
    budget: int | None = None
    floor: float | None = None
    use: str = "chat"
    seed: int = 1

    def checked(self) -> Asked:
        """Itself. Raises `BadRequest` with what is wrong."""
        if not self.models or not all(name.strip() for name in self.models):
            raise BadRequest("say which model to compare, for example llama3.2:3b", "model")
        if self.depth not in (QUICK, DEEP):
            raise BadRequest(f'depth is "{QUICK}" or "{DEEP}"', "depth")
        if self.use not in tuple(Use):
            raise BadRequest(f"use is one of {', '.join(Use)}", "use")
        if self.context < LEAST_CONTEXT:
            raise BadRequest(f"a comparison needs a context of {LEAST_CONTEXT} tokens or more", "context")
        return self

    @property
    def options(self) -> Mapping[str, Json]:
        """The fixed options of every request."""
        return {**FIXED_OPTIONS, "num_ctx": self.context, "seed": self.seed}


class Kind(StrEnum):
    SPEED = "speed"
    ANSWERS = "answers"  # the reference's own, with its rows and the control
    QUALITY = "quality"
    TASKS = "tasks"
    DEPTH = "depth"


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do with one variant (by its place in the list). `weight` is its share of the time, roughly."""

    kind: Kind
    variant: int
    round: int = 0
    weight: int = 1

    @property
    def key(self) -> str:
        return f"{self.kind} {self.variant} {self.round}"


def steps_of(depth: str, variants: int, reference: int) -> tuple[Step, ...]:
    """All steps, the reference being at that place of the list."""
    there = [*(at for at in range(variants) if at != reference), reference]
    steps = [Step(Kind.SPEED, at, 0, 3) for at in there]
    steps.append(Step(Kind.ANSWERS, reference, 0, 5))
    for at in reversed(there):
        steps.append(Step(Kind.SPEED, at, 1, 3))
        if at != reference:
            steps.append(Step(Kind.QUALITY, at, 0, 2))
        if depth == DEEP:
            steps.append(Step(Kind.DEPTH, at, 0, 6))
    if depth == DEEP:
        tasks = [reference, *(at for at in there if at != reference)]
        steps += [Step(Kind.TASKS, at, 0, 12) for at in tasks]
    return tuple(steps)
