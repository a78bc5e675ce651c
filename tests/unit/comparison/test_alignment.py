"""Rows of two tokenisations of one text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.comparison.alignment import SETTLING, align
from app.comparison.divergence import Position
from app.comparison.results import Alternative

TOP = (Alternative("x", -0.1), Alternative(" heavy", -3.0))


def cut(*tokens: str, top: tuple[Alternative, ...] = TOP) -> list[Position]:
    rows, at = [], 0
    for token in tokens:
        rows.append(Position(at, token, -1.0, top))
        at += len(token)
    return rows


def test_equal_cuts_lose_nothing():
    found = align(cut("The", " rain"), cut("The", " rain"))
    assert (len(found.pairs), found.lost, found.retokenised) == (2, 0, False)


def test_the_walk_goes_on_after_a_stretch_that_was_cut_otherwise_when_the_variant_has_settled():
    found = align(cut("A", " heavy", *"abcdefg"), cut("A", " he", "av", "y", *"abcdefg"))
    assert [pair.reference.token for pair in found.pairs] == ["A", " heavy", "e", "f", "g"]
    assert (found.lost, found.retokenised) == (SETTLING, True)


def test_where_the_variant_took_another_token_its_opinion_of_the_references_is_kept():
    found = align(cut("a", " heavy"), cut("a", " he", "avy"))
    assert [pair.variant_logprob for pair in found.pairs] == [-1.0, -3.0]
    other = align(cut(" light"), cut(" li", "ght"))
    assert other.pairs[0].variant_logprob is None


def test_a_position_of_the_reference_inside_a_token_of_the_variant_is_lost():
    found = align(cut("to", "day", *"abcdef"), cut("today", *"abcdef"))
    assert ([pair.reference.token for pair in found.pairs], found.lost) == (["to", "e", "f"], 1 + SETTLING)


def test_positions_without_a_list_are_lost_and_do_not_agree():
    found = align(cut("a", "b", "c"), [*cut("a"), Position(1, "b", 0.0, ()), Position(2, "c", -1.0, TOP)])
    assert ([pair.reference.token for pair in found.pairs], found.lost) == (["a", "c"], 1)


def test_nothing_at_all_is_all_lost():
    assert align(cut("a", "b"), []).lost == 2


@given(st.text("abc", min_size=1, max_size=30), st.sets(st.integers(1, 29)), st.sets(st.integers(1, 29)))
def test_any_two_cuts_meet_at_their_common_places_and_every_position_is_accounted_for(text, ours, theirs):
    rows = []
    for places in (ours, theirs):
        edges = [0, *sorted(place for place in places if place < len(text)), len(text)]
        rows.append(cut(*(text[a:b] for a, b in zip(edges, edges[1:], strict=False))))
    found = align(*rows)
    common = {position.offset for position in rows[0]} & {position.offset for position in rows[1]}
    assert {pair.reference.offset for pair in found.pairs} <= common
    assert min(common) in {pair.reference.offset for pair in found.pairs}
    assert len(found.pairs) + found.lost == len(rows[0])
    assert found.retokenised == (rows[0] != rows[1])
