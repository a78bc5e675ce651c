"""The bound by two top-20 lists against the divergence over a whole vocabulary."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.comparison import divergence
from app.comparison.divergence import Position
from app.comparison.results import Alternative


def softmax(logits: list[float]) -> list[float]:
    most = max(logits)
    weights = [math.exp(x - most) for x in logits]
    return [w / sum(weights) for w in weights]


def full(p: list[float], q: list[float]) -> float:
    return sum(x * math.log(x / y) for x, y in zip(p, q, strict=True) if x > 0)


def listed(p: list[float], names: list[str] | None = None, top: int = 20) -> tuple[Alternative, ...]:
    """As a host lists them: the likeliest first, logprobs in single precision."""
    order = sorted(range(len(p)), key=lambda i: -p[i])[:top]
    return tuple(Alternative(names[i] if names else f"t{i}", round(math.log(p[i]), 6)) for i in order)


def at(p: list[float], names: list[str] | None = None) -> Position:
    top = listed(p, names)
    return Position(0, top[0].token, top[0].logprob, top)


def pair(seed: int, size: int, spread: float, noise: float) -> tuple[list[float], list[float]]:
    generator = random.Random(seed)
    logits = [generator.gauss(0, spread) for _ in range(size)]
    return softmax(logits), softmax([x + generator.gauss(0, noise) for x in logits])


shapes = {
    "seed": st.integers(0, 10**6), "size": st.integers(2, 400), "spread": st.floats(0.1, 8), "noise": st.floats(0, 4),
}  # fmt: skip


@given(**shapes)
def test_the_bound_is_never_above_the_whole_divergence_and_ten_never_above_twenty(seed, size, spread, noise):
    p, q = pair(seed, size, spread, noise)
    found = divergence.compare(at(p), at(q))
    assert found is not None
    assert 0 <= found.half <= found.bound <= full(p, q) + 1e-5  # logprobs are rounded to six digits


@given(**shapes)
def test_a_model_beside_itself_is_exactly_zero(seed, size, spread, noise):
    p, _ = pair(seed, size, spread, noise)
    found = divergence.compare(at(p), at(p))
    assert found is not None and (found.bound, found.half, found.same_top) == (0.0, 0.0, True)


@given(seed=st.integers(0, 10**6), spread=st.floats(0.1, 8), noise=st.floats(0, 4))
def test_a_vocabulary_of_twenty_is_known_whole(seed, spread, noise):
    p, q = pair(seed, 20, spread, noise)
    found = divergence.compare(at(p), at(q))
    assert found is not None and found.bound == pytest.approx(full(p, q), abs=1e-4)


@given(**shapes)
def test_head_to_head_is_a_bound_too_and_symmetric(seed, size, spread, noise):
    p, a = pair(seed, size, spread, noise)
    b = pair(seed, size, spread, noise / 2)[1]
    found = divergence.head_to_head(at(p), at(a), at(b))
    other = divergence.head_to_head(at(p), at(b), at(a))
    assert found is not None and other is not None and found == other[::-1]
    for bound, q in zip(found, (a, b), strict=True):
        assert bound <= full(p, q) + 1e-5


@given(seed=st.integers(0, 10**6), noise=st.floats(0, 3), size=st.integers(25, 80))
def test_pieces_of_characters_stay_in_the_lump(seed, noise, size):
    p, q = pair(seed, size, 3.0, noise)
    names = ["\ufffd" if i % 3 == 0 else "" if i % 3 == 1 else f"t{i}" for i in range(size)]
    found = divergence.compare(at(p, names), at(q, names))
    told = [i for i in range(size) if i % 3 == 2]
    lumps = [[*(x[i] for i in told), sum(x[i] for i in range(size) if i % 3 != 2)] for x in (p, q)]
    assert found is not None and found.bound <= full(*lumps) + 1e-5


@given(seed=st.integers(0, 10**6), noise=st.floats(0, 3))
def test_two_tokens_that_look_alike_are_one_event_where_both_lists_have_both(seed, noise):
    p, q = pair(seed, 20, 3.0, noise)
    names = ["same", "same", *(f"t{i}" for i in range(2, 20))]
    found = divergence.compare(at(p, names), at(q, names))
    merged = [[x[0] + x[1], *x[2:]] for x in (p, q)]
    assert found is not None and found.bound == pytest.approx(full(*merged), abs=1e-4)


def test_two_that_look_alike_and_one_are_not_the_same_event():
    one = divergence.masses((Alternative("x", -1.0), Alternative("x", -2.0)))
    other = divergence.masses((Alternative("x", -1.0), Alternative("y", -2.0)))
    assert not set(one) & set(other)


def test_equal_strings_are_summed():
    top = (Alternative("x", math.log(0.3)), Alternative("x", math.log(0.2)), Alternative("y", math.log(0.1)))
    assert sum(divergence.masses(top).values()) == pytest.approx(0.6)


def test_a_missing_list_is_missing_and_not_agreement():
    p = at([0.5, 0.5])
    empty = Position(0, "t0", 0.0, ())
    assert divergence.compare(p, empty) is None
    assert divergence.compare(empty, p) is None
    assert divergence.head_to_head(p, p, empty) is None


def test_lists_with_nothing_in_common_say_nothing():
    one, other = at([0.6, 0.4], ["a", "b"]), at([0.7, 0.3], ["c", "d"])
    found = divergence.compare(one, other)
    assert found is not None and found.bound == 0.0 and not found.same_top


def test_the_estimate_goes_twice_the_last_step_further():
    assert divergence.estimate(0.10, 0.08) == pytest.approx(0.14)
    assert divergence.estimate(0.10, 0.11) == 0.10
