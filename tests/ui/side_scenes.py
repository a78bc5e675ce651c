"""States of the side-by-side view to look at, over fake services."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from app.comparison.rounds import Figures, Pane, PaneAnswer, Round, Turn
from app.core.conversations import Answer, MessageState
from app.core.errors import HostProtocolError
from app.core.generation import GenerationRequest, Usage
from app.models.catalog import CatalogView
from app.services.chat import Caller
from app.services.telemetry import CacheDecision, Phase
from tests.ui.fake_services import LADDER, MIB, FakeServices, Step, qwen, smollm2

QUESTION = "What is the capital of France, and what is it known for?"
NAMES = {label: f"smollm2:135m-instruct-{suffix}" for suffix, label, _, _ in LADDER}
TEXTS = {
    "F16": "The capital of France is **Paris**. It is known for:\n\n1. The Eiffel Tower\n2. The Louvre\n3. Its food",
    "Q8_0": "The capital of France is **Paris**. It is known for:\n\n1. The Eiffel Tower\n2. The Louvre\n3. Its food",
    "Q4_K_M": "The capital of France is **Paris**. It is famous for its museums, such as the Louvre, and for the "
    "Eiffel Tower.",
    "Q2_K": "France capital is Paris city. Paris Paris known for the the tower and food and wine and art.",
    "Q6_K": "The capital of France is **Paris**. It is known for:\n\n1. The Eiffel Tower\n2. The Louvre\n3. Its wine",
    "Q5_K_M": "The capital of France is **Paris**, known for the Eiffel Tower.",
}
FOUR = ("F16", "Q8_0", "Q4_K_M", "Q2_K")


def label_of(model: str) -> str:
    return next((label for label, name in NAMES.items() if name == model), model)


def says(texts: dict[str, str]) -> Callable[[GenerationRequest], Sequence[Step]]:
    return lambda request: [texts.get(label_of(request.model), "Paris.")]


def panes(*labels: str) -> tuple[Pane, ...]:
    return tuple(Pane(NAMES[label], f"{label} · SmolLM2 135M Instruct") for label in labels)


def asked(services: FakeServices, wanted: Round, *, until: Sequence[str] = ()) -> Round:
    """A round begun as from another page, when it has ended, or its last panes are in these phases."""

    async def work() -> Round:
        begun = await services.side_by_side.start(wanted, Caller())
        async for view in services.side_by_side.attach(begun.id, "local"):
            if until and [phase.name for phase in view.phases][-len(until) :] == list(until):
                break
        return begun

    return services.run(work())


def address(round_: Round) -> str:
    return f"/compare?view=Side+by+side&round={round_.id}"


def side_empty(services: FakeServices) -> str:
    return "/compare?view=Side+by+side"


def side_alone(services: FakeServices) -> str:
    family = smollm2()
    services.catalog.view = CatalogView((replace(family, variants=family.variants[:1]),), services.pool.hosts)
    return "/compare?view=Side+by+side"


def side_list(services: FakeServices) -> str:
    services.model.script = says(TEXTS)
    for question in (QUESTION, "Write a Python function that returns the median of a list.", "Why is the sky blue?"):
        asked(services, Round((question,), panes(*FOUR)))
    services.ask("Explain the k-quants in three sentences")
    return "/compare?view=Side+by+side"


def with_figures(services: FakeServices, round_: Round) -> Round:
    """The round with the figures of a real machine, as it would be stored."""
    speeds = {"F16": (0.30, 18.2), "Q8_0": (0.16, 34.6), "Q4_K_M": (0.11, 41.2), "Q2_K": (0.12, 44.8)}
    done = []
    for pane in services.run(services.side_by_side.get(round_.id, "local")).round.panes:
        label = label_of(pane.model)
        ttft, tps = speeds.get(label, (0.2, 30.0))
        usage = Usage(2_000_000_000, 290_000_000, 31, int(31 / (tps * 9) * 1e9), 42, int(42 / tps * 1e9))
        told = replace(pane.answers[0].answer, usage=usage, host="built-in")
        answer = replace(pane.answers[0], answer=told, ttft=ttft, cold=True, memory=312 * MIB, vram=0, context=4096)
        done.append(replace(pane, answers=(answer, *pane.answers[1:])))
    return replace(services.run(services.side_by_side.get(round_.id, "local")).round, panes=tuple(done))


def stored(services: FakeServices, round_: Round) -> str:
    services.run(services.side_by_side._write(round_))
    return address(round_)


def side(services: FakeServices) -> str:
    services.model.script = says(TEXTS)
    return stored(services, with_figures(services, asked(services, Round((QUESTION,), panes(*FOUR)))))


def side_running(services: FakeServices) -> str:
    event, _ = services.gate()

    def script(request: GenerationRequest) -> Sequence[Step]:
        label = label_of(request.model)
        if label in ("F16", "Q8_0"):
            return [TEXTS[label]]
        return [TEXTS[label][:60], event] if label == "Q4_K_M" else [Phase("loading"), event]

    services.model.script = script
    wanted = Round((QUESTION,), panes("F16", "Q8_0", "Q4_K_M", "Q2_K", "Q6_K"))
    return address(asked(services, wanted, until=("decode", "loading", "turn")))


def side_trouble(services: FakeServices) -> str:
    """One failed, one out of the cache, one that shared the machine, one stopped."""

    def script(request: GenerationRequest) -> Sequence[Step]:
        label = label_of(request.model)
        if label == "Q2_K":
            return [TEXTS[label][:30], HostProtocolError("built-in", "the connection closed")]
        return [CacheDecision("hit", "", 200.0), TEXTS[label]] if label == "Q8_0" else [TEXTS[label]]

    services.model.script = script
    round_ = with_figures(services, asked(services, Round((QUESTION,), panes(*FOUR))))
    first, second, third, last = round_.panes
    third = replace(third, answers=(replace(third.answers[0], shared=True),))
    stopped = PaneAnswer("The capital of", state=MessageState.STOPPED, answer=Answer(model=last.model))
    more = replace(panes("Q6_K")[0], answers=(stopped,))
    return stored(services, replace(round_, panes=(first, second, third, last, more)))


def side_fair(services: FakeServices) -> str:
    services.model.script = says(TEXTS)
    round_ = with_figures(services, asked(services, Round((QUESTION,), panes("F16", "Q4_K_M"))))
    fair = (
        Figures(2, (0.21, 0.22), (171.0, 174.2), (18.1, 18.4)),
        Figures(2, (0.09, 0.1), (402.1, 411.0), (41.0, 41.3)),
    )
    done = tuple(replace(pane, fair=figures) for pane, figures in zip(round_.panes, fair, strict=True))
    return stored(services, replace(round_, panes=done))


def side_teacher(services: FakeServices) -> str:
    """A bigger model of another family beside a smaller one, over two questions, after a past conversation."""
    services.catalog.view = CatalogView((smollm2(), qwen()), services.pool.hosts)
    services.model.script = says(TEXTS)
    teacher = Pane("qwen3:4b-instruct-2507-q8_0", "Q8_0 · Qwen3 4B Instruct 2507")
    wanted = Round(
        (QUESTION, "And of Italy?"), (*panes("Q4_K_M"), teacher), reference=1, system="Be brief.",
        context=(Turn("user", "Hello"), Turn("assistant", "Hello, what can I do for you?")),
    )  # fmt: skip
    return address(asked(services, wanted))


def side_six(services: FakeServices) -> str:
    services.model.script = says(TEXTS)
    return stored(services, with_figures(services, asked(services, Round((QUESTION,), panes(*TEXTS)))))


def side_hostile(services: FakeServices) -> str:
    services.model.script = lambda _: [
        "![a picture](https://example.org/a.png) <img src=https://example.org/d.png> :red[ALARM] `code`\n\n"
        '```mermaid\nflowchart TD\n  A@{ img: "https://example.org/c.png" }\n```'
    ]
    return address(asked(services, Round(("Show me a picture",), panes("F16", "Q8_0"))))


def side_missing(services: FakeServices) -> str:
    return "/compare?view=Side+by+side&round=" + "0" * 32


SIDE_SCENES: dict[str, Any] = {
    scene.__name__: scene
    for scene in (
        side_empty, side_alone, side_list, side, side_running, side_trouble, side_fair, side_teacher, side_six,
        side_hostile, side_missing,
    )
}  # fmt: skip
