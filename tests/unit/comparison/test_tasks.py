"""Generated tasks: the same from a seed, their answers computed, and scores paired with the reference's."""

from __future__ import annotations

import json
import math
from collections import Counter

import pytest
from scipy import stats

from app.comparison.bench import Reply
from app.comparison.task_bank import LETTERS, TaskKind, last_number, make_tasks
from app.comparison.tasks import (
    TaskOutcome,
    outcome,
    outcome_from_json,
    outcome_to_json,
    run_tasks,
    task_scores,
)
from app.core.generation import Usage

TASKS = make_tasks(7)
CHOICES = [task for task in TASKS if task.kind is TaskKind.CHOICE]
SUMS = [task for task in TASKS if task.kind is TaskKind.ARITHMETIC]
ORDERS = [task for task in TASKS if task.kind is TaskKind.INSTRUCTIONS]


def said(text: str, logprobs=(), **more) -> Reply:
    return Reply(text, Usage(), 0.1, 0.2, logprobs, **more)


def letters(**probabilities: float):
    listed = [{"token": name.replace("_", " "), "logprob": math.log(p)} for name, p in probabilities.items()]
    return said("x", [{"token": "x", "top_logprobs": listed}])


def test_a_seed_makes_the_same_tasks_again_and_another_one_others():
    again, other = make_tasks(7), make_tasks(8)
    assert [(t.id, t.question, t.answer) for t in again] == [(t.id, t.question, t.answer) for t in TASKS]
    assert not {t.question for t in CHOICES} & {t.question for t in other if t.kind is TaskKind.CHOICE}
    assert Counter(t.kind for t in TASKS) == {TaskKind.CHOICE: 200, TaskKind.ARITHMETIC: 60, TaskKind.INSTRUCTIONS: 40}
    assert len({t.question for t in TASKS}) == len({t.id for t in TASKS}) == 300


def test_a_choice_has_four_different_answers_and_no_place_is_favoured():
    for task in CHOICES:
        options = [line[3:] for line in task.question.splitlines() if line[:3] in {f"{letter}. " for letter in LETTERS}]
        assert len(options) == len(set(options)) == 4
    places = Counter(task.answer for task in CHOICES)
    assert stats.chisquare([places[letter] for letter in LETTERS]).pvalue > 0.001


def test_the_right_choice_is_right_by_another_way_of_computing():
    for task in CHOICES:
        lines = task.question.splitlines()
        options = {line[0]: line[3:] for line in lines if line[1:3] == ". "}
        right = options[task.answer]
        if " times " in lines[0]:
            a, b = (int(word.strip("?")) for word in lines[0].split() if word.strip("?").isdigit())
            assert int(right) == sum(a for _ in range(b))
        elif "Python program" in lines[0]:
            printed: list[int] = []
            code = "\n".join(line for line in lines[1:] if line[1:3] != ". " and not line.startswith("Answer"))
            exec(code, {"print": printed.append})  # noqa: S102 — a program of our own making
            assert printed == [int(right)]
        elif "alphabet" in lines[0]:
            assert right == sorted(options.values())[0]


def test_a_sum_is_right_by_evaluating_it():
    for task in SUMS:
        if task.question.startswith("What is "):
            assert float(task.answer) == eval(task.question[8:].split("?")[0])  # noqa: S307 — as made here
        elif "print(sum(" in task.question:
            line = task.question.split("print(")[1].split(") Answer")[0]
            assert float(task.answer) == eval(line)  # noqa: S307 — as made here


@pytest.mark.parametrize(
    ("text", "number"),
    [("53", 53), ("5 + 48 = 53.", 53), ("It is 1,250 euros", 1250), ("50 of 53", 53), ("none", None), ("-7", -7),
     ("3.5", 3.5), ("The answer is **12**", 12)],
)  # fmt: skip
def test_the_number_an_answer_comes_to(text, number):
    assert last_number(text) == number


def test_five_is_not_in_fifty():
    task = next(task for task in SUMS if len(task.answer) >= 2)
    assert task.passes(f"It is {task.answer}.")
    assert not task.passes(f"{task.answer}0") and not task.passes(task.answer[:-1]) and not task.passes("")


