"""Every case under tests/data/go_templates rendered as Go's own text/template renders it (generator/main.go)."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest

from app.runtime.templates.go_functions import NAMES
from app.runtime.templates.go_parser import parse_trees
from app.runtime.templates.go_template import GoTemplate, GoTemplateError, GoTemplateUnsupported, parse
from app.runtime.templates.go_types import from_json
from app.runtime.templates.go_values import GoMap

DATA = Path(__file__).parents[3] / "data" / "go_templates"
TODAY = date(2031, 7, 5)  # what the generator calls today
LANGUAGE = json.loads((DATA / "cases" / "language.json").read_text())
CONVERSATIONS = json.loads((DATA / "cases" / "conversations.json").read_text())
CHAT = json.loads((DATA / "cases" / "chat.json").read_text())
FAMILIES = {path.stem: path.read_text() for path in (DATA / "families").glob("*.gotmpl")}
EXPECTED = {entry["case"]: entry for entry in json.loads((DATA / "expected.json").read_text())}


def _in_language(text: str) -> str:
    values = from_json(LANGUAGE["data"])
    assert isinstance(values, GoMap) and values.entries is not None
    return GoTemplate(text, parse_trees(text, NAMES), ()).execute(values.entries, today=TODAY)


def _in_chat(text: str, conversation: str) -> str:
    request = dict(CONVERSATIONS[conversation])
    return parse(text).render(request.pop("messages"), today=TODAY, **request)


def _render(case: str) -> tuple[str, str]:
    """(template, rendering) of a case by its name."""
    kind, group, index = case.split("/")
    if kind == "language":
        text = LANGUAGE["groups"][group][int(index)]
        return text, _in_language(text)
    if kind == "chat":
        text = CHAT[group]["templates"][int(index)]
        return text, _in_chat(text, CHAT[group]["conversation"])
    return FAMILIES[group], _in_chat(FAMILIES[group], index)


def _names() -> list[str]:
    language = [f"language/{group}/{i}" for group, texts in LANGUAGE["groups"].items() for i in range(len(texts))]
    chat = [f"chat/{group}/{i}" for group, shape in CHAT.items() for i in range(len(shape["templates"]))]
    return language + chat + [f"families/{family}/{name}" for family in FAMILIES for name in CONVERSATIONS]


def test_every_case_has_an_expected_rendering_and_none_is_left_over():
    assert set(_names()) == set(EXPECTED)


@pytest.mark.parametrize("case", sorted(EXPECTED))
def test_case_is_rendered_as_go_renders_it(case):
    expected = EXPECTED[case]
    if "error" not in expected:
        assert _render(case)[1] == expected["text"]
        return
    with pytest.raises(GoTemplateError) as raised:
        _render(case)
    assert raised.value.message == expected["error"]
    assert not isinstance(raised.value, GoTemplateUnsupported) or "not defined" in expected["error"]
