"""The harness of the promises: what it counts, when a row holds, and what it says of failures it did not see."""

from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime

import pytest

from proving.promises import Promise, Run, carry_out, prove
from proving.results import result_of
from proving.statistics import quantile, upper_bound


def promise(function, *controls):
    return Promise(1, "It holds", "test", "never fails", controls or ("the defence off",), function)


async def guarded(run: Run) -> None:
    for number in range(run.scale(short=3, full=30)):
        run.measure("time, s", number)
        run.trial(not run.off, "it failed")


def test_a_row_holds_when_every_trial_passes_and_its_control_fails():
    proof = prove(promise(guarded), seed=1, short=False)
    assert proof.faults() == []
    assert (proof.run.trials, proof.controls["the defence off"].trials) == (30, 3)
    told = result_of(proof, seed=1, command="make prove", began=datetime.now(UTC))
    assert (told["n"], told["failures"], told["kept"], told["form"]) == (30, 0, True, "full")
    assert told["measures"]["time, s"] == {"n": 30, "p50": 14, "p99": 29, "max": 29}
    assert told["controls"] == [{"off": "the defence off", "failed": True, "n": 3, "failures": 3,
                                 "broken": ["it failed"] * 3}]  # fmt: skip


def test_a_check_that_passes_without_the_defence_fails_its_row():
    def blind(run: Run) -> None:
        run.trial(True)

    assert prove(promise(blind), seed=1, short=True).faults() == ["the check also passes with the defence off"]


def test_of_several_controls_each_has_to_fail():
    def half_blind(run: Run) -> None:
        run.trial(run.off != "one")

    assert prove(promise(half_blind, "one", "two"), seed=1, short=True).faults() == ["the check also passes with two"]


def test_no_trial_an_unknown_outcome_and_a_broken_bound_fail_a_row():
    def nothing(run: Run) -> None:
        run.require(not run.off, "off")

    def unknown(run: Run) -> None:
        run.trial(not run.off)
        run.unknown("the host was gone")

    def bound(run: Run) -> None:
        run.trial(not run.off)
        run.require(run.quantile("never measured", 0.99) < 1, "nothing was measured")

    assert prove(promise(nothing), seed=1, short=True).faults() == ["it made no trial"]
    assert prove(promise(unknown), seed=1, short=True).faults() == [
        "1 trials ended unknown", "unknown: the host was gone",
    ]  # fmt: skip
    assert prove(promise(bound), seed=1, short=True).faults() == ["nothing was measured"]


def test_an_error_in_a_control_is_no_failure_of_its_check():
    def broken(run: Run) -> None:
        run.trial(True)
        if run.off:
            raise RuntimeError("the control itself is broken")

    with pytest.raises(RuntimeError):
        prove(promise(broken), seed=1, short=True)


def test_a_run_that_hangs_ends(monkeypatch):
    async def hangs(run: Run) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("proving.promises.SHORT_LIMIT", 0.01)
    with pytest.raises(TimeoutError):
        carry_out(promise(hangs), seed=1, short=True)


def test_the_same_seed_gives_the_same_run():
    def draws(run: Run) -> None:
        run.measure("x", run.random.random())
        run.trial(not run.off)

    first, again = (carry_out(promise(draws), seed=7, short=True) for _ in range(2))
    assert first.samples == again.samples


@pytest.mark.parametrize(
    ("failures", "trials", "bound"),
    # from the tables of Clopper and Pearson, one-sided 95 %; the first ones are 1 - 0.05^(1/n)
    [(0, 1, 0.95), (0, 10, 0.2589), (0, 300, 0.00994), (0, 10_000, 0.0002995), (1, 10, 0.3942), (2, 100, 0.0616),
     (5, 5, 1.0), (0, 0, 1.0)],
)  # fmt: skip
def test_the_upper_bound_is_the_exact_binomial_one(failures, trials, bound):
    assert math.isclose(upper_bound(failures, trials), bound, rel_tol=2e-3)


def test_quantiles_are_values_that_were_measured():
    values = [float(number) for number in range(1, 101)]
    assert (quantile(values, 0.5), quantile(values, 0.99), quantile(values[:1], 0.99)) == (50, 99, 1)
