"""What a study of slots or of runtime options asked for and found. Seconds, tokens, tokens a second."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from app.comparison.results import Environment, Estimate, Quality, Tier
from app.core.errors import BadRequest
from app.core.generation import Json
from app.core.runtime_setup import MOST_SLOTS, RuntimeSetup

SLOTS, OPTIONS = "slots", "options"
UNDER_WAY = ("running", "paused")
LADDER = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
MOST_SHAPES, MOST_ARMS = 4, 8
LEAST_ROUNDS, MOST_ROUNDS = 2, 20
LONGEST_PROMPT, LONGEST_OUTPUT, LEAST_OUTPUT = 32_768, 2048, 4


@dataclass(frozen=True, slots=True)
class Shape:
    """A kind of request: tokens of its prompt and of its answer, both within a few per cent."""

    prompt: int
    output: int

    @property
    def told(self) -> str:
        return f"{self.prompt} → {self.output} tokens"


USUAL_SHAPES = (Shape(64, 48), Shape(512, 32))


@dataclass(frozen=True, slots=True)
class AskedStudy:
    """A study as it was asked for. Of slots: up to `most` answers at once, each of `shapes`. Of options: `arms` against
    what is in force (`base`), the answers of `at_once` requests together beside one alone. `rounds` at most."""

    model: str
    kind: str = SLOTS
    host: str = ""
    most: int = 8
    shapes: tuple[Shape, ...] = USUAL_SHAPES
    rounds: int = 6
    batches: tuple[int, ...] = ()
    arms: tuple[RuntimeSetup, ...] = ()
    at_once: int = 1
    base: RuntimeSetup = RuntimeSetup()

    def checked(self) -> AskedStudy:
        """Itself. Raises `BadRequest` with what is wrong."""
        if not self.model.strip():
            raise BadRequest("say which model to measure with, for example llama3.2:3b", "model")
        if self.kind not in (SLOTS, OPTIONS):
            raise BadRequest(f'kind is "{SLOTS}" or "{OPTIONS}"', "kind")
        if not LEAST_ROUNDS <= self.rounds <= MOST_ROUNDS:
            raise BadRequest(f"rounds is a whole number from {LEAST_ROUNDS} to {MOST_ROUNDS}", "rounds")
        if not 1 <= len(self.shapes) <= MOST_SHAPES:
            raise BadRequest(f"name 1 to {MOST_SHAPES} shapes of requests", "shapes")
        for shape in self.shapes:
            if not (1 <= shape.prompt <= LONGEST_PROMPT and LEAST_OUTPUT <= shape.output <= LONGEST_OUTPUT):
                raise BadRequest(
                    f"a shape has 1 to {LONGEST_PROMPT} tokens of prompt and {LEAST_OUTPUT} to {LONGEST_OUTPUT} of "
                    "answer", "shapes",
                )  # fmt: skip
        if self.kind == SLOTS:
            return self._checked_slots()
        return self._checked_arms()

    def _checked_slots(self) -> AskedStudy:
        if not 2 <= self.most <= MOST_SLOTS:
            raise BadRequest(f"most is a whole number from 2 to {MOST_SLOTS}", "most")
        for batch in self.batches:
            RuntimeSetup(batch=batch).checked()
        return self

    def _checked_arms(self) -> AskedStudy:
        if not 1 <= len(self.arms) <= MOST_ARMS:
            raise BadRequest(f"name 1 to {MOST_ARMS} setups (arms) to measure, each with what it changes", "arms")
        if any(not arm.checked().changes or arm.slots is not None for arm in self.arms):
            raise BadRequest("an arm names one or more of threads, batch, flash, kv_type", "arms")
        if len(set(self.arms)) < len(self.arms):
            raise BadRequest("two arms are the same", "arms")
        if not 1 <= self.at_once <= MOST_SLOTS:
            raise BadRequest(f"at_once is a whole number from 1 to {MOST_SLOTS}", "at_once")
        return self

    @property
    def ladder(self) -> tuple[int, ...]:
        """The steps of a sweep; the last is `most`."""
        return (*(step for step in LADDER if step < self.most), self.most)

    @property
    def context(self) -> int:
        """Tokens that every slot is given: the longest request with room, as a multiple of 256."""
        longest = max(shape.prompt + shape.output for shape in self.shapes)
        return -(-(longest + longest // 8 + 64) // 256) * 256


@dataclass(frozen=True, slots=True)
class Point:
    """So many of the same requests at the same moment. `rate`: tokens of all answers together each second; `rates` one
    a round. `ttft`, `token` (time for each further token) and `whole` are means over the requests, `worst_ttft` the
    longest, `pause` the longest wait between two tokens of an answer. `at_once`: how many really ran at once."""

    shape: Shape
    slots: int
    rates: tuple[float, ...]
    rate: Estimate
    ttft: Estimate
    worst_ttft: float
    token: Estimate
    whole: Estimate
    pause: float
    at_once: int


@dataclass(frozen=True, slots=True)
class Knee:
    """Where more slots stop being worth it. `confidence`: the weight of the curves with this knee among all that may
    explain what was measured; `near`: with this step or one beside it. `bound` says what ended the sweep where that was
    not the knee: "most" (the last step that was asked for) or "host" (it answers no more at once)."""

    shape: Shape
    slots: int
    confidence: float
    near: float
    bound: str = ""


@dataclass(frozen=True, slots=True)
class ArmResult:
    """One setup, the first of a study being what is in force. The ratios are to that one, paired by round; `p_value` of
    the decode ratio, after Holm over the arms. `together` is the rate of several answers at once, where asked for.
    `quality` is the divergence from what is in force, where the setup changes what is computed."""

    setup: RuntimeSetup
    rounds: int
    decode: Estimate
    prefill: Estimate | None
    ttft: Estimate
    together: Estimate | None = None
    decode_ratio: Estimate | None = None
    prefill_ratio: Estimate | None = None
    together_ratio: Estimate | None = None
    p_value: float | None = None
    verdict: str = ""
    quality: Quality | None = None
    tier: Tier | None = None


@dataclass(frozen=True, slots=True)
class BatchTried:
    """One batch at the knee: its rate to that of the batch in force, and the longest pause it makes in an answer."""

    batch: int
    rate: Estimate
    ratio: Estimate | None
    pause: float


@dataclass(frozen=True, slots=True)
class Advice:
    """What follows: `setup` is the change (nothing where all stays), `lines` what to set on a host that is not ours."""

    sentence: str
    setup: RuntimeSetup = RuntimeSetup()
    lines: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Study:
    """A whole study. `state` is running, paused, done, cancelled, failed or interrupted (Loupe ended meanwhile)."""

    id: str
    state: str
    started_at: float
    asked: AskedStudy
    digest: str
    environment: Environment
    points: tuple[Point, ...] = ()
    knees: tuple[Knee, ...] = ()
    batches: tuple[BatchTried, ...] = ()
    confirmed: Point | None = None
    arms: tuple[ArmResult, ...] = ()
    advice: Advice | None = None
    notes: tuple[str, ...] = ()
    ended_at: float | None = None
    facts: Mapping[str, Json] = field(default_factory=dict)

    @property
    def own(self) -> bool:
        """Whether it was measured on our embedded runtime, which can be set up from here."""
        return self.environment.facts.get("embedded") is True

    def applicable(self) -> RuntimeSetup:
        """The change that it recommends. Raises `BadRequest` where there is none, or none that could be made here."""
        if self.advice is None or not self.advice.setup.changes:
            raise BadRequest("this study recommends no change", "study")
        if not self.own:
            lines = ", ".join(self.advice.lines)
            raise BadRequest(f"{self.asked.host} is set up where it was started; set there: {lines}", "study")
        return self.advice.setup
