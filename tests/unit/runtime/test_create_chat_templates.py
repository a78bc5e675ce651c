"""Which chat templates of model files are recognised, and that looking at them is quick."""

from __future__ import annotations

import time

import pytest

from app.runtime.chat_templates import _within, recognised
from app.runtime.templates.go_template import parse

LOOP = "{% for message in messages %}"
TURN = "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}"
LAST = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
PLAIN = f"{LOOP}{TURN}{{% endfor %}}{LAST}"


def with_system(text: str) -> str:
    """As PLAIN, with a system text where the chat brings none."""
    first = "{% if loop.first and messages[0]['role'] != 'system' %}"
    return f"{LOOP}{first}{{{{ '<|im_start|>system\n{text}<|im_end|>\n' }}}}{{% endif %}}{TURN}{{% endfor %}}{LAST}"


@pytest.mark.parametrize(
    "template",
    [
        PLAIN,
        PLAIN.replace("\n", "\\n"),
        "{{ bos_token }}" + PLAIN,
        "{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}" + PLAIN,
        with_system("You are a helpful assistant."),
        with_system("You are a helpful assistant named Test, trained by " + "x" * 40),
    ],
)
def test_chatml_is_recognised_in_its_usual_forms(template):
    known = recognised(template)
    assert known is not None and known.name == "chatml"
    assert "messages" in parse(known.text).variables


@pytest.mark.parametrize(
    "template",
    [
        "",
        "<|im_start|><|im_end|>",
        PLAIN.replace("im_start", "start_of_turn").replace("im_end", "end_of_turn"),
        PLAIN + "{% if tools %}" + "x" * 100 + "{% endif %}",
        "{% for message in messages %}[INST] {{ message['content'] }} [/INST]{% endfor %}",
        PLAIN * 1000,
    ],
)
def test_another_template_is_not(template):
    assert recognised(template) is None


@pytest.mark.parametrize("count", [0, 1, 99, 100, 101])
def test_fewer_than_a_hundred_edits_are_near(count):
    assert _within("a" * 150 + "b" * count, "a" * 150, 100) is (count < 100)
    assert _within("a" * 150, "b" * count + "a" * (150 - count), 100) is (count < 100)


def test_edits_are_counted_as_levenshtein_counts_them():
    assert _within("kitten", "sitting", 4)
    assert not _within("kitten", "sitting", 3)
    assert _within("abc", "abc", 1)
    assert not _within("abc", "abd", 1)


def test_a_long_template_is_no_long_work():
    began = time.process_time()
    recognised("<|im_start|><|im_end|>" + "x" * 10_000_000)
    recognised("<|im_start|><|im_end|>" + "x" * 370)
    assert time.process_time() - began < 2
