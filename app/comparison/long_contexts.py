"""Questions about a long text, for deep runs: quantization may show in long contexts first.

The text is a log book made from a seed, so nobody has read it before; 8,000 characters are some 3,000 tokens of what
tokenizers make of short lines with names and numbers.
"""

from __future__ import annotations

import random

from app.comparison.question_set import Question, QuestionSet

DOMAIN = "long-context"
LENGTH = 8_000  # characters, about
_BOATS = ("Walnut", "Heron", "Marigold", "Saltmarsh", "Juniper", "Kittiwake", "Ember", "Thistle")
_PORTS = ("Bergen", "Aarhus", "Tallinn", "Gdansk", "Bremen", "Ostend", "Malmo", "Turku")
_CARGO = ("apples", "timber", "copper wire", "wool", "salt", "paper", "bicycles", "roof tiles")
_WEATHER = ("in calm weather", "in thick fog", "before a storm", "with a torn sail", "two hours late", "at first light")
_ASKED = (
    "In three sentences, tell what the log says about the boat {boat}.",
    "Which weather did the boats meet, according to this log? Answer in a few sentences.",
    "Write a short report on the boats that came from {port}.",
    "What was brought to the harbour, and by whom? Summarise it in one paragraph.",
    "Which entry of the log is the most unusual, and why?",
    "Write the next three entries of this log, in the same style.",
)


def with_long_contexts(questions: QuestionSet, *, every: int = 12) -> QuestionSet:
    """The set with the six questions of this module among them, one after each `every` others."""
    listed = list(questions.questions)
    for number, question in enumerate(_long_questions()):
        listed.insert(min(len(listed), every * (number + 1) + number), question)
    return QuestionSet(f"{questions.name}-deep", questions.title, questions.version, tuple(listed))


def _long_questions() -> list[Question]:
    generator = random.Random("log book 1")  # another text is another version
    made = []
    for number, asked in enumerate(_ASKED, start=1):
        log = _log(generator)
        question = asked.format(boat=generator.choice(_BOATS), port=generator.choice(_PORTS))
        made.append(
            Question(f"{DOMAIN}-{number:02}", DOMAIN, f"This is the log of a small harbour.\n{log}\n{question}")
        )
    return made


def _log(generator: random.Random) -> str:
    lines, length, day = list[str](), 0, 0
    while length < LENGTH:
        day += generator.randint(1, 2)
        line = (
            f"Day {day}: the {generator.choice(_BOATS)} came from {generator.choice(_PORTS)} "
            f"{generator.choice(_WEATHER)} with {generator.randint(2, 90)} crates of {generator.choice(_CARGO)}."
        )
        lines.append(line)
        length += len(line) + 1
    return "\n".join(lines)
