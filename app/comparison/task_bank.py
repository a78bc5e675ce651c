"""Tasks whose answers are computed, not looked up: made anew from a seed, so no model can have learnt them.

    tasks = make_tasks(seed, choices=200, sums=60, instructions=40)

The same seed makes the same tasks on every machine. What a task asks to be checked is checked in code.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum

LETTERS = "ABCD"
_NUMBER = re.compile(r"-?\d{1,3}(?:,\d{3})+(?![\d,])|-?\d+(?:\.\d+)?")
_BULLET = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s+\S")
_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_UNITS = (
    ("minutes", "seconds", 60), ("hours", "minutes", 60), ("weeks", "days", 7), ("metres", "centimetres", 100),
    ("kilograms", "grams", 1000), ("kilometres", "metres", 1000), ("dozens", "pieces", 12),
)  # fmt: skip
_WORDS = (
    "lantern", "harbour", "window", "carpet", "river", "basket", "copper", "meadow", "pencil", "saddle", "timber",
    "violin", "walnut", "anchor", "button", "candle", "desert", "engine", "feather", "garden",
)  # fmt: skip
_PEOPLE = ("Mira", "Jonas", "Aisha", "Pavel", "Lucia", "Tomas", "Noor", "Erik")
_THINGS = ("apples", "stamps", "marbles", "books", "tickets", "shells", "coins", "cards")


class TaskKind(StrEnum):
    CHOICE = "multiple choice"
    ARITHMETIC = "arithmetic"
    INSTRUCTIONS = "instructions"


@dataclass(frozen=True, slots=True)
class Task:
    """`answer` is the letter of a choice or the number of a sum; for instructions `check` says whether a text obeys."""

    id: str
    kind: TaskKind
    question: str
    answer: str = ""
    check: Callable[[str], bool] | None = None

    def passes(self, text: str) -> bool:
        """Whether a generated answer is right (choices are read off probabilities instead)."""
        if self.check is not None:
            return self.check(text)
        return last_number(text) == float(self.answer)


def last_number(text: str) -> float | None:
    """The number that an answer comes to: 5 is not in "50", and "1,250" is one number."""
    found = _NUMBER.findall(text)
    return float(found[-1].replace(",", "")) if found else None


def make_tasks(seed: int, *, choices: int = 200, sums: int = 60, instructions: int = 40) -> tuple[Task, ...]:
    """All of a deep run, of each kind as many as asked, every template in turn."""
    made = []
    for kind, count, makers in (
        (TaskKind.CHOICE, choices, _CHOICES),
        (TaskKind.ARITHMETIC, sums, _SUMS),
        (TaskKind.INSTRUCTIONS, instructions, _INSTRUCTIONS),
    ):
        generator, questions = random.Random(f"{seed} {kind.value}"), set[str]()
        while len(questions) < count:
            identity = f"{kind.value.split()[0]}-{len(questions) + 1:03}"
            task = makers[len(questions) % len(makers)](generator, identity)
            if task.question not in questions:
                questions.add(task.question)
                made.append(task)
    return tuple(made)


# multiple choice


def _choice(generator: random.Random, identity: str, question: str, right: str, wrong: Sequence[str]) -> Task:
    """Three different wrong answers in shuffled places. The letter is all that is asked for."""
    others = list(dict.fromkeys(one for one in wrong if one != right))
    listed = [right, *generator.sample(others, 3)]
    generator.shuffle(listed)
    options = "\n".join(f"{letter}. {one}" for letter, one in zip(LETTERS, listed, strict=True))
    text = f"{question}\n{options}\nAnswer with the letter of the right choice only."
    return Task(identity, TaskKind.CHOICE, text, LETTERS[listed.index(right)])


def _near(generator: random.Random, value: int) -> list[str]:
    steps = [1, 2, 5, 9, 10, 11, 20, 100]
    found = [value + sign * step for step in steps for sign in (1, -1)]
    generator.shuffle(found)
    return [str(one) for one in found if one >= 0]


def _product(generator: random.Random, identity: str) -> Task:
    a, b = generator.randint(3, 19), generator.randint(3, 12)
    return _choice(generator, identity, f"What is {a} times {b}?", str(a * b), _near(generator, a * b))


def _conversion(generator: random.Random, identity: str) -> Task:
    (large, small, factor), n = generator.choice(_UNITS), generator.randint(2, 30)
    wrong = [str(n * other) for other in (10, 12, 24, 60, 100, 1000, 7) if other != factor]
    return _choice(generator, identity, f"How many {small} are {n} {large}?", str(n * factor), wrong)


def _weekday(generator: random.Random, identity: str) -> Task:
    start, ahead = generator.randrange(7), generator.randint(2, 40)
    right = _DAYS[(start + ahead) % 7]
    question = f"If today is {_DAYS[start]}, which day is it in {ahead} days?"
    return _choice(generator, identity, question, right, [day for day in _DAYS if day != right])


def _day_of_year(generator: random.Random, identity: str) -> Task:
    day = date(generator.choice((2021, 2022, 2023)), 1, 1) + timedelta(generator.randrange(330))
    ahead = generator.randint(3, 30)
    told = [f"{(day + timedelta(shift)):%B} {(day + timedelta(shift)).day}" for shift in (ahead, ahead - 1, ahead + 1)]
    wrong = [*told[1:], f"{(day + timedelta(ahead + 7)):%B} {(day + timedelta(ahead + 7)).day}"]
    question = f"Which date is {ahead} days after {day:%B} {day.day}, {day.year}?"
    return _choice(generator, identity, question, told[0], wrong)


def _letters_in(generator: random.Random, identity: str) -> Task:
    word = generator.choice(_WORDS)
    place = generator.randint(1, len(word))
    wrong = [*dict.fromkeys(letter for letter in word + "qxz" if letter != word[place - 1])]
    return _choice(generator, identity, f"What is letter number {place} of the word {word}?", word[place - 1], wrong)


def _alphabetical(generator: random.Random, identity: str) -> Task:
    listed = generator.sample(_WORDS, 4)
    question = "Which of these words comes first in the alphabet?"
    return _choice(generator, identity, question, min(listed), [word for word in listed if word != min(listed)])


def _trace(generator: random.Random, identity: str) -> Task:
    start, step, rounds = generator.randint(0, 9), generator.randint(2, 6), generator.randint(2, 5)
    total = start + step * rounds
    code = f"x = {start}\nfor i in range({rounds}):\n    x = x + {step}\nprint(x)"
    wrong = [str(total + step), str(total - step), *_near(generator, total)]
    return _choice(generator, identity, f"What does this Python program print?\n{code}", str(total), wrong)


_CHOICES = (_product, _conversion, _weekday, _day_of_year, _letters_in, _alphabetical, _trace)


# sums


def _sum(identity: str, question: str, right: int) -> Task:
    return Task(identity, TaskKind.ARITHMETIC, f"{question} Answer with the number only.", str(right))


def _plain_sum(generator: random.Random, identity: str) -> Task:
    digits = generator.choice((2, 3, 4))
    a, b = (generator.randint(10 ** (digits - 1), 10**digits - 1) for _ in "ab")
    if generator.random() < 0.5:
        return _sum(identity, f"What is {a} + {b}?", a + b)
    return _sum(identity, f"What is {max(a, b)} - {min(a, b)}?", abs(a - b))


def _plain_product(generator: random.Random, identity: str) -> Task:
    a, b = generator.randint(11, 99), generator.randint(3, 19)
    return _sum(identity, f"What is {a} * {b}?", a * b)


def _story(generator: random.Random, identity: str) -> Task:
    who, other = generator.sample(_PEOPLE, 2)
    things, had = generator.choice(_THINGS), generator.randint(12, 90)
    given, times = generator.randint(2, had - 4), generator.randint(2, 6)
    got = generator.randint(3, 15)
    question = (
        f"{who} has {had} {things} and gives {given} of them to {other}. "
        f"Then {who} gets {times} boxes with {got} {things} each. How many {things} does {who} have now?"
    )
    return _sum(identity, question, had - given + times * got)


def _traced_sum(generator: random.Random, identity: str) -> Task:
    listed = [generator.randint(1, 30) for _ in range(generator.randint(3, 5))]
    return _sum(identity, f"What does this Python line print? print(sum({listed}))", sum(listed))


_SUMS = (_plain_sum, _plain_product, _story, _traced_sum)


# instructions


def words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+(?:['’-][^\W_]+)*", text)


def _instruction(identity: str, question: str, check: Callable[[str], bool]) -> Task:
    return Task(identity, TaskKind.INSTRUCTIONS, question, check=check)


def _exact_words(generator: random.Random, identity: str) -> Task:
    count, topic = generator.randint(4, 9), generator.choice(_WORDS)
    question = f"Write one sentence about a {topic} that has exactly {count} words."
    return _instruction(identity, question, lambda text: len(words(text)) == count)


def _must_contain(generator: random.Random, identity: str) -> Task:
    one, other, banned = generator.sample(_WORDS, 3)
    question = f"Write two sentences that use the words {one} and {other}, but not the word {banned}."
    return _instruction(
        identity,
        question,
        lambda text: {one, other} <= (said := {w.lower() for w in words(text)}) and banned not in said,
    )


def _json_keys(generator: random.Random, identity: str) -> Task:
    keys = generator.sample(("name", "city", "age", "colour", "price", "weight"), 2)
    question = (
        f"Reply with nothing but a JSON object that has the keys {keys[0]} and {keys[1]}, with values you make up."
    )
    return _instruction(identity, question, lambda text: set(_object_in(text) or ()) == set(keys))


def _object_in(text: str) -> dict[str, object] | None:
    """The JSON object that a text is, also within a code fence."""
    bare = re.sub(r"^```(?:json)?\s*|\s*```$", "", text.strip())
    try:
        told = json.loads(bare)
    except ValueError:
        return None
    return told if isinstance(told, dict) else None


def _bullets(generator: random.Random, identity: str) -> Task:
    count, topic = generator.randint(3, 6), generator.choice(_WORDS)
    question = f"List exactly {count} things that go with the word {topic}, one bullet point each, and nothing else."

    def check(text: str) -> bool:
        lines = [line for line in text.splitlines() if line.strip()]
        return len(lines) == count and all(_BULLET.match(line) for line in lines)

    return _instruction(identity, question, check)


def _lower_case(generator: random.Random, identity: str) -> Task:
    question = f"Write one sentence about a {generator.choice(_WORDS)} in lower case letters only."
    return _instruction(identity, question, lambda text: bool(words(text)) and text == text.lower())


def _ends_with(generator: random.Random, identity: str) -> Task:
    end = f"{generator.choice(_WORDS)} and {generator.choice(_WORDS)}"
    question = f"Write one sentence that ends with the words: {end}"
    return _instruction(identity, question, lambda text: text.strip().rstrip(".!\"'").lower().endswith(end))


_INSTRUCTIONS = (_exact_words, _must_contain, _json_keys, _bullets, _lower_case, _ends_with)
