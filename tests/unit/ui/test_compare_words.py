"""What the side-by-side and votes views say, in words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.comparison.ballots import Poll, PollView, Reveal
from app.comparison.blind_votes import Choice as Vote_Choice
from app.comparison.blind_votes import Vote
from app.comparison.live_round import PanePhase
from app.comparison.rounds import Figures, Pane, PaneAnswer, Round
from app.comparison.word_diff import compare
from app.core.conversations import Answer, MessageState
from app.core.generation import Usage
from app.ui import compare_side_words as side
from app.ui import compare_votes_words as votes
from app.ui import view_models as vm

USAGE = Usage(0, 290_000_000, 31, 100_000_000, 42, 1_000_000_000)
DONE = PaneAnswer(
    "Paris", state=MessageState.COMPLETE, answer=Answer(model="m", usage=USAGE, host="here"), ttft=0.1, cold=True,
    memory=312 << 20, joules=84.0,
)  # fmt: skip
PANE = Pane("m", "Q8_0 · SmolLM2", answers=(DONE,))


def told(pane: Pane, answer: PaneAnswer) -> dict[str, str]:
    return {fact.name: fact.value for fact in side.facts(pane, answer)}


def test_figures_carry_their_units() -> None:
    assert told(PANE, DONE) == {
        "TTFT": "0.10 s", "prefill": "310.0 tok/s", "decode": "42.0 tok/s", "tokens": "42", "load": "290 ms",
        "memory": "312 MiB", "energy": "2 J/token",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "unknown", "why"),
    [
        ({"cold": False}, {"prefill", "load"}, side.NOT_COLD),
        ({"answer": replace(DONE.answer, cached=True)}, {"TTFT", "prefill", "decode", "load"}, side.OUT_OF_CACHE),
        ({"joined": True}, {"TTFT", "prefill", "decode", "load"}, side.JOINED),
        ({"memory": None}, {"memory"}, side.NOT_SAID),
        ({"joules": None, "no_joules": "no counter"}, {"energy"}, "No counter."),
    ],
)
def test_what_is_unknown_is_a_dash_with_its_reason(changes: dict[str, object], unknown: set[str], why: str) -> None:
    answer = replace(DONE, **changes)  # type: ignore[arg-type]
    missing = [fact for fact in side.facts(PANE, answer) if fact.value == vm.UNKNOWN]
    assert {fact.name for fact in missing} == unknown and why in {fact.why for fact in missing}


def test_a_fair_run_takes_the_place_of_speeds_and_says_so() -> None:
    pane = replace(PANE, fair=Figures(2, (0.21, 0.22), (171.0, 174.2), (18.1, 18.1), (2.0, 2.4)))
    shared = replace(DONE, shared=True)
    assert told(pane, shared) | {"tokens": "42"} == {
        "TTFT": "0.21–0.22 s", "prefill": "171.0–174.2 tok/s", "decode": "18.1 tok/s", "tokens": "42",
        "load": "290 ms", "memory": "312 MiB", "energy": "2–2.4 J/token",
    }  # fmt: skip
    assert "Measured alone" in side.figures_note(pane, shared) and not side.unfair(pane)
    assert side.unfair(replace(PANE, answers=(shared,))) and "Not comparable" in side.figures_note(PANE, shared)
    failed = replace(PANE, unfair="the host went away")
    assert side.figures_note(failed, DONE) == "The fair run failed: The host went away."


@pytest.mark.parametrize(
    ("phase", "words"),
    [("turn", "waits for its turn"), ("measuring", "measuring its speed…"), ("", ""), ("loading", "loading Q8_0…")],
)
def test_what_a_pane_waits_for(phase: str, words: str) -> None:
    assert side.doing(PanePhase(phase), "Q8_0") == words


def test_names_are_short_where_all_are_of_one_family() -> None:
    teacher = Pane("t", "Q4_0 · Qwen3 4B")
    assert side.short(PANE, (PANE, Pane("n", "Q2_K · SmolLM2"))) == "Q8_0"
    assert side.short(PANE, (PANE, teacher)) == "Q8_0 · SmolLM2"


def test_how_an_answer_stands_to_the_reference() -> None:
    assert side.differs(compare("a b", "a b"), "F16") == "The same words as F16."
    assert side.differs(compare("a b c d", "a x c d"), "F16") == (
        "Differs from F16 from word 2 on; 75 % of the words are shared."
    )


def test_hosts_are_named_where_they_differ() -> None:
    there = replace(DONE, answer=replace(DONE.answer, host="there"))
    round_ = Round(("why?",), (PANE, replace(PANE, answers=(there,))))
    assert "Answered by there" in side.where(round_, 0, there)
    assert side.where(Round(("why?",), (PANE, PANE)), 0, DONE) == ""


def cast(*choices: Vote_Choice, a: str = "x", b: str = "y") -> list[Vote]:
    return [Vote(str(n), float(n), "local", "f", "t", "q", a, b, choice) for n, choice in enumerate(choices)]


@pytest.mark.parametrize(
    ("choices", "known", "stands"),
    [
        (["a"] * 8, "X is preferred to Y", "8 of 8 votes for X; evidence 28.4"),
        (
            [*["b"] * 7, "tie"], "Y and X: not separable yet",
            "7 of 7 votes for Y, 1 tie; 1 more for Y in a row would decide",
        ),
        (["tie", "same"], "X and Y: not separable yet", "no vote preferred one, 1 tie, 1 with the same words"),
    ],
)  # fmt: skip
def test_a_verdict_says_what_it_rests_on(choices: list[Vote_Choice], known: str, stands: str) -> None:
    [verdict] = votes.judged("f", "t", cast(*choices)).verdicts
    assert votes.verdict_words(verdict, str.upper) == (known, stands)


def test_a_ranking_says_where_its_order_means_nothing_yet() -> None:
    result = votes.judged("f", "t", [*cast("a"), *cast("b", b="z"), *cast("a", a="y", b="z")])
    assert len(result.ranks) == 3 and "Not separable yet" in votes.separable(result)
    assert votes.needed(result) == "Evidence of 60 decides a pair: 20 for each of 3 pairs that are looked at."
    sure = votes.judged("f", "t", [*cast(*["a"] * 40), *cast(*["a"] * 40, a="y", b="z"), *cast(*["a"] * 40, b="z")])
    assert votes.separable(sure) == "Elo points, with 95 % intervals." and votes.needed(
        votes.judged("f", "t", cast("a"))
    ).endswith("decides a pair.")


def test_a_poll_says_why_no_answers_are_shown() -> None:
    poll = Poll("f", "t", (PANE, PANE), ("why?",))
    assert "when both are whole" in votes.progress(PollView(poll, None))
    assert "nothing to choose. 1 pair said the same words and was set aside." in votes.progress(
        PollView(poll, None, same=1, done=True)
    )
    assert votes.reveal_words(Reveal("F16", "Q2_K", "right")) == "A was F16, B was Q2_K. You preferred Q2_K."
