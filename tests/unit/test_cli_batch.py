"""`batch` on the command line: what it asks for, what it writes as it comes, and how it ends."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from app import cli_batch
from app.cli_batch import _answered, _asked, _operate, _results, add_options
from app.cli_client import NotRunning
from app.core.errors import BadRequest


def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_options(parser)
    return parser.parse_args(words)


class Told:
    """An instance whose batch has one state after the other, and one more answer each time."""

    def __init__(self, *states: str, failed: int = 0, after: BaseException | None = None) -> None:
        self.states, self.failed, self.after = list(states), failed, after
        self.asked: list[tuple[str, str]] = []
        self.sent = 0
        self.forms: set[str] = set()

    def ask(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        self.asked.append((method, path))
        if len(self.states) == 1 and self.after is not None:
            raise self.after
        state = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        return {
            "id": "b1", "name": "a.txt", "state": state, "total": 3, "answered": 3 - self.failed,
            "failed": self.failed, "job": None, "error": "", "deleted": "b1",
        }  # fmt: skip

    def marked(self, path: str, header: str, **query: str) -> tuple[int, bytes, str]:
        self.forms.add(query["format"])
        if int(query["after"]) > self.sent or self.sent == 3:
            return 200, b"", query["after"]
        self.sent += 1
        return 200, b"answer %d\n" % self.sent, str(self.sent)

    def raw(self, method: str, path: str, **query: str) -> tuple[int, bytes]:
        return 200, b"in order\n"


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli_batch, "LOOK_SECONDS", 0.0)


def test_only_what_was_said_is_asked_for(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_bytes("\ufeffWhy?\n".encode())
    assert _asked(options(str(file), "--out", "x")) == {"name": "a.txt", "content": "Why?\n"}
    whole = options(
        str(file), "--out", "x", "--model", "m", "--system", "s", "--options", '{"seed": 1}', "--form", "text"
    )
    assert _asked(whole) == {
        "name": "a.txt", "content": "Why?\n", "model": "m", "system": "s", "form": "text", "options": {"seed": 1},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("content", "words", "told"),
    [
        (b"x", (), "--out answers.jsonl"), (b"\xff", ("--out", "x"), "no text in UTF-8"),
        (b"x", ("--out", "x", "--options", "{"), "--options is no JSON"), (b"x", ("--out", "a.txt"), "itself"),
        (b"x", ("--out", "no/such/x"), "there is no folder no/such; make it first"),
        (b"x", ("--out", "."), "is a folder; name a file in it"),
    ],
)  # fmt: skip
def test_what_is_missing_is_said(
    content: bytes, words: tuple[str, ...], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.txt").write_bytes(content)
    with pytest.raises(BadRequest, match=told):
        _asked(options("a.txt", *words))


def test_a_file_that_is_not_there_is_said_with_the_words_that_were_perhaps_meant(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match=r"there is no file lst; name one with prompts, or say list, results, pause"):
        _asked(options("lst"))


def test_answers_that_cannot_be_written_any_more_leave_the_batch_and_how_to_come_back(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cli_batch, "_more", full)
    out = tmp_path / "out.jsonl"
    with pytest.raises(OSError, match="No space left"):
        _answered(Told("running"), {}, options("a.txt", "--out", str(out)))  # type: ignore[arg-type]
    assert f"goes on all the same: python -m app batch results b1 --out {out}" in capsys.readouterr().err


def test_answers_are_written_as_they_come_and_in_order_at_the_end(tmp_path: Path, capsys: Any) -> None:
    out, told = tmp_path / "out.csv", Told("running", "running", "paused", "running", "done", failed=1)
    assert _answered(told, {}, options("a.txt", "--out", str(out))) == 3  # type: ignore[arg-type]
    assert out.read_bytes() == b"in order\n" and told.sent == 3 and told.forms == {"csv"}
    assert "2 of 3 prompts answered, 1 failed" in capsys.readouterr().out


def test_a_loupe_that_goes_away_leaves_what_has_come_and_how_to_come_back(tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out.jsonl"
    told = Told("running", "running", "running", after=NotRunning("gone"))
    with pytest.raises(NotRunning, match="gone"):
        _answered(told, {}, options("a.txt", "--out", str(out)))  # type: ignore[arg-type]
    assert out.read_bytes().startswith(b"answer 1\n")
    assert "goes on when Loupe is started again: python -m app batch results b1" in capsys.readouterr().err


def test_ctrl_c_leaves_the_batch_running_and_says_how_to_come_back(tmp_path: Path, capsys: Any) -> None:
    out, told = tmp_path / "out.jsonl", Told("running", "running", "running", after=KeyboardInterrupt())
    assert _answered(told, {}, options("a.txt", "--out", str(out))) == 130  # type: ignore[arg-type]
    assert f"batch results b1 --out {out}" in capsys.readouterr().err
    assert not any(method == "DELETE" or "cancel" in path for method, path in told.asked)


def test_one_batch_is_named_by_its_id(tmp_path: Path, capsys: Any) -> None:
    told = Told("cancelled")
    assert _results(told, options("results", "b1", "--out", str(tmp_path / "o"))) == 1  # type: ignore[arg-type]
    assert _operate(told, options("pause", "b1", "--json")) == 0  # type: ignore[arg-type]
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["id"] == "b1"
    assert told.asked[-1] == ("POST", "/loupe/batches/b1/pause")
    with pytest.raises(BadRequest, match="say which batch: batch pause ID"):
        _operate(told, options("pause"))  # type: ignore[arg-type]
