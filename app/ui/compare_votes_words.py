"""What the votes view says: verdicts, ranks and what is still missing. Pure: values in, words out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from app.comparison.ballots import PollView, Reveal
from app.comparison.blind_votes import ENOUGH, Rank, Verdict, Vote, ranking, verdicts
from app.ui import view_models as vm
from app.ui.compare_side_words import Choice

OWN_TASK = "your own questions"
EVIDENCE = (
    "How much likelier these votes are if one is better than if nobody could tell. It may be looked at after every "
    "vote: where nobody can tell, it reaches what is needed in at most one of twenty comparisons."
)
ELO = "Elo points around the mean of these variants; 100 more is about 64 votes of 100. The interval covers 95 %."

Label = Callable[[str], str]
"""A variant's name to what the page calls it."""


@dataclass(frozen=True, slots=True)
class Result:
    """Votes of one family and task, judged."""

    family: str
    task: str
    votes: tuple[Vote, ...]
    names: tuple[str, ...]
    verdicts: tuple[Verdict, ...]
    ranks: tuple[Rank, ...]

    @property
    def cast(self) -> int:
        return sum(vote.choice != "same" for vote in self.votes)

    @property
    def same(self) -> int:
        return len(self.votes) - self.cast


def judged(family: str, task: str, votes: Sequence[Vote]) -> Result:
    names = tuple(dict.fromkeys(name for vote in votes for name in sorted((vote.a, vote.b))))
    told = tuple(each for each in verdicts(names, votes) if each.votes or each.same)
    return Result(family, task, tuple(votes), names, told, ranking(names, votes) if len(names) > 2 else ())


def family_of(choices: Sequence[Choice]) -> str:
    """What votes on these are kept under."""
    return " / ".join(dict.fromkeys(choice.family.title for choice in choices))


def heading(result: Result) -> str:
    same = f", {vm.count(result.same, 'pair')} with the same words set aside" if result.same else ""
    return f"{vm.count(result.cast, 'vote')}{same}"


def verdict_words(verdict: Verdict, label: Label) -> tuple[str, str]:
    """(what is known, how it stands)."""
    a, b = label(verdict.a), label(verdict.b)
    ahead, behind, wins = (a, b, verdict.wins_a) if verdict.wins_a >= verdict.wins_b else (b, a, verdict.wins_b)
    decided = verdict.wins_a + verdict.wins_b
    ties = f", {vm.count(verdict.ties, 'tie')}" if verdict.ties else ""
    same = f", {verdict.same} with the same words" if verdict.same else ""
    if not decided:
        return f"{a} and {b}: not separable yet", f"no vote preferred one{ties}{same}"
    told = f"{wins} of {vm.count(decided, 'vote')} for {ahead}{ties}{same}"
    if verdict.winner:
        won, lost = (a, b) if verdict.winner == verdict.a else (b, a)
        return f"{won} is preferred to {lost}", f"{told}; evidence {verdict.evidence:.3g}"
    missing = f"{verdict.more} more for {ahead} in a row would decide"
    return f"{ahead} and {behind}: not separable yet", f"{told}; {missing}"


def reveal_words(reveal: Reveal) -> str:
    preferred = {"left": reveal.left, "right": reveal.right}.get(reveal.choice)
    told = f"You preferred {preferred}." if preferred else "You called it a tie."
    return f"A was {reveal.left}, B was {reveal.right}. {told}"


def progress(view: PollView) -> str:
    """What is to be told while no ballot is ready."""
    same = f" {vm.count(view.same, 'pair')} said the same words and {'was' if view.same == 1 else 'were'} set aside."
    if view.done:
        told = (
            "All pairs have been voted on."
            if view.votes
            else "No pair of answers differed: there is nothing to choose."
        )
        return told + (same if view.same else "")
    return "Both are answering. Their answers are shown when both are whole." + (same if view.same else "")


def scale(ranks: Sequence[Rank]) -> tuple[float, float]:
    """The ends of a common axis for these intervals."""
    low, high = min(rank.low for rank in ranks), max(rank.high for rank in ranks)
    return (low, high) if high > low else (low - 1, high + 1)


def rank_words(rank: Rank) -> str:
    elo, low, high = (f"{value:+.0f}".replace("-", "−") for value in (rank.elo, rank.low, rank.high))  # noqa: RUF001
    return f"{elo} ({low} to {high})"


def separable(result: Result) -> str:
    """What the ranking's figures are, and whether its order means anything yet."""
    apart = any(one.high < other.low for one in result.ranks for other in result.ranks)
    return "Elo points, with 95 % intervals" + ("." if apart else ". Not separable yet: all intervals overlap.")


def needed(result: Result) -> str:
    """What it takes to decide one of these pairs."""
    pairs = len(result.names) * (len(result.names) - 1) // 2
    why = f": {ENOUGH:.0f} for each of {pairs} pairs that are looked at" if pairs > 1 else ""
    return f"Evidence of {ENOUGH * max(1, pairs):.0f} decides a pair{why}."
