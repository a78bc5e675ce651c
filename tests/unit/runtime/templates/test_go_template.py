"""Chat prompts from Go templates: what `render_chat` adds to the language, and what it refuses."""

from __future__ import annotations

import base64
from datetime import date

import pytest

from app.core.errors import BadRequest
from app.runtime.templates.go_template import (
    GoTemplateError,
    GoTemplateLimit,
    GoTemplateUnsupported,
    parse,
    render_chat,
)

HELLO = [{"role": "user", "content": "Hello"}]
ALL = "{{ range .Messages }}{{ .Role }}:{{ .Content }};{{ end }}"


def test_a_broken_template_is_refused_in_gos_words():
    with pytest.raises(GoTemplateError) as raised:
        parse("{{ .Nope")  # as recorded: create answers "template error: " and this
    assert raised.value.message == "template: :1: unclosed action"
    assert isinstance(raised.value, BadRequest) and raised.value.status == 400


def test_a_named_template_without_a_pipeline_is_refused_as_ollama_refuses_it():
    with pytest.raises(GoTemplateError) as raised:
        parse('{{define "x"}}{{end}}{{template "x"}}')
    assert raised.value.message == "undefined template specified"


@pytest.mark.parametrize(
    ("text", "construct"),
    [
        ('{{ foo "x" }}', 'the function "foo"'),
        ("{{ .Prompt | upper }}", 'the function "upper"'),
        ("{{ 1+2i }}", "the complex number 1+2i"),
        ("{{ 3i }}", "the complex number 3i"),
        ("{{ call .Prompt }}", 'the function "call"'),
        ('{{ printf "%p" .Prompt }}', "printf's %p"),
        ('{{ printf "%#v" .Prompt }}', "printf's %#v"),
        ('{{ printf "%x" 1.5 }}', "printf's %x of a float"),
        ("{{ .Messages }}", "the address of a message as text"),
    ],
)
def test_what_lies_outside_the_subset_is_named(text, construct):
    with pytest.raises(GoTemplateUnsupported) as raised:
        render_chat(text, HELLO)
    assert raised.value.construct == construct


def test_the_nested_properties_of_a_tool_are_json_and_a_map_but_not_text():
    nested = {"type": "object", "properties": {"z": {"type": "number"}, "a": {"type": "string"}}}
    tools = [{"function": {"name": "f", "parameters": {"type": "object", "properties": {"p": nested}}}}]
    start = "{{ range .Messages }}{{ end }}{{ with (index .Tools 0).Function.Parameters.Properties.p.Properties }}"
    assert render_chat(start + "{{ json . }}{{ end }}", HELLO, tools=tools) == (
        '{"z":{"type":"number"},"a":{"type":"string"}}'
    )
    assert render_chat(start + "{{ range $k, $v := .ToMap }}{{ $k }}{{ end }}{{ end }}", HELLO, tools=tools) == "az"
    with pytest.raises(GoTemplateUnsupported):
        render_chat(start + "{{ . }}{{ end }}", HELLO, tools=tools)
    with pytest.raises(GoTemplateUnsupported) as raised:
        render_chat(start + "{{ .Get 1 }}{{ end }}", HELLO, tools=tools)
    assert raised.value.construct == "the method Get"


def test_system_comes_first_prompt_follows_and_response_begins_the_answer():
    assert render_chat(ALL, HELLO, system="S", prompt="P", response="R") == (
        "system:S;user:Hello\n\nP;assistant:R;"  # neighbours of one role are one message
    )


def test_answers_of_tools_stay_apart():
    answers = [{"role": "tool", "content": "1"}, {"role": "tool", "content": "2"}]
    assert render_chat(ALL, answers) == "tool:1;tool:2;"


def test_a_suffix_with_a_prompt_asks_for_what_stands_between():
    text = "{{ if .Suffix }}<P>{{ .Prompt }}<S>{{ .Suffix }}<M>{{ else }}{{ .Prompt }}{{ end }}"
    assert render_chat(text, HELLO, prompt="a(", suffix=")") == "<P>a(<S>)<M>"
    assert render_chat(text, HELLO) == "Hello"


def test_a_template_of_the_old_kind_stops_where_the_answer_belongs():
    text = "{{ if .System }}S:{{ .System }} {{ end }}U:{{ .Prompt }} A:{{ .Response }}<end>"
    turns = [*HELLO, {"role": "assistant", "content": "Hi"}, {"role": "user", "content": "More"}]
    assert render_chat(text, turns, system="x") == "S:x U:Hello A:Hi<end>U:More A:"
    assert render_chat("{{ .Prompt }}|", HELLO) == "Hello|"


