"""Values of a side-by-side round: what is asked of which variants, what each answered, and what that cost.

A round has one or more questions and two to six panes. Every pane answers all questions in order, with its own earlier
answers before them; `context` (a past conversation) stands before the first question in all panes alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from app.core.conversations import Answer, MessageState
from app.core.errors import BadRequest
from app.core.generation import GenerationRequest, Json

FEWEST_PANES, MOST_PANES = 2, 6
MOST_QUESTIONS = 20
MOST_CHARACTERS = 200_000  # of everything that is sent to a pane: more fits no context met here
SEED = 1  # of every pane, unless another one is asked for: what differs is then the weights' doing
DEFAULTS: Mapping[str, Json] = {"seed": SEED, "temperature": 0, "num_predict": 256}


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a past conversation."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Figures:
    """Speeds of one pane measured alone: `n` runs, each figure as (lowest, highest); None where it was not counted.

    TTFT in seconds from the sending to a loaded model, speeds in tokens a second. `disturbed`: other work ran there.
    """

    n: int
    ttft: tuple[float, float] | None = None
    prefill_tps: tuple[float, float] | None = None
    decode_tps: tuple[float, float] | None = None
    joules_per_token: tuple[float, float] | None = None
    disturbed: bool = False


@dataclass(frozen=True, slots=True)
class PaneAnswer:
    """One answer of one pane. `ttft` in seconds from the sending, without waiting in the queue and loading.

    `cold`: the model was loaded for it. `shared`: the host worked on something else meanwhile, so its speeds compare
    with nothing. Memory in bytes as the host reported it right after. `joules` for the whole answer, None with the
    reason in `no_joules`.
    """

    text: str = ""
    thinking: str = ""
    state: MessageState = MessageState.STREAMING
    answer: Answer = Answer()
    ttft: float | None = None
    cold: bool = False
    shared: bool = False
    joined: bool = False  # shared the generation of a pane that asked the same
    memory: int | None = None
    vram: int | None = None
    context: int | None = None
    joules: float | None = None
    no_joules: str = ""

    @property
    def complete(self) -> bool:
        return self.state is MessageState.COMPLETE

    @property
    def measured(self) -> bool:
        """Whether a model wrote it for this pane alone, so that it has speeds."""
        return self.complete and not self.answer.cached and not self.joined and self.answer.usage is not None

    @property
    def joules_per_token(self) -> float | None:
        tokens = self.answer.usage.output_tokens if self.answer.usage else 0
        return self.joules / tokens if self.joules is not None and tokens else None

    @property
    def prefill_tps(self) -> float | None:
        """Known only where the prompt was read as a whole: a warm host may hold its beginning and does not say so."""
        usage = self.answer.usage
        if not (self.measured and self.cold and usage and usage.prompt_tokens and usage.prefill_ns):
            return None
        return usage.prompt_tokens / (usage.prefill_ns / 1e9)


@dataclass(frozen=True, slots=True)
class Pane:
    """`label` is what the pages call the variant; `options` come over the shared ones. `fair` was measured later, or
    not, for the reason `unfair`."""

    model: str
    label: str
    options: Mapping[str, Json] = field(default_factory=dict)
    answers: tuple[PaneAnswer, ...] = ()
    fair: Figures | None = None
    unfair: str = ""

    def with_answer(self, index: int, answer: PaneAnswer) -> Pane:
        return replace(self, answers=(*self.answers[:index], answer, *self.answers[index + 1 :]))


@dataclass(frozen=True, slots=True)
class Round:
    """Id, owner and time (seconds since the epoch) are given when it is started. `reference` is the index of the pane
    that the others are compared with.

    `apart`: one pane after the other, whatever would fit. `kept`: the conversation that was made of a pane, or "".
    """

    questions: tuple[str, ...]
    panes: tuple[Pane, ...]
    id: str = ""
    principal: str = ""
    created_at: float = 0.0
    reference: int = 0
    system: str = ""
    context: tuple[Turn, ...] = ()
    options: Mapping[str, Json] = field(default_factory=dict)
    apart: bool = False
    kept: str = ""

    @property
    def title(self) -> str:
        first = self.questions[0].split() if self.questions else []
        words = " ".join(first)
        return words if len(words) <= 80 else words[:80].rsplit(" ", 1)[0] + "…"

    def with_pane(self, index: int, pane: Pane) -> Round:
        return replace(self, panes=(*self.panes[:index], pane, *self.panes[index + 1 :]))

    def missing(self, index: int) -> int:
        """The first question that the pane has not answered; the number of questions where it has answered all."""
        answers = self.panes[index].answers
        return next((at for at, answer in enumerate(answers) if not answer.complete), len(answers))

    @property
    def complete(self) -> bool:
        return all(self.missing(index) == len(self.questions) for index in range(len(self.panes)))

    def turns(self, index: int, question: int) -> list[dict[str, Json]]:
        """What the pane's model is to see when it answers that question."""
        pane = self.panes[index]
        turns: list[dict[str, Json]] = [{"role": "system", "content": self.system}] if self.system.strip() else []
        turns += [{"role": turn.role, "content": turn.content} for turn in self.context]
        for asked, answered in zip(self.questions[:question], pane.answers, strict=False):
            turns.append({"role": "user", "content": asked})
            if answered.text:
                turns.append({"role": "assistant", "content": answered.text})
        return [*turns, {"role": "user", "content": self.questions[question]}]

    def request(self, index: int, question: int) -> GenerationRequest:
        pane = self.panes[index]
        return chat_request(pane.model, self.turns(index, question), {**self.options, **pane.options})


def chat_request(model: str, turns: list[dict[str, Json]], options: Mapping[str, Json]) -> GenerationRequest:
    body: dict[str, Json] = {"model": model, "messages": list(turns), "stream": True}
    if options:
        body["options"] = dict(options)
    return GenerationRequest("chat", body)


def checked(round_: Round) -> Round:
    """The round as it may be asked. Raises `BadRequest` that says what is wrong with it."""
    panes, questions = round_.panes, round_.questions
    if not FEWEST_PANES <= len(panes) <= MOST_PANES:
        raise BadRequest(f"choose {FEWEST_PANES} to {MOST_PANES} variants to compare", "panes")
    if len({(pane.model, repr(sorted(pane.options.items()))) for pane in panes}) < len(panes):
        raise BadRequest("two panes ask the same variant with the same parameters; change one of them", "panes")
    if not questions or not all(question.strip() for question in questions):
        raise BadRequest("write something first", "question")
    if len(questions) > MOST_QUESTIONS:
        raise BadRequest(f"a round has at most {MOST_QUESTIONS} questions; begin another one", "question")
    told = len(round_.system) + sum(len(turn.content) for turn in round_.context) + sum(map(len, questions))
    if told > MOST_CHARACTERS:
        raise BadRequest(f"that is {told:,} characters; {MOST_CHARACTERS:,} can be asked at once", "question")
    return round_ if 0 <= round_.reference < len(panes) else replace(round_, reference=0)
