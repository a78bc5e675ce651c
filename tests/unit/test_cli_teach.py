"""`teach` on the command line: what it asks for, and what it leaves on disk."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from app.cli_client import Refused
from app.cli_teach import _asked, _write, add_options


def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_options(parser)
    return parser.parse_args(words)


class Told:
    """An instance that answers as it is told to."""

    def __init__(self, status: int = 200, left_out: tuple[str, ...] = ()) -> None:
        self.status, self.left_out = status, left_out
        self.forms: list[str] = []

    def ask(self, method: str, path: str, **query: str) -> dict[str, Any]:
        self.forms.append(query["form"])
        teacher = {"model": "m:1b"}
        return {"examples": 2, "left_out": list(self.left_out), "teacher": teacher, "caution": "Mind the licence."}

    def raw(self, method: str, path: str, **query: str) -> tuple[int, bytes]:
        self.forms.append(query["form"])
        return self.status, b"the data"


def test_only_what_was_said_is_asked_for(tmp_path: Path) -> None:
    assert _asked(options("m:1b", "--out", "x")) == {"model": "m:1b"}
    file = tmp_path / "mine.txt"
    file.write_text("What is a tree?\n")
    whole = options("m", "--out", "x", "--prompts", str(file), "--tokens", "9", "--system", "Be brief.", "--host", "h")
    assert _asked(whole) == {
        "model": "m", "tokens": 9, "system": "Be brief.", "host": "h", "question_set": "mine",
        "questions": ["What is a tree?"],
    }  # fmt: skip


def test_the_manifest_lies_beside_the_data_and_what_to_mind_is_said(tmp_path: Path, capsys: Any) -> None:
    told = Told(left_out=("own-003",))
    _write(told, "/p", tmp_path / "a.jsonl", "sharegpt")  # type: ignore[arg-type]
    assert (tmp_path / "a.jsonl").read_bytes() == b"the data" and told.forms == ["sharegpt", "sharegpt"]
    assert json.loads((tmp_path / "a.jsonl.manifest.json").read_text())["teacher"] == {"model": "m:1b"}
    said = capsys.readouterr().out
    assert "2 answers of m:1b" in said and "1 left out" in said and "Mind the licence." in said


def test_data_that_cannot_be_had_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(Refused):
        _write(Told(status=500), "/p", tmp_path / "a.jsonl", "messages")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
