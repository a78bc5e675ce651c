"""What a model can do, told from its templates, and which of two templates is used."""

from __future__ import annotations

import pytest

from app.core.errors import BadRequest
from app.runtime.capabilities import (
    asked_thinking,
    capabilities,
    check_abilities,
    go_template_abilities,
    own_template_abilities,
    prefers_own_template,
    uses_built_in,
)
from app.runtime.templates.go_template import parse
from tests.own_templates import GO, JINJA

PLAIN = parse("{{ range .Messages }}{{ .Role }}: {{ .Content }}{{ end }}")
TOOLS_ONLY = parse("{{ range .Tools }}{{ . }}{{ end }}{{ range .Messages }}{{ .Content }}{{ end }}")


@pytest.mark.parametrize(
    ("text", "abilities"),
    [
        ("{% for m in messages %}{{ m.content }}{% endfor %}", ()),
        ("{{ tools | tojson }}", ("tools",)),
        ("{{ m.tool_call }}", ("tools",)),
        ("<think>{{ x }}</think>", ("thinking",)),
        ("<think>", ()),
        ("{{ content.split('</think>')[-1] }}", ("thinking",)),
        ("{{ content.split('</think>')[-1] }}{{ reasoning_content }}", ()),
        ("{{ content.split('</think>')[-1] }}<SPECIAL_12>", ()),
        (JINJA, ("tools", "thinking")),
        ("", ()),
    ],
)
def test_a_files_own_template_is_read_and_not_rendered(text, abilities):
    assert own_template_abilities(text) == abilities


def test_a_go_template_is_read_by_its_variables_and_marks():
    assert go_template_abilities(parse(GO)) == ("tools", "thinking")
    assert go_template_abilities(parse("{{ .Prompt }}{{ .Suffix }}")) == ("insert",)
    assert go_template_abilities(PLAIN) == ()
    assert go_template_abilities(None) == ()


@pytest.mark.parametrize(
    ("own", "template", "preferred"),
    [
        ("{{ messages }}", PLAIN, False),
        (JINJA, PLAIN, True),  # it can do more
        (JINJA, parse(GO), False),  # the same, and both take a tool's answer back
        ("{{ tools }}", TOOLS_ONLY, False),  # the same, and neither does
        ("{{ tools }}{{ tool_calls }}ipython", TOOLS_ONLY, True),  # the same, and only the file's own does
        ("{{ tools }}<think></think>", parse('{{ if eq .Role "tool" }}{{ .ToolCalls }}{{ end }}{{ .Tools }}'), False),
    ],
)  # fmt: skip
def test_the_files_own_template_wins_where_it_can_do_more(own, template, preferred):
    assert prefers_own_template(own, template) is preferred


def test_capabilities_stand_in_ollamas_order():
    go = parse(GO)
    assert capabilities({}, go, JINJA, native=False, pools=False) == ("completion", "tools", "thinking")
    assert capabilities({}, None, JINJA, native=True, pools=False) == ("tools", "thinking", "completion")
    assert capabilities({}, None, "", native=True, pools=True) == ("embedding",)
    told = {"capabilities": ["vision", "tools", "completion"]}
    assert capabilities(told, PLAIN, "", native=False, pools=False) == ("tools", "completion")
    assert capabilities({"model_family": "gptoss"}, None, "{{ tools }}", native=True, pools=False) == (
        "tools", "completion", "thinking",
    )  # fmt: skip


def test_what_ollama_does_with_code_of_its_own_is_left_to_the_files_template():
    assert uses_built_in({"renderer": "qwen3-coder"}, "")
    assert uses_built_in({"parser": "harmony"}, "")
    assert uses_built_in({"model_family": "gpt-oss"}, "<|start|>{{ .Content }}<|end|>")
    assert not uses_built_in({"model_family": "gpt-oss"}, "{{ .Prompt }}")
    assert not uses_built_in({}, "<|start|><|end|>")


def test_a_model_that_can_think_does_so_unless_told_not_to():
    able = ("completion", "thinking")
    assert asked_thinking(able, {}, None) is True
    assert asked_thinking(able, {}, False) is False
    assert asked_thinking(able, {}, "max") == "max"
    assert asked_thinking(able, {"model_family": "gptoss"}, "max") == "high"
    assert asked_thinking(("completion",), {}, None) is None
    assert asked_thinking(("completion",), {}, False) is False


@pytest.mark.parametrize(
    ("can", "body", "chat", "message"),
    [
        (("completion",), {"think": True}, True, '"m" does not support thinking'),
        (("completion",), {"think": "low"}, False, '"m" does not support thinking'),
        (("embedding",), {}, True, '"m" does not support chat'),
        (("embedding",), {}, False, '"m" does not support generate'),
        (("embedding",), {"think": True}, False, '"m" does not support thinking'),
        (("completion",), {"tools": [{}]}, True, "host/m does not support tools"),
        (("completion",), {"suffix": "x"}, False, "host/m does not support insert"),
        (("completion",), {"raw": True, "system": "x", "think": True}, False, "raw mode does not support"),
    ],
)
def test_what_a_model_cannot_do_is_refused_in_ollamas_words(can, body, chat, message):
    with pytest.raises(BadRequest, match=message):
        check_abilities(can, {"model": "m", **body}, "host/m", chat=chat)


def test_what_a_model_can_do_is_not_refused():
    check_abilities(("completion", "tools", "thinking"), {"model": "m", "tools": [{}], "think": "high"}, "m", chat=True)
    check_abilities(("completion",), {"model": "m", "tools": [], "think": False}, "m", chat=True)
