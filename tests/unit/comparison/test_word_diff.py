"""Differences of two texts, word by word."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.comparison.word_diff import LONGEST, Difference, compare

TEXTS = st.text(alphabet="ab \n", max_size=60)


def told(difference: Difference) -> str:
    marks = {"same": "{}", "only here": "[+{}]", "only there": "[-{}]"}
    return "".join(marks[piece.kind].format(piece.text) for piece in difference.pieces)


@pytest.mark.parametrize(
    ("here", "there", "marked", "first"),
    [
        ("Paris is big.", "Paris is big.", "Paris is big.", None),
        ("Paris is huge.", "Paris is big.", "Paris is[- big.][+ huge.]", 3),
        ("Paris is big. Very.", "Paris is big.", "Paris is big.[+ Very.]", 4),
        ("Paris", "Paris is big.", "Paris[- is big.]", 2),
        ("", "Paris", "[-Paris]", 1),
        ("Paris  is\nbig.", "Paris is big. ", "Paris  is\nbig.", None),
        ("", "", "", None),
    ],
)
def test_what_differs_is_marked_and_the_first_word_counted(
    here: str, there: str, marked: str, first: int | None
) -> None:
    difference = compare(here, there)
    assert (told(difference), difference.first) == (marked, first)
    assert difference.same is (first is None)


@given(TEXTS, TEXTS)
def test_the_pieces_are_both_texts(here: str, there: str) -> None:
    pieces = compare(here, there).pieces
    assert "".join(p.text for p in pieces if p.kind != "only there").split() == here.split()
    assert "".join(p.text for p in pieces if p.kind != "only here").split() == there.split()


@given(TEXTS, TEXTS)
def test_the_share_is_the_same_both_ways_and_one_only_for_the_same_words(here: str, there: str) -> None:
    shared = compare(here, there).shared
    assert 0 <= shared <= 1
    assert (shared == 1) == (here.split() == there.split())


def test_only_so_much_is_compared_and_it_says_so() -> None:
    long = " ".join(["word"] * (LONGEST + 5))
    assert compare(long, long).cut and not compare("a", "b").cut
