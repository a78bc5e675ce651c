"""Generated tasks on a host, each paired with the reference's outcome: flips, exact tests, and what could be seen.

A quiz that fits a laptop cannot see what a 4-bit variant loses; it finds cliffs. So "no difference" always comes with
the least difference that this many items would have shown, and "equivalent" only where a test says so.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from app.comparison import intervals
from app.comparison.bench import Bench, Reply
from app.comparison.divergence import TOP
from app.comparison.forcing import FIXED_OPTIONS
from app.comparison.probes import rendered
from app.comparison.results import TaskScore
from app.comparison.task_bank import LETTERS, Task, TaskKind
from app.core.generation import Json

_ROOM = {TaskKind.CHOICE: 1, TaskKind.ARITHMETIC: 40, TaskKind.INSTRUCTIONS: 96}  # tokens of an answer


@dataclass(frozen=True, slots=True)
class TaskOutcome:
    """`credit` is the probability of the right choice among the four (choices), otherwise 1 or 0. `answer` is what was
    said: a letter, or the beginning of the text."""

    task_id: str
    passed: bool
    credit: float
    answer: str


async def run_tasks(
    bench: Bench, model: str, tasks: Sequence[Task], options: Mapping[str, Json] = FIXED_OPTIONS,
    done: Collection[str] = (),
) -> AsyncIterator[TaskOutcome]:  # fmt: skip
    """One outcome after the other, those in `done` left out. Raises `LoupeError`s of the bench."""
    for task in tasks:
        if task.id in done:
            continue
        prompt = await rendered(bench, model, task.question)
        body: dict[str, Json] = {
            "prompt": prompt, "raw": True, "think": False, "options": {**options, "num_predict": _ROOM[task.kind]},
        }  # fmt: skip
        if task.kind is TaskKind.CHOICE:
            body |= {"logprobs": True, "top_logprobs": TOP}
        yield outcome(task, await bench.generate(model, body))


def outcome(task: Task, reply: Reply) -> TaskOutcome:
    if task.kind is TaskKind.CHOICE:
        return _chosen(task, reply)
    passed = reply.complete and task.passes(reply.text)
    return TaskOutcome(task.id, passed, float(passed), reply.text[:200])


def _chosen(task: Task, reply: Reply) -> TaskOutcome:
    """By the probabilities of "A" and " A" to "D" and " D" for the next token, among themselves."""
    found = dict.fromkeys(LETTERS, 0.0)
    listed = reply.logprobs[0].get("top_logprobs") if reply.logprobs else None
    for one in listed if isinstance(listed, list) else ():
        if isinstance(one, dict) and (letter := str(one.get("token", "")).strip()) in found:
            logprob = one.get("logprob")
            found[letter] += math.exp(logprob) if isinstance(logprob, int | float) else 0.0
    total = sum(found.values())
    if not total:
        return TaskOutcome(task.id, False, 0.0, "")
    best = max(found, key=lambda letter: found[letter])
    return TaskOutcome(task.id, best == task.answer, found[task.answer] / total, best)


def task_scores(
    tasks: Sequence[Task], reference: Sequence[TaskOutcome], variants: Mapping[str, Sequence[TaskOutcome]]
) -> dict[str, tuple[TaskScore, ...]]:
    """By variant, a score for every kind that both have outcomes of. P-values after Holm over the variants, for each
    kind of its own."""
    theirs = {one.task_id: one for one in reference}
    found: dict[str, list[TaskScore]] = {name: [] for name in variants}
    for kind in TaskKind:
        ids = [task.id for task in tasks if task.kind is kind]
        scored = {name: _score(kind, ids, theirs, outcomes) for name, outcomes in variants.items()}
        present = {name: score for name, score in scored.items() if score is not None}
        adjusted = intervals.holm([score.p_value for score in present.values()])
        for (name, score), p in zip(present.items(), adjusted, strict=True):
            found[name].append(replace(score, p_value=p))
    return {name: tuple(scores) for name, scores in found.items()}


def _score(
    kind: TaskKind, ids: Sequence[str], reference: Mapping[str, TaskOutcome], outcomes: Sequence[TaskOutcome]
) -> TaskScore | None:
    ours = {one.task_id: one for one in outcomes}
    pairs = [(reference[identity], ours[identity]) for identity in ids if identity in reference and identity in ours]
    if not pairs:
        return None
    n = len(pairs)
    lost = sum(one.passed and not other.passed for one, other in pairs)
    gained = sum(other.passed and not one.passed for one, other in pairs)
    return TaskScore(
        kind=kind.value,
        items=n,
        passed=sum(other.passed for _, other in pairs) / n,
        reference_passed=sum(one.passed for one, _ in pairs) / n,
        difference=intervals.paired_difference(lost, gained, n),
        flips=(lost + gained) / n,
        p_value=intervals.mcnemar(lost, gained),
        detectable=intervals.detectable((lost + gained) / n, n),
        equivalent=intervals.equivalent(lost, gained, n),
        answers_changed=sum(one.answer != other.answer for one, other in pairs) / n,
        credit=intervals.plain_t(intervals.mean_of([[other.credit - one.credit] for one, other in pairs]))
        if kind is TaskKind.CHOICE
        else None,
    )


def outcome_to_json(outcome: TaskOutcome) -> dict[str, Json]:
    return {"task": outcome.task_id, "passed": outcome.passed, "credit": outcome.credit, "answer": outcome.answer}


def outcome_from_json(data: Mapping[str, Json]) -> TaskOutcome:
    """Raises `ValueError` for what `outcome_to_json` did not make."""
    task, passed, credit, answer = (data.get(name) for name in ("task", "passed", "credit", "answer"))
    if not (isinstance(task, str) and isinstance(passed, bool) and isinstance(answer, str)):
        raise ValueError("this is no outcome of a task")
    return TaskOutcome(task, passed, float(credit) if isinstance(credit, int | float) else 0.0, answer)
