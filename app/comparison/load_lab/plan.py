"""What a load run is asked for, checked: nothing in it is without a bound."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import islice, takewhile

from app.comparison.load_lab import arrivals
from app.comparison.load_lab.arrivals import Arrivals
from app.comparison.load_lab.lengths import MOST_TOKENS, Lengths
from app.core.errors import BadRequest

MOST_REQUESTS = 20_000
MOST_SECONDS = 3600.0
MOST_RATE = 1000.0  # a second
MOST_USERS = 256
MOST_SPEED = 10_000.0
MOST_QUESTIONS = 2000
LONGEST_QUESTION = 100_000  # characters
LONGEST_DRAIN = 600.0


@dataclass(frozen=True, slots=True)
class Recorded:
    """A request of a recorded day: its moment in seconds (only differences count), and its lengths in tokens, 0 where
    they are not known."""

    at: float
    prompt: int = 0
    output: int = 0


@dataclass(frozen=True, slots=True)
class Limits:
    """What a good answer keeps to, in seconds; None is no limit. `tpot` is the time between two tokens."""

    ttft: float | None = None
    tpot: float | None = None
    e2e: float | None = None

    @property
    def any(self) -> bool:
        return (self.ttft, self.tpot, self.e2e) != (None, None, None)


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """`models`: each with its share of the requests. `rate` in requests a second (of a ramp: at its start, `to_rate` at
    its end), `seconds` for which they come, `count` of them at most (0: as many as come). `prompt` and `output` are
    lengths as `Lengths` reads them. `questions` are asked instead of made-up prompts, `chats` takes those of one's own
    chats with the lengths of their answers. `recording` and `speed` belong to recorded arrivals; without a recording
    Loupe's own last requests are played again. `users`: how many different people ask. `drain`: seconds after the last
    arrival after which what is not answered is given up. `anyway`: also where others use the host. `seed` 0 draws one.
    """

    models: Mapping[str, float]
    arrivals: Arrivals = Arrivals.POISSON
    rate: float = 1.0
    to_rate: float | None = None
    seconds: float = 60.0
    count: int = 0
    prompt: str = "128"
    output: str = "64"
    questions: tuple[str, ...] = ()
    chats: bool = False
    recording: tuple[Recorded, ...] = ()
    speed: float = 1.0
    limits: Limits = field(default_factory=Limits)
    users: int = 32
    context: int | None = None
    drain: float = 60.0
    host: str = ""
    anyway: bool = False
    seed: int = 0

    def checked(self) -> LoadPlan:
        """With the seed that it will be drawn with. Raises `BadRequest` naming what is wrong."""
        self._check_models()
        _within("rate", self.rate, 0.001, MOST_RATE, "requests a second")
        _within("seconds", self.seconds, 0.1, MOST_SECONDS, "seconds")
        _within("count", self.count, 0, MOST_REQUESTS, "requests (0: as many as come)")
        _within("users", self.users, 1, MOST_USERS, "people")
        _within("drain", self.drain, 1.0, LONGEST_DRAIN, "seconds")
        _within("speed", self.speed, 0.01, MOST_SPEED, "times as fast")
        self._check_arrivals()
        if self.context is not None:
            _within("context", self.context, 16, 1 << 20, "tokens")
        for limit in fields(self.limits):
            if (value := getattr(self.limits, limit.name)) is not None:
                _within(limit.name, value, 0.001, 3600.0, "seconds")
        Lengths.parse(self.prompt, "prompt")
        Lengths.parse(self.output, "output")
        self._check_questions()
        return self if self.seed else replace(self, seed=random.SystemRandom().randrange(1, 2**31))

    def _check_models(self) -> None:
        if not self.models:
            raise BadRequest("say which model gets the load", "models")
        if len(self.models) > 16:
            raise BadRequest("at most 16 models in one mix", "models")
        for name, share in self.models.items():
            if not name.strip():
                raise BadRequest("a model of the mix has no name", "models")
            _within("models", share, 0.001, 1_000_000, f"as the share of {name[:64]}")

    def _check_arrivals(self) -> None:
        """What belongs to other arrivals than those asked for is a slip: the run would be another than was meant."""
        ramp, recorded = self.arrivals is Arrivals.RAMP, self.arrivals is Arrivals.RECORDED
        if self.to_rate is not None:
            _within("to_rate", self.to_rate, 0.001, MOST_RATE, "requests a second")
        if ramp and self.to_rate is None:
            raise BadRequest("a ramp needs to_rate, the requests a second at its end", "to_rate")
        if not ramp and self.to_rate is not None:
            raise BadRequest("to_rate belongs to the arrivals of a ramp; ask for ramp, or leave it out", "to_rate")
        if not recorded and self.recording:
            raise BadRequest("a recording is played by recorded arrivals; ask for them, or leave it out", "recording")
        if not recorded and self.speed != 1:
            raise BadRequest("speed belongs to recorded arrivals; for others say a higher rate", "speed")

    def _check_questions(self) -> None:
        if len(self.questions) > MOST_QUESTIONS or any(len(text) > LONGEST_QUESTION for text in self.questions):
            raise BadRequest(
                f"at most {MOST_QUESTIONS:,} questions of at most {LONGEST_QUESTION:,} characters", "questions"
            )
        if any(not text.strip() for text in self.questions):
            raise BadRequest("a question is empty", "questions")
        if self.questions and self.chats:
            raise BadRequest("either questions or chats: whose are asked?", "chats")
        if len(self.recording) > MOST_REQUESTS:
            raise BadRequest(f"a recording of at most {MOST_REQUESTS:,} requests", "recording")
        for row in self.recording:
            if not (math.isfinite(row.at) and 0 <= row.prompt <= MOST_TOKENS and 0 <= row.output <= MOST_TOKENS):
                raise BadRequest("a request of the recording has no sound moment or length", "recording")

    def moments(self, dice: random.Random) -> tuple[float, ...]:
        """When each request is due, in seconds since the start."""
        return tuple(islice(takewhile(lambda due: due < self.seconds, self._coming(dice)), self.count or MOST_REQUESTS))

    def lasts(self, moments: Sequence[float]) -> float:
        """Seconds for which questions come; what counts or replays them ends with the last one."""
        return moments[-1] if self.counted(len(moments)) else self.seconds

    def counted(self, asked: int) -> bool:
        """Whether a run of so many requests ends with the last of them, and not with its time."""
        return self.arrivals is Arrivals.RECORDED or asked >= (self.count or MOST_REQUESTS)

    def _coming(self, dice: random.Random) -> Iterator[float]:
        match self.arrivals:
            case Arrivals.CONSTANT:
                return arrivals.constant(self.rate)
            case Arrivals.RAMP:
                return arrivals.ramp(self.rate, self.to_rate or self.rate, self.seconds, dice)
            case Arrivals.RECORDED:
                return arrivals.replayed([row.at for row in self.recording], self.speed)
        return arrivals.poisson(self.rate, dice)


def _within(field_name: str, value: float, low: float, high: float, unit: str) -> None:
    if not low <= value <= high:  # also where it is no number
        raise BadRequest(f"{field_name} is {low:g} to {high:,.12g} {unit}; it was {value:g}", field_name)
