"""Templates that want to run for ever, grow without end or break the parser: each ends in one clear error, soon."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.runtime.templates.go_errors import MAX_TEXT
from app.runtime.templates.go_template import GoTemplateError, GoTemplateLimit, parse

DATA = Path(__file__).parents[3] / "data" / "go_templates"
CONVERSATIONS = json.loads((DATA / "cases" / "conversations.json").read_text())
LANGUAGE = json.loads((DATA / "cases" / "language.json").read_text())
SEEDS = [path.read_text() for path in sorted((DATA / "families").glob("*.gotmpl"))]
SEEDS += [text for texts in LANGUAGE["groups"].values() for text in texts if "00000" not in text]
PATIENCE = 20.0  # seconds; the slowest of these takes two on an idle core

_MANY = [{"role": ("user", "assistant")[i % 2], "content": "x" * 1000} for i in range(1000)]
_WIDE = {f"p{i}": {"type": ["string"] * 3} for i in range(5000)}
_TOOLS = [{"type": "function", "function": {"name": "n", "parameters": {"type": "object", "properties": _WIDE}}}]
_LONG = '{{$x := "é"}}{{range 18}}{{$x = print $x $x}}{{end}}{{range 1000000}}'  # half a mebibyte in $x
_PROPERTIES = "(index $.Tools 0).Function.Parameters.Properties"

ENDLESS = {
    "a range over a huge number": "{{range 1000000000000}}{{end}}",
    "ranges inside ranges": "{{range 100000}}{{range 100000}}{{end}}{{end}}",
    "messages three times": "{{range .Messages}}{{range $.Messages}}{{range $.Messages}}{{end}}{{end}}{{end}}",
    "a text that doubles": '{{$x := "ab"}}{{range 100}}{{$x = print $x $x}}{{end}}',
    "a wide field": '{{printf "%999999d%999999d" 1 1}}',
    "a field wider than Go allows": '{{printf "%9999999d" 1}}',
    "a precise float": '{{printf "%.999999f%.999999e" 1.5 1.5}}',
    "a template that calls itself": '{{define "a"}}{{template "a" .}}{{end}}{{template "a" .}}',
    "blocks inside blocks": "{{if 1}}" * 3000 + "{{end}}" * 3000,
    "blocks that stay open": "{{if 1}}" * 8000,
    "parentheses": "{{" + "(" * 20000 + "1" + ")" * 20000 + "}}",
    "a chain of else if": "{{if 0}}" + "{{else if 0}}" * 4000 + "{{end}}",
    "a long number": "{{1." + "1" * 60000 + "e__}}",
    "a long hexadecimal": "{{0x" + "f" * 60000 + "__p}}",
    "a long chain of fields": "{{.a" + ".b" * 30000 + "}}",
    "many variables": "".join(f"{{{{$v{i} := 1}}}}" for i in range(3000)) + "{{range 1000000}}{{$v0}}{{end}}",
    "many stages": "{{1" + "|print" * 10000 + "}}",
    "many arguments": "{{range 1000}}{{$y := print" + " 1" * 30000 + "}}{{end}}",
    "everything again and again": "{{.}}" * 12000,
    "everything as JSON": "{{range .Messages}}{{$y := json $}}{{end}}",
    "slices of a long text": _LONG + "{{$y := slice $x 1}}{{end}}",
    "bytes of a long text": _LONG + "{{$y := index $x 1}}{{end}}",
    "lengths of a long text": _LONG + "{{$y := len $x}}{{end}}",
    "equal long texts": '{{$z := ""}}' + _LONG + '{{$z = print $x ""}}{{if eq $x $z}}{{end}}{{end}}',
    "ordered long texts": _LONG + "{{if lt $x $x}}{{end}}{{end}}",
    "long texts for JavaScript": _LONG + "{{$y := js $x}}{{end}}",
    "long texts for HTML": _LONG + "{{$y := html $x}}{{end}}",
    "long texts for a URL": _LONG + "{{$y := urlquery (slice $x 0 9999)}}{{end}}",
    "long quoted texts": _LONG + '{{$y := printf "%q" $x}}{{end}}',
    "long hexadecimal texts": _LONG + '{{$y := printf "%x" (slice $x 0 9999)}}{{end}}',
    "a long format": '{{$x := "%d"}}{{range 18}}{{$x = print $x $x}}{{end}}{{printf $x}}',
    "sorting many keys": f"{{{{range .Messages}}}}{{{{range {_PROPERTIES}}}}}{{{{break}}}}{{{{end}}}}{{{{end}}}}",
    "many types": f"{{{{range .Messages}}}}{{{{range {_PROPERTIES}}}}}{{{{toTypeScriptType .}}}}{{{{end}}}}{{{{end}}}}",
    "tools as JSON for every message": "{{range .Messages}}{{$y := json $.Tools}}{{end}}",
    "more template than allowed": "a" * 70000,
}


@pytest.mark.parametrize("name", sorted(ENDLESS))
def test_a_hostile_template_is_stopped(name):
    began = time.monotonic()
    with pytest.raises(GoTemplateError) as raised:
        parse(ENDLESS[name]).render(_MANY, tools=_TOOLS)
    assert time.monotonic() - began < PATIENCE
    if name != "a long number" and name != "a long hexadecimal" and name != "a long chain of fields":
        assert isinstance(raised.value, GoTemplateLimit)


_ACTIONS = ["{{", "}}", "{{- ", " -}}", "{{end}}", "{{else}}", "{{if}}", "{{range .Messages}}", "{{with .Tools}}"]
_ACTIONS += ["{{range $i, $m := .Messages}}", "{{if .System}}", "{{.Response}}", "/*", "*/", " ", "\n"]
_WORDS = "if else end range with break continue nil true 0 -1 1.5 eq lt and or not len index slice print printf json"
_WORDS += (
    " html js urlquery \"s\" `r` 'c' . $ $x := = | ( ) , \\ \" ' ` é 0x _ @ # %d .S .Messages .Role .Content .Tools"
)
_WORDS += " .ToolCalls .Response .Prompt .System"
_CALLS = ['define "a"', 'template "a" .', 'block "b" .', '"%v %*d %[2]s"']
_PIECES = st.sampled_from(_ACTIONS + _CALLS + _WORDS.split())


@st.composite
def _mutated(draw: st.DrawFn) -> str:
    text = draw(st.sampled_from(SEEDS))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(text)))
        end = min(len(text), start + draw(st.sampled_from((0, 1, 2, 5, 20))))
        text = text[:start] + draw(st.one_of(_PIECES, st.just(text[start:end] * 2), st.text(max_size=2))) + text[end:]
    return text


def _is_text_or_a_clear_error(template: str, conversation: str) -> None:
    request = dict(CONVERSATIONS[conversation])
    try:
        rendered = parse(template).render(request.pop("messages"), **request)
    except GoTemplateError as error:
        assert error.message
    else:
        assert len(rendered.encode()) <= 3 * MAX_TEXT  # a stray byte is one in, and three as U+FFFD


_FUZZ = settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow])


@_FUZZ
@given(st.text(max_size=200), st.sampled_from(sorted(CONVERSATIONS)))
def test_arbitrary_text_renders_or_fails_clearly(text, conversation):
    _is_text_or_a_clear_error(text, conversation)


@_FUZZ
@given(st.lists(_PIECES, max_size=25).map(" ".join), st.sampled_from(sorted(CONVERSATIONS)))
def test_arbitrary_pieces_of_templates_render_or_fail_clearly(text, conversation):
    _is_text_or_a_clear_error("{{" + text, conversation)


@_FUZZ
@given(_mutated(), st.sampled_from(sorted(CONVERSATIONS)))
def test_changed_templates_render_or_fail_clearly(text, conversation):
    _is_text_or_a_clear_error(text, conversation)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_KEYS = st.sampled_from(
    ("role", "content", "images", "tool_calls", "function", "name", "arguments", "parameters", "properties", "type")
    + ("items", "anyOf", "enum", "required", "$defs", "x")
)
_REQUEST = st.recursive(
    _JSON, lambda inner: st.dictionaries(_KEYS, inner, max_size=4) | st.lists(inner, max_size=3), max_leaves=12
)


@_FUZZ
@given(st.lists(st.dictionaries(_KEYS, _REQUEST, max_size=4), max_size=3), st.lists(_REQUEST, max_size=3))
def test_arbitrary_messages_and_tools_render_or_fail_clearly(messages, tools):
    everything = (
        "{{json .}}{{.Tools}}{{range .Messages}}{{.}}{{range .ToolCalls}}{{.Function.Arguments}}{{end}}{{end}}"
        "{{range .Tools}}{{.Function}}"
        "{{range .Function.Parameters.Properties}}{{.Type}}{{toTypeScriptType .}}{{end}}{{end}}"
    )
    try:
        parse(everything).render(messages, tools=tools)
    except GoTemplateError as error:
        assert error.message