def test_thinking_is_unset_off_on_or_a_level():
    text = "{{ range .Messages }}{{ end }}{{ .IsThinkSet }} {{ .Think }} {{ .ThinkLevel }}"
    assert render_chat(text, HELLO) == "false false "
    assert render_chat(text, HELLO, think=False) == "true false "
    assert render_chat(text, HELLO, think=True) == "true true medium"
    assert render_chat(text, HELLO, think="high") == "true true high"


def test_the_names_a_template_uses_tell_what_a_model_can():
    assert parse("{{ .Prompt }}").variables == ("prompt", "response")
    found = parse("{{ range $m := .Messages }}{{ $m.Content }}{{ end }}{{ if $.Tools }}{{ end }}{{ .Suffix }}")
    assert found.variables == ("$", "$m", "content", "messages", "suffix", "tools")


def test_current_date_is_the_day_that_is_given():
    template = parse("{{ range .Messages }}{{ end }}{{ currentDate }} {{ yesterdayDate }}")
    assert template.render(HELLO, today=date(2031, 3, 1)) == "2031-03-01 2031-02-28"


def test_text_of_messages_is_never_read_as_template():
    assert render_chat(ALL, [{"role": "user", "content": "{{ .Role }} %s {{"}]) == "user:{{ .Role }} %s {{;"


def test_half_a_character_becomes_the_replacement_character_and_joined_halves_the_character():
    assert render_chat('{{ slice .Prompt 0 1 }}{{ "\\xff" }}|', [{"role": "user", "content": "é"}]) == "\ufffd\ufffd|"
    both = "{{ $a := slice .Prompt 0 1 }}{{ $b := slice .Prompt 1 }}{{ $a }}{{ $b }}{{ eq (print $a $b) .Prompt }}"
    assert render_chat(both, [{"role": "user", "content": "é"}]) == "étrue"


def test_lone_surrogates_become_the_replacement_character():
    assert render_chat("a\ud800{{ .Prompt }}", [{"role": "user", "content": "\udc80b"}]) == "a\ufffd\ufffdb"


def test_images_are_bytes():
    image = {"role": "user", "content": "", "images": [base64.b64encode(b"ab").decode()]}
    assert render_chat("{{ range .Messages }}{{ range .Images }}{{ len . }}{{ . }}{{ end }}{{ end }}", [image]) == (
        "2[97 98]"
    )


@pytest.mark.parametrize(
    "message",
    [
        {"role": 1},
        {"role": "user", "content": 5},
        {"role": "user", "images": "x"},
        {"role": "user", "images": ["not base64"]},
        {"role": "user", "tool_calls": [1]},
        {"role": "user", "tool_calls": [{"function": []}]},
        {"role": "user", "tool_calls": [{"function": {"arguments": {"n": float("inf")}}}]},
        {"role": "user", "tool_calls": [{"function": {"arguments": {"n": 10**400}}}]},
        "text",
    ],
)
def test_a_message_of_the_wrong_shape_is_one_clear_error(message):
    with pytest.raises(GoTemplateError):
        render_chat(ALL, [message])


def test_a_request_nested_too_deeply_is_refused():
    deep: object = 1
    for _ in range(300):
        deep = [deep]
    with pytest.raises(GoTemplateError):
        render_chat(ALL, [{"role": "user", "tool_calls": [{"function": {"arguments": {"x": deep}}}]}])


def test_a_text_past_a_mebibyte_is_refused_and_one_below_is_not():
    assert len(render_chat("{{ .Prompt }}", [{"role": "user", "content": "x" * (1 << 20)}])) == 1 << 20
    with pytest.raises(GoTemplateLimit):
        render_chat("{{ .Prompt }}.", [{"role": "user", "content": "x" * (1 << 20)}])
    with pytest.raises(GoTemplateLimit):
        render_chat("{{ .Prompt }}", [{"role": "user", "content": "é" * (1 << 19) + "x"}])


def test_a_long_chat_stays_well_within_the_steps():
    turns = [{"role": ("user", "assistant")[i % 2], "content": "word " * 50} for i in range(2000)]
    text = "{{ range $i, $m := .Messages }}{{ if eq (len (slice $.Messages $i)) 1 }}!{{ end }}{{ $m.Content }}{{ end }}"
    assert render_chat(text, turns).endswith("!" + "word " * 50)
