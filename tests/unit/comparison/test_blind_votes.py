"""What votes prove: seeded voters who can tell and who cannot, and every formula against a slow or foreign twin."""

from __future__ import annotations

import csv
import io
import math
import random
import statistics
from itertools import combinations

import pytest

from app.comparison.blind_votes import (
    ENOUGH,
    Choice,
    Vote,
    _errors,
    as_csv,
    by_family,
    evidence,
    ranking,
    strengths,
    verdict,
    verdicts,
)


def vote(number: int, choice: Choice, a: str = "x", b: str = "y", **more: str) -> Vote:
    return Vote(
        str(number), float(number), "local", more.get("family", "f"), more.get("task", "chat"), "why?", a, b, choice
    )


def first_verdict(draw: random.Random, chance: float, looks: int) -> int | None:
    """After how many votes a voter who prefers one with that chance was believed; None within so many looks."""
    wins = 0
    for votes in range(1, looks + 1):
        wins += draw.random() < chance
        if evidence(max(wins, votes - wins), votes) >= ENOUGH:
            return votes
    return None


def test_voters_who_cannot_tell_raise_a_false_alarm_in_at_most_one_of_twenty_runs() -> None:
    draw = random.Random(20261126)
    alarms = sum(first_verdict(draw, 0.5, 300) is not None for _ in range(1000))
    assert alarms <= 50


@pytest.mark.parametrize(("chance", "median"), [(0.8, 25), (0.9, 15)])
def test_voters_who_can_tell_are_believed_soon(chance: float, median: int) -> None:
    draw = random.Random(20261126)
    needed = [first_verdict(draw, chance, 1000) for _ in range(1000)]
    assert statistics.median(number or 1001 for number in needed) <= median


