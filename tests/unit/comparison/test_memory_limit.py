"""The limit that memory sets: measured once in a comparison, and again before a speed is called wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from app.comparison import machine
from app.comparison.plan import QUICK, Asked, steps_of
from app.comparison.progress import Progress
from app.comparison.scorecard import Frame, ScorecardRun
from tests.unit.comparison import cards

pytestmark = pytest.mark.anyio


def frame_of(limit: float | None, speeds: list[float | None]) -> Frame:
    """All steps are done: what is left is the limit."""
    card = cards.card()
    card = replace(card, variants=tuple(replace(one, decode_limit=limit) for one in card.variants))
    subjects: Any = card.variants
    done = tuple(step.key for step in steps_of(QUICK, len(subjects), 0))
    nothing: Any = None
    asked = Asked(models=("a",), host="here", depth=QUICK)
    return Frame(
        card=card, asked=asked, subjects=subjects, reference=0, questions=nothing, bench=nothing, store=nothing,
        clock=nothing, server=("0.33.0", ""), publish=nothing, wish=nothing,
        bandwidth=lambda: speeds.pop(0), progress=Progress(done=done),
    )  # fmt: skip


async def run(frame: Frame, monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    kept: list[float | None] = []

    async def keep(_: ScorecardRun) -> None:
        kept.append(frame.progress.bandwidth)

    monkeypatch.setattr(ScorecardRun, "_keep", keep)
    nothing: Any = None
    await ScorecardRun(frame, nothing).run()
    return kept


async def test_it_is_measured_once_where_no_speed_is_above_it(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = frame_of(1e6, [10e9])
    assert await run(frame, monkeypatch) == [] and frame.progress.bandwidth == 10e9


@pytest.mark.parametrize(("again", "best"), [(40e9, 40e9), (5e9, 10e9)])
async def test_before_a_speed_is_called_wrong_it_is_measured_again_and_the_better_one_counts(
    monkeypatch: pytest.MonkeyPatch, again: float, best: float
) -> None:
    assert await run(frame_of(0.1, [10e9, again]), monkeypatch) == [best]


async def test_on_a_busy_machine_nothing_is_said_of_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = frame_of(0.1, [10e9, None])
    assert await run(frame, monkeypatch) == [None] and not frame.progress.bandwidth_sure


async def test_of_another_machine_nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = frame_of(None, [None])
    assert await run(frame, monkeypatch) == [] and frame.progress.bandwidth is None


def test_a_busy_machine_s_memory_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "read_bandwidth", lambda: 10e9)
    monkeypatch.setattr(machine, "busy_share", lambda: 0.5)
    assert machine.memory_bandwidth() is None
    monkeypatch.setattr(machine, "busy_share", lambda: 0.05)
    assert machine.memory_bandwidth() == 10e9
