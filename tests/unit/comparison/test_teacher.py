"""A teacher's answers as training data: greedy, whole, and with where they are from."""

from __future__ import annotations

import hashlib
import json

import pytest

from app.comparison.bench import Reply
from app.comparison.question_set import Question
from app.comparison.teacher import Form, Lesson, Teacher, caution, lessons, manifest, training_data
from app.core.generation import Usage

pytestmark = pytest.mark.anyio
QUESTIONS = [Question(f"q-{i}", "prose", f"Question {i}?") for i in range(5)]
TEACHER = Teacher(
    "m:8b-fp16",
    "d" * 64,
    "F16",
    "Apache License\nVersion 2.0",
    "ollama 0.33",
    "0.1.0",
    "standard@1:abc",
    1_764_000_000.0,
)


class Speaking:
    """Answers as it is told to: by prompt, a text, how it ended, and whether the host ended it properly."""

    def __init__(self, told=None) -> None:
        self.told = told or {}
        self.asked = []

    async def generate(self, model, body):
        self.asked.append((model, dict(body)))
        text, reason, complete = self.told.get(body["prompt"], (f"Answer to {body['prompt']}\n", "stop", True))
        return Reply(text, Usage(output_tokens=7), 0.1, 0.2, done_reason=reason, complete=complete)


async def taught(bench, **more) -> list[Lesson]:
    return [lesson async for lesson in lessons(bench, "m", QUESTIONS, **more)]


async def test_each_question_is_asked_greedily_through_the_models_own_template():
    bench = Speaking()
    found = await taught(bench, system="Be brief.", tokens=99)
    assert [one.answer for one in found] == [f"Answer to Question {i}?" for i in range(5)]
    model, body = bench.asked[0]
    assert model == "m" and body["prompt"] == "Question 0?" and body["system"] == "Be brief." and "raw" not in body
    assert body["options"] == {"temperature": 0, "seed": 1, "num_ctx": 4096, "num_predict": 99}


async def test_what_was_answered_already_is_not_asked_again():
    bench = Speaking()
    found = await taught(bench, done={"q-0", "q-3"})
    assert [one.id for one in found] == ["q-1", "q-2", "q-4"]


async def test_answers_that_were_cut_off_are_left_out_and_named():
    bench = Speaking(
        {
            "Question 1?": ("It goes on and", "length", True),
            "Question 2?": ("na na na", "", False),
            "Question 3?": ("  ", "stop", True),
        }
    )
    found = await taught(bench)
    assert [one.whole for one in found] == [True, False, False, False, True]
    told = manifest(TEACHER, found, Form.MESSAGES)
    assert (told["examples"], told["left_out"], told["answer_tokens"]) == (2, ["q-1", "q-2", "q-3"], 14)
    assert "goes on and" not in training_data(found, Form.MESSAGES) + training_data(found, Form.SHAREGPT)


async def test_the_lines_are_openais_chat_form():
    found = await taught(Speaking({"Question 0?": ('Ä "quoted"\nanswer\u2028', "stop", True)}), system="Be brief.")
    lines = training_data(found, Form.MESSAGES).split("\n")
    assert lines.pop() == "" and len(lines) == 5
    assert json.loads(lines[0]) == {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Question 0?"},
            {"role": "assistant", "content": 'Ä "quoted"\nanswer'},
        ]
    }


async def test_the_list_is_sharegpts_form():
    found = await taught(Speaking())
    told = json.loads(training_data(found, Form.SHAREGPT))
    assert told[0] == {
        "id": "q-0",
        "conversations": [{"from": "human", "value": "Question 0?"}, {"from": "gpt", "value": "Answer to Question 0?"}],
    }


@pytest.mark.parametrize("form", list(Form))
async def test_the_manifest_says_who_taught_under_which_licence_and_of_which_file(form):
    found = await taught(Speaking())
    told = manifest(TEACHER, found, form)
    assert told["sha256"] == hashlib.sha256(training_data(found, form).encode()).hexdigest()
    assert told["teacher"] == {
        "model": "m:8b-fp16", "digest": "d" * 64, "quantization": "F16", "license": "Apache License",
        "license_text": TEACHER.license,
    }  # fmt: skip
    assert (told["prompt_set"], told["server"], told["form"]) == ("standard@1:abc", "ollama 0.33", form.value)
    assert told["options"]["temperature"] == 0 and told["caution"] == ""
    json.dumps(told, allow_nan=False)


@pytest.mark.parametrize(
    ("license_text", "told"),
    [
        ("", "tells no licence"), ("Apache License\nVersion 2.0, January 2004", ""), ("MIT License", ""),
        ("LLAMA 3.2 COMMUNITY LICENSE AGREEMENT", "700 million"), ("Gemma Terms of Use", "prohibited uses"),
        ("CC-BY-NC-4.0", "no commercial use"), ("A licence of somebody's own", "Read the teacher's licence"),
    ],
)  # fmt: skip
async def test_a_licence_that_may_bind_the_student_is_pointed_out(license_text, told):
    assert told in caution(license_text) if told else caution(license_text) == ""
