"""The virtual counters: all who want work advance alike, and nobody saves up."""

from __future__ import annotations

import random

from app.services.queueing import shares as module
from app.services.queueing.shares import Shares


def test_two_that_always_want_work_stay_within_one_piece_of_each_other():
    shares, dice = Shares[str](), random.Random(5)
    had = dict.fromkeys("abc", 0.0)
    for _ in range(500):
        shares.advance("abc")
        least = min("abc", key=shares.of)
        piece = dice.uniform(1, 20)
        shares.charge(least, piece)
        had[least] += piece
    assert max(had.values()) - min(had.values()) <= 20


def test_weights_divide_what_is_charged():
    shares = Shares({"big": 9.0, "small": 1.0})
    turns = dict.fromkeys(("big", "small"), 0)
    for _ in range(1000):
        least = min(turns, key=lambda key: shares.after(key, 1.0))
        shares.charge(least, 1.0)
        turns[least] += 1
    assert turns["big"] == 900


def test_who_was_away_is_lifted_to_the_smallest_of_those_that_were_not():
    shares = Shares[str]()
    for _ in range(10):
        shares.advance("ab")
        shares.charge(min("ab", key=shares.of), 5.0)
    shares.advance("ab")
    shares.arrive("late")
    assert shares.of("late") == shares.floor == 25.0


def test_a_debt_is_remembered_and_a_paid_one_is_forgotten():
    shares = Shares[str]()
    shares.charge("greedy", 50.0)
    shares.forget("greedy")
    assert shares.knows("greedy")
    shares.charge("other", 60.0)
    shares.advance(["other"])
    shares.forget("greedy")
    assert not shares.knows("greedy")
    shares.arrive("greedy")
    assert shares.of("greedy") == 60.0


def test_an_estimate_that_was_too_high_is_paid_back():
    shares = Shares[str]()
    shares.charge("a", 100.0)
    shares.charge("a", -40.0)
    assert shares.of("a") == 60.0


def test_debts_are_kept_within_bounds(monkeypatch):
    monkeypatch.setattr(module, "REMEMBERED", 8)
    shares = Shares[int]()
    for number in range(100):
        shares.charge(number, 1.0 + number)
        shares.forget(number)
    assert sum(shares.knows(number) for number in range(100)) <= 9
    assert shares.knows(99)


def test_a_clone_is_a_place_to_try_things_out():
    shares = Shares[str]()
    shares.charge("a", 1.0)
    copy = shares.clone()
    copy.charge("a", 5.0)
    copy.advance("a")
    assert (shares.of("a"), shares.floor) == (1.0, 0.0)
