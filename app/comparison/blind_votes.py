"""What blind votes prove, and since when. Pure.

A verdict may be looked for after every vote: `E = 2^n · B(k + 1, n - k + 1)` is the evidence against "fifty-fifty" of k
wins in n votes that preferred one (a mixture over all other chances, Beta(1, 1)), and by Ville's inequality it exceeds
20 with a chance of at most 5 % over all looks together where voters cannot tell. With m pairs at once each needs 20·m.
The ranking is Bradley and Terry's, `P(i beats j) = 1 / (1 + exp(θj - θi))`, fitted by minorisation-maximisation with
one virtual tie for each pair; its intervals come from the curvature at the fit, virtual ties included (resampling votes
would give eight wins out of eight no interval at all).
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Literal

ENOUGH = 20.0  # evidence: a false alarm in at most one of twenty comparisons
NORMAL = 1.959964  # standard errors of a 95 % interval
ELO = 400 / math.log(10)  # points for one unit of θ
_PRECISION, _ROUNDS = 1e-9, 5000

Choice = Literal["a", "b", "tie", "same"]
"""Who was better; "tie" was voted, "same" is said by the texts themselves."""


@dataclass(frozen=True, slots=True)
class Vote:
    """One judgement of two variants' answers to one question. `left` is the one that stood on the left side; `at` in
    seconds since the epoch, `seconds` from the reveal to the vote. Digests say which weights they were."""

    id: str
    at: float
    principal: str
    family: str
    task: str
    question: str
    a: str
    b: str
    choice: Choice
    left: str = ""
    digest_a: str = ""
    digest_b: str = ""
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Of one pair. `winner` is "" while they are not told apart. `evidence` is the largest E seen after any vote,
    `needed` what it takes; `more` is how many further votes for the leader in a row would decide."""

    a: str
    b: str
    wins_a: int
    wins_b: int
    ties: int
    same: int
    evidence: float
    needed: float
    winner: str
    more: int

    @property
    def votes(self) -> int:
        return self.wins_a + self.wins_b + self.ties


@dataclass(frozen=True, slots=True)
class Rank:
    """A variant's strength in Elo points around the mean of all, with its 95 % interval."""

    name: str
    elo: float
    low: float
    high: float
    votes: int


def evidence(wins: int, votes: int) -> float:
    """E of that many wins among the votes that preferred one."""
    log = votes * math.log(2) + math.lgamma(wins + 1) + math.lgamma(votes - wins + 1) - math.lgamma(votes + 2)
    return math.exp(min(log, 700.0))


def verdict(a: str, b: str, votes: Iterable[Vote], pairs: int = 1) -> Verdict:
    """In the order of voting: once the evidence sufficed, it did."""
    wins, ties, same, most, winner, needed = [0, 0], 0, 0, 1.0, "", ENOUGH * max(1, pairs)
    for vote in sorted((vote for vote in votes if {vote.a, vote.b} == {a, b}), key=lambda vote: vote.at):
        if vote.choice in ("tie", "same"):
            ties += vote.choice == "tie"
            same += vote.choice == "same"
            continue
        wins[0 if (vote.a if vote.choice == "a" else vote.b) == a else 1] += 1
        most = max(most, evidence(max(wins), sum(wins)))
        if not winner and most >= needed:
            winner = a if wins[0] > wins[1] else b
    more = 0 if winner else _more(max(wins), sum(wins), needed)
    return Verdict(a, b, wins[0], wins[1], ties, same, most, needed, winner, more)


def _more(wins: int, votes: int, needed: float) -> int:
    more = 0
    while evidence(wins + more, votes + more) < needed:
        more += 1
    return more


def verdicts(names: Sequence[str], votes: Sequence[Vote]) -> tuple[Verdict, ...]:
    """Of every pair, with the bar raised by their number."""
    pairs = list(combinations(names, 2))
    return tuple(verdict(a, b, votes, len(pairs)) for a, b in pairs)


