"""Speeds that compare: one variant after the other, warmed up, the prompt never seen before, the cache left out.

What a pane's first answer tells of speed is true only of that moment: models were loaded, panes ran at once, a host may
have held the beginning of the prompt. This asks each pane's first question again for the speed alone.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace

from app.comparison.pane_run import PaneAsker
from app.comparison.rounds import Figures, PaneAnswer, Round, chat_request
from app.core.errors import GenerationFailed
from app.core.generation import CacheMode, GenerationRequest, Json
from app.services.chat import Caller

REPEATS = 2
MOST_TOKENS = 128  # of each measured answer
WARM_UP_TOKENS = 8


async def measure(round_: Round, index: int, asker: PaneAsker, caller: Callable[[], Caller]) -> Figures:
    """The figures of one pane. Raises `LoupeError`s."""
    warm = _request(round_, index, WARM_UP_TOKENS)
    await _answer(asker, warm, caller())
    runs = [await _answer(asker, _request(round_, index, MOST_TOKENS), caller()) for _ in range(REPEATS)]
    return figures(runs)


def figures(runs: Sequence[PaneAnswer]) -> Figures:
    usages = [run.answer.usage for run in runs if run.answer.usage is not None]
    return Figures(
        n=len(runs),
        ttft=_range([run.ttft for run in runs]),
        prefill_tps=_range([u.prompt_tokens / (u.prefill_ns / 1e9) if u.prefill_ns else None for u in usages]),
        decode_tps=_range([usage.decode_tps for usage in usages]),
        joules_per_token=_range([run.joules_per_token for run in runs]),
        disturbed=any(run.shared for run in runs),
    )


def _range(values: Sequence[float | None]) -> tuple[float, float] | None:
    known = [value for value in values if value is not None]
    return (min(known), max(known)) if known else None


def _request(round_: Round, index: int, tokens: int) -> GenerationRequest:
    """The pane's first question with a number before everything, so that no host has read its beginning already."""
    pane = round_.panes[index]
    options: dict[str, Json] = {**round_.options, **pane.options}
    most = options.get("num_predict")
    within = isinstance(most, int) and 0 < most < tokens
    options["num_predict"] = most if within else tokens
    number, turns = f"[{secrets.token_hex(6)}]", round_.turns(index, 0)
    if turns[0]["role"] == "system":
        turns[0] = {"role": "system", "content": f"{number}\n{turns[0]['content']}"}
    else:  # also before the system prompt that many templates put in by themselves
        turns.insert(0, {"role": "system", "content": number})
    return chat_request(pane.model, turns, options)


async def _answer(asker: PaneAsker, request: GenerationRequest, caller: Caller) -> PaneAnswer:
    last = PaneAnswer()
    async for grown in asker.ask(request, replace(caller, cache_mode=CacheMode.BYPASS, cache_sampled=False)):
        last = grown
    if not last.complete:
        raise GenerationFailed(request.model, "it ended without an answer")
    return last
