"""Setups of a runtime against what is in force: speed to and fro, and quality where a setup changes what is computed.

Each visit loads the model anew under its setup, so that only one of them is in memory, and measures decode, prefill
and the first token of requests alone, and where asked for the rate of several together. Ratios are paired by round.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from app.comparison import intervals, probes
from app.comparison import quality as figures
from app.comparison import speed as measuring
from app.comparison.batching.frame import Frame
from app.comparison.batching.site import Site
from app.comparison.batching.study import ArmResult
from app.comparison.forcing import FIXED_OPTIONS, TextRows
from app.comparison.probes import Plan
from app.comparison.question_set import Question
from app.comparison.results import Estimate, ProbeText, Quality
from app.core.runtime_setup import RuntimeSetup
from app.models.tiers import measured_tier

CONTEXT = 1024  # tokens: the longest prompt of a measurement and its answer
VISIT = measuring.Visit(loads=0, ttfts=1, pairs=1, decodes=2)
TEXTS = Plan(texts=16, tokens=24, control=4)
FASTER, SLOWER, EVEN = "faster", "slower", "no difference shown"
_WEIGHT, _QUALITY_WEIGHT = 1, 3


@dataclass(slots=True)
class _Arm:
    """One value a round in each list."""

    setup: RuntimeSetup
    site: Site
    decodes: list[float] = field(default_factory=list)
    prefills: list[float] = field(default_factory=list)
    ttfts: list[float] = field(default_factory=list)
    together: list[float] = field(default_factory=list)
    quality: Quality | None = None


class OptionsRun:
    """`questions` are those whose answers are compared, where a setup costs quality."""

    def __init__(self, frame: Frame, questions: Sequence[Question]) -> None:
        self._frame, self._asked, self._questions = frame, frame.asked, questions
        self._arms: list[_Arm] = []

    async def run(self) -> None:
        """Leaves the arms in the frame's study, the first of them being what is in force."""
        for setup in (RuntimeSetup(), *self._asked.arms):
            whole = self._asked.base.under(setup)
            self._arms.append(_Arm(setup, await self._frame.site(whole, self._context)))
        other = [arm for arm in self._arms[1:] if changes_answers(arm.setup)]
        self._frame.total = _WEIGHT * self._asked.rounds * len(self._arms) + _QUALITY_WEIGHT * (
            len(other) + bool(other)
        )
        for number in range(self._asked.rounds):
            for arm in self._arms if number % 2 == 0 else reversed(self._arms):
                await self._visit(arm, number)
            await self._tell()
        if other:
            await self._qualities(other)
            await self._tell()

    @property
    def _context(self) -> int:
        return max(CONTEXT, self._asked.context)

    async def _visit(self, arm: _Arm, number: int) -> None:
        detail = f"round {number + 1} of {self._asked.rounds}: {_name(arm.setup)}"
        self._frame.step(0, detail)
        await arm.site.ready()
        samples = measuring.SpeedSamples(words_per_token=arm.site.words_per_token, short_pairs=False)
        options = {"num_ctx": self._context}
        await measuring.measure_answers(arm.site, self._asked.model, options, VISIT, samples, measuring.no_joules)
        decodes = [speed for one in samples.decodes for speed in one]
        if decodes:
            arm.decodes.append(statistics.geometric_mean(decodes))
        if samples.prefills:
            arm.prefills.append(statistics.geometric_mean(samples.prefills))
        arm.ttfts += [statistics.median(samples.ttfts)]
        if self._asked.at_once > 1:
            arm.together.append((await arm.site.visit(self._asked.shapes[0], self._asked.at_once, waves=1)).rate)
        await arm.site.unload(self._asked.model)
        self._frame.step(_WEIGHT, detail)

    # -- quality --------------------------------------------------------------------------------------------------

    async def _qualities(self, arms: Sequence[_Arm]) -> None:
        """What is in force answers, and is held to its answers a second time; then each setup is held to them."""
        base, model = self._arms[0].site, self._asked.model
        options = {**FIXED_OPTIONS, "num_ctx": self._context}
        self._frame.step(0, "quality: the answers of what is in force")
        texts: list[ProbeText] = []
        rows: list[TextRows] = []
        async for text, row in probes.answered(base, model, self._questions, TEXTS, options):
            texts.append(text)
            rows.append(row)
        control = [row async for row in probes.measure(base, model, texts[: TEXTS.control], options)]
        await base.unload(model)
        self._frame.step(_QUALITY_WEIGHT, "quality: the answers of what is in force")
        for arm in arms:
            self._frame.step(0, f"quality: {_name(arm.setup)}")
            other = [row async for row in probes.measure(arm.site, model, texts, options)]
            await arm.site.unload(model)
            arm.quality = figures.quality(texts, rows, other, control)
            self._frame.step(_QUALITY_WEIGHT, f"quality: {_name(arm.setup)}")

    # -- results --------------------------------------------------------------------------------------------------

    async def _tell(self) -> None:
        base = self._arms[0]
        if not base.decodes:
            return
        made = [_result(arm, base) for arm in self._arms if arm.decodes]
        p_values = intervals.holm([one.p_value if one.p_value is not None else 1.0 for one in made[1:]])
        told = [replace(one, p_value=p, verdict=_verdict(one, p)) for one, p in zip(made[1:], p_values, strict=True)]
        await self._frame.tell(arms=(*made[:1], *told))


def changes_answers(setup: RuntimeSetup) -> bool:
    """Whether it changes how numbers are kept or summed beyond the order of threads and batches."""
    return setup.flash is not None or bool(setup.kv_type)


def _result(arm: _Arm, base: _Arm) -> ArmResult:
    same = arm is base
    decode_ratio = None if same else _ratio(base.decodes, arm.decodes)
    return ArmResult(
        setup=arm.setup, rounds=len(arm.decodes), decode=measuring.log_t(arm.decodes),
        prefill=measuring.log_t(arm.prefills) if arm.prefills else None, ttft=measuring.log_t(arm.ttfts),
        together=measuring.log_t(arm.together) if arm.together else None,
        decode_ratio=decode_ratio,
        prefill_ratio=None if same else _ratio(base.prefills, arm.prefills),
        together_ratio=None if same else _ratio(base.together, arm.together),
        p_value=None if same else _p_value(base.decodes, arm.decodes),
        quality=arm.quality, tier=measured_tier(arm.quality.kld, arm.quality.same_top) if arm.quality else None,
    )  # fmt: skip


def _ratio(base: Sequence[float], other: Sequence[float]) -> Estimate | None:
    """None where there is not one of each for every round."""
    return intervals.paired_ratio(base, other) if len(base) == len(other) else None


def _p_value(base: Sequence[float], other: Sequence[float]) -> float | None:
    found = intervals.log_difference(base, other)
    return found.p_value if found is not None else None


def _verdict(arm: ArmResult, p_value: float) -> str:
    if arm.decode_ratio is None or arm.decode_ratio.low is None:
        return ""
    if p_value >= 1 - intervals.CONFIDENCE:
        return EVEN
    return FASTER if arm.decode_ratio.value > 1 else SLOWER


def _name(setup: RuntimeSetup) -> str:
    return setup.told if setup.changes else "what is in force"
