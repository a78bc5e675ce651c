"""Telling thinking from the answer: whatever the pieces in which the text comes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.runtime.thinking import ThinkingSplitter

# (text, thinking, answer) between <think> and </think>
CASES = [
    ("<think>hm</think>yes", "hm", "yes"),
    ("  \n<think>\n hm\n</think>\n\n yes ", "hm\n", "yes "),
    ("yes", "", "yes"),
    (" yes", "", " yes"),
    ("<thin", "", "<thin"),
    ("<thinner>", "", "<thinner>"),
    ("so <think>hm</think>", "", "so <think>hm</think>"),
    ("<think>hm", "hm", ""),
    ("<think>hm</thin", "hm</thin", ""),
    ("<think>a</think", "a</think", ""),
    ("<think></think>yes", "", "yes"),
    ("<think>  </think>yes", "", "yes"),
    ("<think>a</b></think></think>yes", "a</b>", "</think>yes"),
    ("<think>a<think>b</think>c<think>d", "a<think>b", "c<think>d"),
    ("<think>é\u2003</think>\u2003ö", "é\u2003", "ö"),
    ("<think>x</think>\x1f y", "x", "\x1f y"),
    ("   ", "", "   "),
    ("", "", ""),
]


def split(pieces: list[str], *, opened: bool = False) -> tuple[str, str]:
    splitter = ThinkingSplitter("<think>", "</think>", opened=opened)
    parts = [*(splitter.feed(piece) for piece in pieces), splitter.rest()]
    return "".join(part[0] for part in parts), "".join(part[1] for part in parts)


@pytest.mark.parametrize(("text", "thinking", "answer"), CASES)
def test_a_cut_at_any_place_changes_nothing(text, thinking, answer):
    for at in range(len(text) + 1):
        assert split([text[:at], text[at:]]) == (thinking, answer)
    assert split(list(text)) == (thinking, answer)


@given(st.lists(st.sampled_from(["<", "think", ">", "</", "</think>", "<think>", "a", " ", "\n"]), max_size=12))
def test_the_pieces_of_any_text_do_not_matter_and_nothing_is_lost_but_marks_and_blanks(pieces):
    text = "".join(pieces)
    whole = split([text])
    assert split(pieces) == whole
    assert split(list(text)) == whole
    left = (whole[0] + whole[1]).replace("<think>", "").replace("</think>", "").split()
    assert "".join(left) == "".join(text.replace("<think>", "").replace("</think>", "").split())


def test_where_the_prompt_has_begun_the_thinking_the_answer_need_not():
    assert split(["\n hm", "</think>", " yes"], opened=True) == ("hm", "yes")
    assert split(["", "\n"], opened=True) == ("", "")


def test_thinking_comes_out_while_it_is_thought():
    splitter = ThinkingSplitter("<think>", "</think>")
    assert [splitter.feed(piece) for piece in ("<thi", "nk>so", " it", " <", "/t", "oo")] == [
        ("", ""), ("so", ""), (" it", ""), (" ", ""), ("", ""), ("</too", ""),
    ]  # fmt: skip
