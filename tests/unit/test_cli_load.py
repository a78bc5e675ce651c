"""`load` on the command line: what it asks for, what it shows, and with which status it ends."""

from __future__ import annotations

import argparse
import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from app.cli_load import BELOW, FAILED, _run, add_options, asked, load, show
from app.comparison.load_lab.figures import LoadFigures, Percentile, Spread
from app.comparison.load_lab.plan import Limits, LoadPlan
from app.comparison.load_lab.runs import LoadRun
from app.comparison.result_json import to_json
from app.comparison.results import Environment
from app.core.errors import BadRequest


def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_options(parser)
    return parser.parse_args(words)


def told(kept: float = 0.9, state: str = "done", why: str = "") -> dict[str, Any]:
    waited = Spread(90, 10, None, None, {"p50": Percentile(0.412, 0.4, 0.43), "p99": Percentile(None, above=61.0)})
    figures = LoadFigures(asked=100, answered=90, unfinished=10, kept=kept, goodput=1.5, throughput=1.8, ttft=waited)
    plan = LoadPlan(models={"m:1b": 1.0}, limits=Limits(ttft=1.0), seed=4)
    where = Environment("0.1.0", "bench", "Ollama 0.33.0", "a machine")
    run = to_json(LoadRun("2026-a", plan, where, state, 5.0, 100, figures=figures, why=why))
    assert isinstance(run, dict)
    return run


class Instance:
    """One that has run what was asked for."""

    def __init__(self, run: dict[str, Any], job: str = "done") -> None:
        self.run, self.job, self.asked = run, job, [{}]

    def ask(self, method: str, path: str, body: Any = None, **query: str) -> dict[str, Any]:
        self.asked.append(body)
        return {**self.run, "job": {"id": "1"}}

    def events(self, path: str) -> Generator[dict[str, Any], None, None]:
        yield {"id": "1", "state": self.job, "error": "it went wrong", "detail": "", "total": 0}


def test_only_what_was_said_is_asked_for(tmp_path: Path) -> None:
    assert asked(options("m:1b")) == {"models": {"m:1b": 1.0}}
    file = tmp_path / "mine.txt"
    file.write_text("What is a tree?\n")
    words = "big=1 small:1b=3 --rate 2 --seconds 30 --prompt 64-512 --ttft 1 --e2e 20 --anyway --host h --prompts"
    assert asked(options(*words.split(), str(file))) == {
        "models": {"big": 1.0, "small:1b": 3.0}, "rate": 2.0, "seconds": 30.0, "prompt": "64-512", "host": "h",
        "limits": {"ttft": 1.0, "e2e": 20.0}, "anyway": True, "questions": ["What is a tree?"],
    }  # fmt: skip


def test_a_recording_is_read_in_its_own_form_and_in_that_of_the_list_of_requests(tmp_path: Path) -> None:
    file = tmp_path / "day.jsonl"
    file.write_text('{"at": 3, "prompt": 7, "output": 9}\n\n{"started_at": 4.5, "prompt_tokens": 5}\n')
    body = asked(options("m", "--recording", str(file), "--speed", "10"))
    assert (body["arrivals"], body["speed"]) == ("recorded", 10.0)
    assert body["recording"] == [{"at": 3.0, "prompt": 7, "output": 9}, {"at": 4.5, "prompt": 5, "output": 0}]
    file.write_text('{"at": 3}\nno json\n')
    with pytest.raises(BadRequest, match="line 2 of day.jsonl is no request"):
        asked(options("m", "--recording", str(file)))
    for line in ('{"at": NaN}', '{"at": 1, "prompt": Infinity}', "[]"):
        file.write_text(line)
        with pytest.raises(BadRequest, match="line 1 of day.jsonl is no request"):
            asked(options("m", "--recording", str(file)))
    file.write_bytes(b"\xff\xfe{")
    with pytest.raises(BadRequest, match="no text in UTF-8"):
        asked(options("m", "--recording", str(file)))


def test_a_file_that_is_not_there_and_a_rate_that_is_none_are_told_without_a_traceback(capsys: Any) -> None:
    assert load(options("m", "--recording", "no-such.jsonl", "--json")) == FAILED
    told = capsys.readouterr()
    assert json.loads(told.out) == {"error": "no-such.jsonl: No such file or directory"}
    assert told.err == "no-such.jsonl: No such file or directory\n"
    with pytest.raises(SystemExit):
        options("m", "--rate", "nan")
    assert "argument --rate: invalid number value: 'nan'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--rate", "2"), "which model"),
        (("m=many",), "the share behind ="),
        (("m", "--fail-below", "0.9"), "needs a limit"),
    ],
)
def test_what_cannot_be_meant_is_said(words: tuple[str, ...], said: str) -> None:
    with pytest.raises(BadRequest, match=said):
        asked(options(*words))


def test_a_run_is_shown_with_what_is_known_of_those_that_were_given_up(capsys: Any) -> None:
    show(told())
    said = capsys.readouterr().out
    assert "100 asked, 90 answered, 10 given up" in said
    assert "goodput 1.50/s (90.0 % of all asked) within TTFT ≤ 1.00 s" in said
    assert "412 ms" in said and "> 61.0 s" in said and "90 + 10 given up" in said


@pytest.mark.parametrize(
    ("run", "job", "status"),
    [
        (told(0.96), "done", 0), (told(0.94), "done", BELOW),
        (told(state="stopped", why="somebody came"), "done", FAILED), (told(state="failed"), "failed", FAILED),
    ],
)  # fmt: skip
def test_the_status_says_how_it_ended(run: dict[str, Any], job: str, status: int, capsys: Any) -> None:
    assert _run(Instance(run, job), {}, options("m", "--ttft", "1", "--fail-below", "0.95", "--json")) == status  # type: ignore[arg-type]
    assert json.loads(capsys.readouterr().out)["id"] == "2026-a"
