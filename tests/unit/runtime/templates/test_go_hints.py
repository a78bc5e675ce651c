"""What a template's tree says about its model's answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.runtime.templates.go_hints import NO_TAG, thinking_tags, tool_call_tag
from app.runtime.templates.go_template import parse

FAMILIES = Path(__file__).parents[3] / "data" / "go_templates" / "families"


@pytest.mark.parametrize(
    ("text", "tags"),
    [
        ("{{ range .Messages }}{{ if .Thinking }}<t>\n{{ .Thinking }}\n</t>{{ end }}{{ end }}", ("<t>", "</t>")),
        ("{{ range .Messages }}{{ if (and .Thinking true) }}a{{ .Thinking }}b{{ end }}{{ end }}", ("a", "b")),
        ("{{ range $m := .Messages }}{{ if .X }}{{ else }}<{{ .Thinking }}>{{ end }}{{ end }}", ("<", ">")),
        ("{{ range .Messages }}<t>{{ $.Thinking }}</t>{{ end }}", ("", "")),
        ("{{ range .Tools }}<t>{{ .Thinking }}</t>{{ end }}", ("", "")),
        ("{{ if .Messages }}<t>{{ .Thinking }}</t>{{ end }}", ("", "")),
        ("{{ range .Messages }}{{ range .Parts }}<t>{{ .Thinking }}</t>{{ end }}{{ end }}", ("", "")),
    ],
)
def test_thinking_tags_stand_around_the_thinking_of_a_message(text, tags):
    assert thinking_tags(parse(text)) == tags


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ('{{ if .ToolCalls }}{{ range .ToolCalls }}<call>\n{"name": 1}{{ end }}{{ end }}', "<call>"),
        ("{{ range .Messages }}{{ if .X }}x{{ else if .ToolCalls }} [TOOL] [{{ end }}{{ end }}", "[TOOL] ["),
        ('{{ if .ToolCalls }}{{ range .ToolCalls }}{"name": 1}{{ end }}{{ end }}', NO_TAG),
        ("{{ if .ToolCalls }}{{ .Content }}<call>{{ end }}", NO_TAG),
        ("{{ with .ToolCalls }}<call>{{ end }}", NO_TAG),
        ("{{ .Prompt }}", NO_TAG),
    ],
)
def test_a_tool_calls_tag_is_the_first_text_where_calls_are_shown(text, tag):
    assert tool_call_tag(parse(text)) == tag


# What Ollama 0.33's own packages say of our templates: (thinking, answer) marks and what begins a call.
SHAPES = {
    "chatml": (("<think>", "</think>"), NO_TAG),
    "chatml-fill": (("", ""), NO_TAG),
    "chatml-small": (("", ""), "<tool_call>["),
    "chatml-thinking": (("<think>", "</think>"), "<tool_call>"),
    "header-tags": (("", ""), NO_TAG),
    "header-tags-old": (("", ""), NO_TAG),
    "inst": (("", ""), "[TOOL_CALLS] ["),
    "inst-old": (("", ""), NO_TAG),
    "inst-tools": (("", ""), "[TOOL_CALLS]"),
    "role-marks": (("", ""), NO_TAG),
    "role-marks-thinking": (("<think>", "</think>"), "<|tool_call|>"),
    "role-tags": (("", ""), "<|tool_call|>["),
    "role-tags-old": (("", ""), NO_TAG),
    "sentence-marks": (("<think>", "</think>"), NO_TAG),
    "sentence-marks-tools": (("<think>", "</think>"), "<｜tool▁calls▁begin｜>"),
    "turn-tags": (("", ""), NO_TAG),
    "turn-tags-old": (("", ""), NO_TAG),
    "turn-tags-tools": (("", ""), "```tool_code"),
    "typescript-tools": (("", ""), NO_TAG),
}


@pytest.mark.parametrize("family", sorted(path.stem for path in FAMILIES.glob("*.gotmpl")))
def test_the_shape_of_a_family_is_recognised(family: str):
    template = parse((FAMILIES / f"{family}.gotmpl").read_text())
    assert (thinking_tags(template), tool_call_tag(template)) == SHAPES[family]