def test_the_evidence_is_that_of_the_beta_function() -> None:
    from scipy.special import betaln

    for votes in (0, 1, 8, 40, 500):
        for wins in {0, votes // 3, votes}:
            expected = math.exp(min(700, votes * math.log(2) + betaln(wins + 1, votes - wins + 1)))
            assert evidence(wins, votes) == pytest.approx(expected, rel=1e-9)


def test_eight_wins_without_a_loss_are_the_least_that_decides() -> None:
    assert evidence(7, 7) < ENOUGH <= evidence(8, 8)


def test_the_evidence_of_a_fair_coin_is_expected_to_stay_one() -> None:
    for votes in (1, 5, 12):
        chances = [math.comb(votes, wins) / 2**votes for wins in range(votes + 1)]
        expected = sum(c * evidence(wins, votes) for wins, c in enumerate(chances))
        assert expected == pytest.approx(1.0)


def test_a_verdict_that_was_reached_stays() -> None:
    votes = [vote(n, "a") for n in range(8)] + [vote(n, "b") for n in range(8, 14)]
    found = verdict("x", "y", votes)
    assert found.winner == "x" and (found.wins_a, found.wins_b) == (8, 6) and found.more == 0


def test_ties_and_the_same_words_decide_nothing() -> None:
    found = verdict("x", "y", [vote(n, "tie") for n in range(30)] + [vote(n, "same") for n in range(30, 60)])
    assert found.winner == "" and found.evidence == 1.0 and (found.ties, found.same, found.votes) == (30, 30, 30)
    assert found.more == 8


def test_either_side_may_be_named_first() -> None:
    votes = [vote(n, "a", "x", "y") if n % 2 else vote(n, "b", "y", "x") for n in range(8)]
    assert verdict("x", "y", votes).winner == "x" and verdict("y", "x", votes).winner == "x"


def test_many_pairs_at_once_raise_the_bar() -> None:
    votes = [vote(n, "a") for n in range(8)]
    [xy, *_] = verdicts(["x", "y", "z"], votes)
    assert verdict("x", "y", votes).winner == "x" and xy.winner == "" and xy.needed == 3 * ENOUGH and xy.more == 2


def test_of_six_that_cannot_be_told_apart_no_pair_is_named_in_nineteen_of_twenty_runs() -> None:
    draw, names, alarms = random.Random(7), [str(n) for n in range(6)], 0
    pairs = list(combinations(names, 2))
    for _ in range(200):
        votes = [vote(n, draw.choice(("a", "b")), *draw.choice(pairs)) for n in range(150)]
        alarms += any(found.winner for found in verdicts(names, votes))
    assert alarms <= 10


def likelihood(wins: list[list[float]], theta: list[float]) -> float:
    size = len(theta)
    return sum(
        wins[i][j] * -math.log1p(math.exp(theta[j] - theta[i])) for i in range(size) for j in range(size) if i != j
    )


def test_the_strengths_are_the_likeliest_ones() -> None:
    draw = random.Random(3)
    wins = [[0.0 if i == j else draw.randint(0, 9) + 0.5 for j in range(4)] for i in range(4)]
    theta = strengths(wins)
    best = likelihood(wins, theta)
    assert sum(theta) == pytest.approx(0, abs=1e-9)
    for index in range(4):
        for step in (-0.01, 0.01):
            moved = [each + (step if at == index else 0) for at, each in enumerate(theta)]
            assert likelihood(wins, moved) < best


def test_the_errors_are_those_of_the_inverted_information() -> None:
    import numpy as np

    draw = random.Random(9)
    wins = [[0.0 if i == j else draw.randint(0, 9) + 0.5 for j in range(5)] for i in range(5)]
    theta = strengths(wins)
    information = np.full((5, 5), 0.0)
    for i, j in combinations(range(5), 2):
        chance = 1 / (1 + math.exp(theta[j] - theta[i]))
        step = np.zeros(5)
        step[i], step[j] = 1, -1
        information += (wins[i][j] + wins[j][i]) * chance * (1 - chance) * np.outer(step, step)
    expected = np.sqrt(np.diag(np.linalg.pinv(information)))
    assert _errors(wins, theta) == pytest.approx(list(expected), rel=1e-9)


def test_the_intervals_of_strengths_hold_what_they_promise() -> None:
    draw, names = random.Random(11), ["x", "y", "z"]
    truth = {"x": 0.6, "y": 0.0, "z": -0.6}
    held = asked = 0
    for _ in range(300):
        votes = []
        for number in range(90):
            a, b = draw.choice(list(combinations(names, 2)))
            chance = 1 / (1 + math.exp(truth[b] - truth[a]))
            votes.append(vote(number, "a" if draw.random() < chance else "b", a, b))
        for rank in ranking(names, votes):
            asked += 1
            held += rank.low <= truth[rank.name] * 400 / math.log(10) <= rank.high
    assert held / asked >= 0.92


def test_eight_out_of_eight_have_an_interval_and_nobody_voted_on_has_a_wide_one() -> None:
    best, other = ranking(["x", "y"], [vote(n, "a") for n in range(8)])
    assert best.name == "x" and best.low < best.elo < best.high and best.elo == -other.elo
    lone = next(rank for rank in ranking(["x", "y", "z"], [vote(n, "a") for n in range(8)]) if rank.name == "z")
    assert lone.votes == 0 and lone.high - lone.low > best.high - best.low
    assert ranking(["x"], []) and not ranking([], [])


def test_votes_are_exported_as_a_table_without_formulas() -> None:
    text = as_csv([vote(1, "a"), Vote("2", 2.0, "local", "f", "=cmd()", "@why", "x", "y", "tie")])
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["choice"] for row in rows] == ["a", "tie"]
    assert rows[1]["task"] == "'=cmd()" and rows[1]["question"] == "'@why"


def test_votes_are_kept_apart_by_family_and_task() -> None:
    votes = [vote(2, "a", task="code"), vote(1, "b"), vote(3, "a")]
    groups = by_family(votes)
    assert {key: [one.id for one in found] for key, found in groups.items()} == {
        ("f", "chat"): ["1", "3"],
        ("f", "code"): ["2"],
    }
