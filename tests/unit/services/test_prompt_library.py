"""Prompts as files: what is read, what is refused, what is filled in."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.core.errors import BadRequest, PromptVariablesMissing
from app.services.prompt_library import PromptLibrary, read_prompt

SHIPPED = Path(__file__).parents[3] / "prompts"
GOOD = """+++
title = "Greeter"
description = "Says hello."
order = 5

[variables.name]
label = "Whom"

[variables.tone]
label = "Tone"
default = "kind"
+++
Greet {{name}} in a {{ tone }} way.
"""


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_all_shipped_prompts_can_be_used() -> None:
    library = PromptLibrary([SHIPPED])
    assert library.list()[0].name == "assistant"
    assert len(library.list()) >= 6
    assert library.problems == ()


def test_blanks_are_filled_in_and_defaults_stand_in(tmp_path: Path) -> None:
    write(tmp_path, "greeter.md", GOOD)
    library = PromptLibrary([tmp_path])
    assert library.render("greeter", {"name": "Ada"}) == "Greet Ada in a kind way."
    assert library.render("greeter", {"name": "Ada", "tone": "brisk"}) == "Greet Ada in a brisk way."


def test_every_missing_blank_is_named_at_once(tmp_path: Path) -> None:
    text = GOOD.replace('default = "kind"\n', "")
    _, prompt = read_prompt(write(tmp_path, "greeter.md", text))
    with pytest.raises(PromptVariablesMissing) as caught:
        prompt.render({"name": "  "})
    assert caught.value.names == ("name", "tone")


def test_a_value_with_blanks_in_it_is_not_filled_in_again(tmp_path: Path) -> None:
    _, prompt = read_prompt(write(tmp_path, "greeter.md", GOOD))
    assert prompt.render({"name": "{{tone}}"}) == "Greet {{tone}} in a kind way."


@pytest.mark.parametrize(
    ("name", "text", "what"),
    [
        ("x.md", "no front matter", "front matter"),
        ("x.md", "+++\ntitle = 'X'\n", "front matter"),
        ("x.md", "+++\ntitle = \n+++\nbody", "Invalid value"),
        ("x.md", "+++\ntitle = 'X'\ntilte = 'Y'\n+++\nbody", "tilte"),
        ("x.md", "+++\n+++\nbody", "title"),
        ("x.md", "+++\ntitle = 'X'\n+++\n", "no text"),
        ("x.md", "+++\ntitle = 'X'\n+++\nfor {{who}}", "declare under"),
        ("x.md", "+++\ntitle = 'X'\n[variables.who]\nlabel = 'W'\n+++\nbody", "not used"),
        ("Big Name.md", "+++\ntitle = 'X'\n+++\nbody", "file name"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_with_its_name(tmp_path: Path, name: str, text: str, what: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read_prompt(write(tmp_path, name, text))
    assert caught.value.message.startswith(name)
    assert what in caught.value.message


def test_a_broken_file_does_not_take_the_others_down(tmp_path: Path) -> None:
    write(tmp_path, "greeter.md", GOOD)
    write(tmp_path, "broken.md", "nothing")
    write(tmp_path, "README.md", "not a prompt")
    library = PromptLibrary([tmp_path])
    assert [prompt.name for prompt in library.list()] == ["greeter"]
    assert len(library.problems) == 1


def test_a_changed_file_is_read_anew(tmp_path: Path) -> None:
    write(tmp_path, "greeter.md", GOOD)
    library = PromptLibrary([tmp_path])
    assert library.get("greeter").title == "Greeter"
    write(tmp_path, "greeter.md", GOOD.replace('"Greeter"', '"Somebody else"'))
    assert library.get("greeter").title == "Somebody else"
    (tmp_path / "greeter.md").unlink()
    assert library.list() == ()


def test_a_later_folder_replaces_an_earlier_ones_prompt(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    write(own, "assistant.md", GOOD)
    library = PromptLibrary([SHIPPED, own, tmp_path / "missing"])
    assert library.get("assistant").title == "Greeter"


def test_an_unknown_prompt_is_a_bad_request(tmp_path: Path) -> None:
    with pytest.raises(BadRequest):
        PromptLibrary([tmp_path]).get("nothing")
