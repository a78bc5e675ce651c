"""What hosts have loaded by the queue's belief, and when a swap may be."""

from __future__ import annotations

import pytest

from app.core.hosts import HostSeats
from app.services.queueing.residency import TURN_PER_LOAD, Fit, Place, Residency, SwapRule

RULE = SwapRule(hold=30.0, overdue=60.0)


def seats(name: str = "one", *loaded: str, at: float = 0.0, models: frozenset[str] | None = None) -> HostSeats:
    return HostSeats(name, 1, 1, False, False, models, frozenset(loaded), at)


def residency_of(*places: Place) -> Residency:
    residency = Residency(RULE)
    residency.places = {place.name: place for place in places}
    return residency


def fit(
    residency: Residency, model: str, *, now: float, load: float = 0.0, overdue: bool = False, **waiting: int
) -> Fit:
    return residency.fit(residency.places["one"], model, waiting, now, load, overdue)


def test_the_word_of_the_host_counts_and_ours_is_kept_until_it_speaks_again():
    residency = Residency()
    residency.see([seats("one", "a", at=10.0)])
    assert residency.has_loaded("one", "a")
    residency.places["one"].use("b", 12.0)
    residency.see([seats("one", "a", at=10.0)])
    assert residency.has_loaded("one", "b"), "it has said nothing new since"
    residency.see([seats("one", "a", at=13.0)])
    assert residency.has_loaded("one", "a")
    assert not residency.has_loaded("one", "b")


def test_what_runs_on_a_host_is_there_whatever_it_said_before():
    residency = Residency()
    residency.see([seats("one", at=10.0)], running=[("one", "a"), ("gone", "b")])
    assert residency.has_loaded("one", "a")
    assert not residency.has_loaded("gone", "b")


def test_a_host_that_went_away_has_nothing_loaded_when_it_is_back():
    residency = Residency()
    residency.see([seats("one", "a", at=10.0)])
    residency.see([])
    residency.see([seats("one", at=0.0)])
    assert not residency.has_loaded("one", "a")


def test_the_room_of_a_host_is_learned_from_what_it_held_together():
    residency = Residency()
    residency.see([seats("one", "a", at=1.0)])
    place = residency.places["one"]
    assert place.goes("b") == ["a"]
    residency.see([seats("one", "a", "b", at=2.0)])
    assert place.goes("c") == [place.resident[0]]
    assert place.goes("a") == []


def test_the_model_that_was_used_least_recently_leaves():
    place = Place("one", 1, resident=["a", "b"], room=2)
    assert not place.use("a", 1.0)
    assert place.use("c", 2.0)
    assert place.resident == ["a", "c"]
    assert (place.loaded_at, place.swapped_at) == (2.0, 2.0)


def test_a_load_into_free_room_is_no_swap():
    place = Place("one", 1, resident=["a"], room=2)
    assert place.use("b", 5.0)
    assert place.swapped_at == float("-inf")


def test_loaded_is_warm_and_what_drives_nothing_wanted_out_is_free():
    residency = residency_of(Place("one", 1, resident=["a"]))
    assert fit(residency, "a", now=0.0, b=1) is Fit.WARM
    assert fit(residency, "b", now=0.0, b=1) is Fit.FREE


def test_a_second_copy_is_worse_than_a_free_load():
    residency = residency_of(Place("one", 1), Place("two", 1, resident=["b"]))
    assert fit(residency, "b", now=0.0, b=1) is Fit.COPY


@pytest.mark.parametrize(("since", "found"), [(29.0, Fit.HELD), (30.0, Fit.SWAP)])
def test_a_wanted_model_is_driven_out_only_after_the_hold(since, found):
    residency = residency_of(Place("one", 1, resident=["a"], swapped_at=100.0))
    assert fit(residency, "b", now=100.0 + since, a=1, b=1) is found


def test_somebody_overdue_waits_for_a_turn_of_the_present_model_and_no_more():
    residency = residency_of(Place("one", 1, resident=["a"], swapped_at=100.0))
    turn = TURN_PER_LOAD * 3.0
    assert fit(residency, "b", now=100.0 + turn - 0.1, load=3.0, overdue=True, a=1, b=1) is Fit.HELD
    assert fit(residency, "b", now=100.0 + turn, load=3.0, overdue=True, a=1, b=1) is Fit.WARM


def test_a_clone_is_a_place_to_try_things_out():
    residency = residency_of(Place("one", 1, resident=["a"]))
    residency.clone().places["one"].use("b", 1.0)
    assert residency.has_loaded("one", "a")