def ranking(names: Sequence[str], votes: Iterable[Vote]) -> tuple[Rank, ...]:
    """The strongest first. Ties, and answers with the same words, are half a win for each."""
    at = {name: index for index, name in enumerate(names)}
    size = len(names)
    wins = [[0.0 if i == j else 0.5 for j in range(size)] for i in range(size)]  # the virtual ties
    counted = [0] * size
    for vote in votes:
        if vote.a in at and vote.b in at and vote.a != vote.b:
            i, j = at[vote.a], at[vote.b]
            share = {"a": 1.0, "b": 0.0}.get(vote.choice, 0.5)
            wins[i][j] += share
            wins[j][i] += 1 - share
            counted[i] += 1
            counted[j] += 1
    if size < 2:
        return tuple(Rank(name, 0.0, 0.0, 0.0, 0) for name in names)
    theta = strengths(wins)
    errors = _errors(wins, theta)
    ranks = [
        Rank(name, ELO * theta[i], ELO * (theta[i] - NORMAL * errors[i]), ELO * (theta[i] + NORMAL * errors[i]),
             counted[i])
        for name, i in at.items()
    ]  # fmt: skip
    return tuple(sorted(ranks, key=lambda rank: -rank.elo))


def strengths(wins: Sequence[Sequence[float]]) -> list[float]:
    """θ with mean 0 (Hunter's MM algorithm for Bradley-Terry). Every pair has some wins both ways, so it converges."""
    size = len(wins)
    power = [1.0] * size
    for _ in range(_ROUNDS):
        new = []
        for i in range(size):
            played = sum((wins[i][j] + wins[j][i]) / (power[i] + power[j]) for j in range(size) if j != i)
            new.append(sum(wins[i]) / played)
        middle = math.exp(sum(map(math.log, new)) / size)
        new = [each / middle for each in new]
        moved = max(abs(math.log(late / early)) for early, late in zip(power, new, strict=True))
        power = new
        if moved < _PRECISION:
            break
    return [math.log(each) for each in power]


def _errors(wins: Sequence[Sequence[float]], theta: Sequence[float]) -> list[float]:
    """Standard errors: the information of all pairs, inverted where θ sums to 0 (hence the share of one over n)."""
    size = len(theta)
    information = [[1 / size] * size for _ in range(size)]
    for i, j in combinations(range(size), 2):
        chance = 1 / (1 + math.exp(theta[j] - theta[i]))
        weight = (wins[i][j] + wins[j][i]) * chance * (1 - chance)
        information[i][i] += weight
        information[j][j] += weight
        information[i][j] -= weight
        information[j][i] -= weight
    inverse = _inverse(information)
    return [math.sqrt(max(0.0, inverse[i][i] - 1 / size)) for i in range(size)]


def _inverse(matrix: Sequence[Sequence[float]]) -> list[list[float]]:
    """Of a small positive definite one, by Gauss and Jordan: no pivot can vanish."""
    size = len(matrix)
    rows = [[*row, *(float(i == j) for j in range(size))] for i, row in enumerate(matrix)]
    for i in range(size):
        pivot = rows[i][i]
        rows[i] = [value / pivot for value in rows[i]]
        for j in range(size):
            if j != i:
                factor = rows[j][i]
                rows[j] = [value - factor * over for value, over in zip(rows[j], rows[i], strict=True)]
    return [row[size:] for row in rows]


def as_csv(votes: Iterable[Vote]) -> str:
    """One vote a line; a text that a spreadsheet would take for a formula gets an apostrophe in front."""
    out = io.StringIO()
    writer = csv.DictWriter(out, fieldnames=list(Vote.__dataclass_fields__), lineterminator="\n")
    writer.writeheader()
    for vote in votes:
        writer.writerow({name: _harmless(value) for name, value in asdict(vote).items()})
    return out.getvalue()


def _harmless(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def by_family(votes: Iterable[Vote]) -> Mapping[tuple[str, str], tuple[Vote, ...]]:
    """Votes by (family, task), in the order of voting."""
    groups: dict[tuple[str, str], list[Vote]] = {}
    for vote in sorted(votes, key=lambda vote: vote.at):
        groups.setdefault((vote.family, vote.task), []).append(vote)
    return {key: tuple(found) for key, found in groups.items()}
