"""What the queue believes to be loaded, between two answers of a host and against stale ones."""

from __future__ import annotations

from app.core.hosts import HostSeats
from app.services.queueing.residency import Residency


def _says(*loaded: str, asked: float) -> HostSeats:
    return HostSeats("one", 1, 1, False, False, None, frozenset(loaded), asked)


def test_an_answer_given_during_a_load_is_not_believed_when_the_request_has_ended():
    residency = Residency()
    residency.see([_says("old:1", asked=1.0)])
    assert residency.places["one"].use("new:1", 2.0), "the model has to be loaded"
    stale = _says("old:1", asked=3.0)  # asked while it loads: the new one is not there yet
    residency.see([stale], [("one", "new:1")])
    assert residency.places["one"].resident == ["new:1"], "one model at a time, as far as was seen"
    residency.places["one"].served_at["new:1"] = 4.0
    residency.see([stale])
    assert residency.has_loaded("one", "new:1")
    assert not residency.has_loaded("one", "old:1")


def test_an_answer_to_a_question_asked_after_the_request_had_ended_is_believed():
    residency = Residency()
    residency.see([_says(asked=1.0)])
    residency.places["one"].use("new:1", 2.0)
    residency.places["one"].served_at["new:1"] = 4.0
    residency.see([_says("other:1", asked=5.0)])
    assert residency.places["one"].resident == ["other:1"]


def test_a_host_that_was_seen_with_two_models_keeps_the_one_used_last_beside_the_new_one():
    residency = Residency()
    residency.see([_says("a:1", "b:1", asked=1.0)])
    residency.places["one"].use("a:1", 2.0)
    residency.places["one"].use("c:1", 3.0)
    residency.see([_says("a:1", "b:1", asked=4.0)], [("one", "c:1")])
    assert residency.places["one"].resident == ["a:1", "c:1"]
