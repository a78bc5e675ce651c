"""Planning and running a measurement against a bench that is written down; the real one is a contract test."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from app.comparison import probes
from app.comparison.bench import Reply
from app.comparison.forcing import FIXED_OPTIONS, RowState, plain
from app.comparison.probes import Plan, plan, reference_key
from app.comparison.question_set import Question
from app.core.errors import HostRefused
from app.core.generation import Json, Usage

pytestmark = pytest.mark.anyio
QUESTIONS = [Question(f"q-{i}", "prose", f"Question {i}?") for i in range(6)]


def forced(text: str, usage: Usage, **more) -> Reply:
    listed = [{"token": c, "logprob": -1.0, "top_logprobs": [{"token": c, "logprob": -1.0}]} for c in text]
    return Reply(text, usage, 0.1, 0.2, listed, **more)


class WrittenBench:
    """Answers each prompt as `answers` says, letter by letter, within a JSON string where it is asked to and can."""

    def __init__(self, answers: Mapping[str, str], *, template=True, schemas=True, prompt_tokens=10) -> None:
        self.answers, self.template, self.schemas, self.prompt_tokens = answers, template, schemas, prompt_tokens
        self.asked: list[dict[str, Any]] = []

    async def generate(self, model: str, body: Mapping[str, Json]) -> Reply:
        self.asked.append(dict(body))
        usage, form = Usage(prompt_tokens=self.prompt_tokens, output_tokens=9), self.asked[-1].get("format")
        if form is not None and "const" in form:
            return forced(json.dumps(form["const"]), usage)
        told = self.answers.get(str(body["prompt"]), "a plain answer that is long enough")
        if form is None:
            return Reply(told, usage, 0.1, 0.2, complete=told != "loop")
        if not self.schemas:
            raise HostRefused("host", 500, "no schemas here")
        return forced(f'"{told}', usage, complete=told != "loop")

    async def render(self, model: str, question: str, system: str = "") -> str:
        if not self.template:
            raise HostRefused("host", 400, "no template")
        return f"<{question}>"


async def test_the_reference_answers_until_there_are_enough_and_bad_answers_are_passed_over():
    bench = WrittenBench({"<Question 0?>": "short", "<Question 1?>": "loop"})
    pairs = [pair async for pair in probes.answered(bench, "m", QUESTIONS, Plan(3, 24))]
    assert [text.id for text, _ in pairs] == ["q-2", "q-3", "q-4"]
    assert pairs[0][0].prompt == "<Question 2?>"
    assert bench.asked[0]["options"] == {**FIXED_OPTIONS, "num_predict": 25}
    assert bench.asked[0]["raw"] is True and bench.asked[0]["think"] is False


async def test_an_answer_comes_with_the_rows_that_forcing_it_would_give():
    bench = WrittenBench({})
    pairs = [pair async for pair in probes.answered(bench, "m", QUESTIONS, Plan(2, 24))]
    again = [row async for row in probes.measure(bench, "m", [text for text, _ in pairs])]
    assert [replace(row, seconds=0.0) for _, row in pairs] == [replace(row, seconds=0.0) for row in again]
    assert all(row.state is RowState.OK for row in again)


@pytest.mark.parametrize("told", ['two\nlines, a "quote"', 'in quotes, but closed" too soon'])
async def test_where_the_host_does_not_hold_to_the_form_the_answer_is_made_plain_and_forced(told):
    bench = WrittenBench({"<Question 0?>": told})
    ((text, rows),) = [pair async for pair in probes.answered(bench, "m", QUESTIONS, Plan(1, 24))]
    assert text.answer == plain(told) and rows.state is RowState.OK and len(rows.positions) == len(text.answer)


async def test_where_there_are_no_schemas_of_strings_answers_are_made_plain_and_forced():
    bench = WrittenBench({"<Question 0?>": 'two\nlines, a "quote"'}, schemas=False)
    texts = [text async for text, _ in probes.answered(bench, "m", QUESTIONS, Plan(2, 24))]
    assert [text.answer for text in texts] == ["two lines, a quote", "a plain answer that is long enough"]
    assert [list(body.get("format", [])) for body in bench.asked[:3]] == [["type", "pattern"], [], ["const"]]


async def test_answers_that_are_there_are_not_asked_again():
    bench = WrittenBench({})
    first = [text async for text, _ in probes.answered(bench, "m", QUESTIONS, Plan(2, 24))]
    rest = [
        text async for text, _ in probes.answered(bench, "m", QUESTIONS, Plan(4, 24), done={text.id for text in first})
    ]
    assert [text.id for text in first + rest] == ["q-0", "q-1", "q-2", "q-3"] and len(bench.asked) == 4


async def test_a_question_that_fills_the_context_is_passed_over():
    bench = WrittenBench({}, prompt_tokens=4090)
    assert [text async for text, _ in probes.answered(bench, "m", QUESTIONS, Plan(3, 24))] == []


async def test_a_base_model_goes_on_from_the_question():
    bench = WrittenBench({}, template=False)
    texts = [text async for text, _ in probes.answered(bench, "m", QUESTIONS, Plan(1, 24))]
    assert texts[0].prompt == "Question 0?"


async def test_rows_come_text_by_text_and_those_that_are_there_are_left_out():
    bench = WrittenBench({})
    texts = [text async for text, _ in probes.answered(bench, "m", QUESTIONS, Plan(3, 24))]
    rows = [row async for row in probes.measure(bench, "m", texts, done={"q-0"})]
    assert [row.text_id for row in rows] == ["q-1", "q-2"]
    assert all(len(row.positions) == len(texts[0].answer) for row in rows)


async def test_one_fixed_text_is_counted_for_the_tokenizer():
    bench = WrittenBench({}, prompt_tokens=33)
    assert await probes.pangram_tokens(bench, "m") == 33
    assert bench.asked[0]["prompt"] == probes.PANGRAM


@pytest.mark.parametrize("speed", [1.0, 10.0, 40.0, 60.0, 300.0])
def test_a_plan_fits_the_time_or_is_the_least_that_says_something(speed):
    found = plan([speed] * 5, 40, available=144)
    assert 24 <= found.texts <= 32 and 8 <= found.tokens <= 24
    seconds = 1.2 * (found.texts * (found.tokens + 6)) * 5.2 / speed
    assert seconds <= 43 or (found.texts, found.tokens) == (24, 8)


def test_more_variants_are_not_measured_less_well():
    assert plan([80.0] * 8, 40, available=144).tokens >= plan([80.0] * 5, 40, available=144).tokens


def test_a_slow_variant_makes_the_plan_smaller_and_deep_is_fixed():
    assert plan([80.0, 80, 8], 40, available=144).tokens < plan([80.0, 80, 80], 40, available=144).tokens
    assert plan([1.0], 40, available=144, deep=True) == Plan(96, 64, 8)
    assert plan([100.0], 40, available=5).texts == 5


def test_the_key_of_a_reference_changes_with_all_that_its_rows_depend_on():
    def key(digest="d", server=("0.33.0", "x"), probe_set="s", options=FIXED_OPTIONS, tokens=24):
        return reference_key(digest, server, probe_set, options, Plan(24, tokens))

    others = [
        key(digest="e"), key(server=("0.33.1", "x")), key(server=("0.33.0", "y")), key(probe_set="t"),
        key(options={**FIXED_OPTIONS, "num_ctx": 512}), key(tokens=12),
    ]  # fmt: skip
    assert len({key(), *others}) == 7 and key() == key()