def obeying(task) -> str:
    """An answer that does what the question says, made from its words."""
    q = task.question
    if "exactly" in q and "words." in q:
        return " ".join(["word"] * int(q.split("exactly ")[1].split()[0])) + "."
    if "use the words" in q:
        one, other = q.split("use the words ")[1].split(",")[0].split(" and ")
        return f"The {one} is here. The {other.capitalize()} is there."
    if "JSON" in q:
        one, other = q.split("the keys ")[1].split(",")[0].split(" and ")
        return f"```json\n{json.dumps({one: 1, other: 'x'})}\n```"
    if "bullet" in q:
        return "\n".join(f"- thing {i}" for i in range(int(q.split("exactly ")[1].split()[0])))
    if "lower case" in q:
        return "something small, told quietly."
    return "Here it comes: " + q.split("the words: ")[1] + "."


@pytest.mark.parametrize("task", ORDERS, ids=lambda task: task.id)
def test_an_instruction_is_passed_by_obeying_and_by_nothing_else(task):
    assert task.passes(obeying(task))
    assert not task.passes("") and not task.passes("I am sorry, I CANNOT do that right now, please ask me tomorrow!")


def test_a_choice_is_read_off_the_probabilities_of_both_ways_to_write_the_letter():
    task = CHOICES[0]
    others = [letter for letter in LETTERS if letter != task.answer]
    found = outcome(task, letters(The=0.5, **{others[0]: 0.15, task.answer: 0.1, f"_{task.answer}": 0.1}))
    assert (found.passed, found.answer) == (True, task.answer)
    assert found.credit == pytest.approx(0.2 / 0.35)


def test_a_choice_without_any_letter_is_not_passed():
    assert outcome(CHOICES[0], letters(The=0.9)) == TaskOutcome(CHOICES[0].id, False, 0.0, "")
    assert outcome(CHOICES[0], said("A")).passed is False


def test_an_answer_that_the_host_broke_off_is_not_passed():
    assert outcome(SUMS[0], said(SUMS[0].answer)).passed
    assert not outcome(SUMS[0], said(SUMS[0].answer, complete=False)).passed


def outcomes(passed, tasks=CHOICES):
    return [
        TaskOutcome(t.id, bool(p), 0.9 if p else 0.2, "A" if p else "B") for t, p in zip(tasks, passed, strict=True)
    ]


def test_scores_are_paired_and_adjusted_for_the_number_of_variants():
    reference = outcomes([True] * 120 + [False] * 80)
    worse = outcomes([True] * 90 + [False] * 105 + [True] * 5)
    found = task_scores(TASKS, reference, {"worse": worse, "same": reference})
    (score,) = found["worse"]
    assert (score.kind, score.items, score.passed, score.reference_passed) == ("multiple choice", 200, 0.475, 0.6)
    assert score.flips == score.answers_changed == 0.175 and score.difference.value == pytest.approx(-0.125)
    assert score.p_value == pytest.approx(2 * stats.binomtest(5, 35).pvalue)
    assert score.credit is not None and score.credit.value == pytest.approx(-0.125 * 0.7)
    assert score.difference.high is not None and score.difference.high < 0 and not score.equivalent
    (same,) = found["same"]
    assert (same.p_value, same.flips, same.difference.value) == (1.0, 0.0, 0.0) and same.detectable > 0.01


def test_only_items_of_both_count_and_kinds_stay_apart():
    reference = outcomes([True] * 200) + outcomes([True] * 60, SUMS)
    found = task_scores(TASKS, reference, {"v": outcomes([True] * 200)[:50] + outcomes([False] * 60, SUMS)})["v"]
    assert [(score.kind, score.items, score.passed) for score in found] == [
        ("multiple choice", 50, 1.0),
        ("arithmetic", 60, 0.0),
    ]
    assert found[1].credit is None


def test_an_outcome_is_the_same_after_json():
    one = TaskOutcome("choice-001", True, 0.7, "A")
    assert outcome_from_json(json.loads(json.dumps(outcome_to_json(one)))) == one
    with pytest.raises(ValueError, match="no outcome"):
        outcome_from_json({"task": "x"})


@pytest.mark.anyio
async def test_tasks_are_asked_one_by_one_and_those_that_are_there_left_out():
    asked = []

    class Bench:
        async def render(self, model, question, system=""):
            return f"<{question}>"

        async def generate(self, model, body):
            asked.append(body)
            return letters(A=0.9) if body.get("logprobs") else said("12")

    tasks = [CHOICES[0], CHOICES[1], SUMS[0]]
    found = [one async for one in run_tasks(Bench(), "m", tasks, done={CHOICES[1].id})]
    assert [one.task_id for one in found] == [CHOICES[0].id, SUMS[0].id]
    assert [body["options"]["num_predict"] for body in asked] == [1, 40]
    assert asked[0]["prompt"] == f"<{CHOICES[0].question}>" and asked[0]["top_logprobs"] == 20
