"""The requests of a load run, all made before it begins: which model, whose, when, how long, and what is asked.

Made-up prompts are common words after a number that no other prompt has, so that neither the answer cache nor a host's
own memory of prompts makes them cheaper than a stranger's question.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from app.comparison.load_lab.arrivals import Arrivals
from app.comparison.load_lab.lengths import MOST_TOKENS, Lengths
from app.comparison.load_lab.plan import LoadPlan
from app.core.generation import GenerationRequest, Json

# One token each in the usual vocabularies.
_TEXT = """
the of and to in is that it was for on are as with they be at one have this from by word but what some we can
out other were all there when up use your how said an each she which do their time if will way about many then
them write would like so these her long make thing see him two has look more day could go come did number sound
no most people my over know water than call first who may down side been now find any new work part take get
place made live where after back little only round man year came show every good me give our under name very
through
"""
_WORDS = tuple(_TEXT.split())
_NUMBER_TOKENS = 8  # what the number in front takes, more or less


@dataclass(frozen=True, slots=True)
class Asking:
    """A question of one's own. `output` is how long its answer was in tokens, 0 where that is not known."""

    text: str
    output: int = 0


@dataclass(frozen=True, slots=True)
class Shot:
    """One request. `due` in seconds since the start; `prompt` and `output` are the tokens that were meant, `prompt` 0
    for a question of one's own."""

    index: int
    due: float
    model: str
    user: int
    prompt: int
    output: int
    request: GenerationRequest


def shots(plan: LoadPlan, own: Sequence[Asking] = ()) -> tuple[Shot, ...]:
    """The same for the same plan (its seed included). `own` are asked in turn instead of made-up prompts."""
    dice = random.Random(plan.seed)  # noqa: S311
    moments = plan.moments(dice)
    recorded = sorted(plan.recording, key=lambda row: row.at) if plan.arrivals is Arrivals.RECORDED else ()
    prompts, outputs = Lengths.parse(plan.prompt, "prompt"), Lengths.parse(plan.output, "output")
    names, weights = list(plan.models), list(plan.models.values())
    made = []
    for index, due in enumerate(moments):
        model, user = dice.choices(names, weights)[0], dice.randrange(plan.users)
        prompt, output = prompts.draw(dice), outputs.draw(dice)
        if recorded:
            prompt, output = recorded[index].prompt or prompt, recorded[index].output or output
        number = f"{dice.getrandbits(32):08x}"
        if own:
            asking = own[index % len(own)]
            output = min(asking.output or output, MOST_TOKENS)
            request = _asked(model, f"[{number}] {asking.text}", output, plan.context)
            prompt = 0
        else:
            request = _made_up(model, number, prompt, output, plan.context, dice)
        made.append(Shot(index, due, model, user, prompt, output, request))
    return tuple(made)


def _options(output: int, context: int | None) -> dict[str, Json]:
    told: dict[str, Json] = {"num_predict": output}
    return told if context is None else {**told, "num_ctx": context}


def _asked(model: str, text: str, output: int, context: int | None) -> GenerationRequest:
    messages: list[Json] = [{"role": "user", "content": text}]
    return GenerationRequest("chat", {"model": model, "messages": messages, "options": _options(output, context)})


def _made_up(
    model: str, number: str, prompt: int, output: int, context: int | None, dice: random.Random
) -> GenerationRequest:
    """Without the model's template: it goes on with the text, as a rule for as long as it may."""
    words = dice.choices(_WORDS, k=max(1, prompt - _NUMBER_TOKENS))
    body: dict[str, Json] = {
        "model": model, "prompt": f"[{number}] {' '.join(words)}", "raw": True, "options": _options(output, context),
    }  # fmt: skip
    return GenerationRequest("generate", body)
