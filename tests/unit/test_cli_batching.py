"""`batching` on the command line: what it asks for, and what it prints."""

from __future__ import annotations

import argparse
import json
from typing import Any

import pytest

from app import cli_batching
from app.cli_batching import _applied, _asked, _measured, _run, _show, add_options
from app.comparison.result_json import to_json
from app.core.errors import BadRequest
from tests.ui import fake_batching


def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_options(parser)
    return parser.parse_args(words)


def test_only_what_was_said_is_asked_for():
    assert _asked(options("m:1b")) == {"model": "m:1b", "kind": "slots"}
    words = (
        "m",
        "--most",
        "4",
        "--shape",
        "64:48",
        "--shape",
        "512:32",
        "--batch",
        "256",
        "--rounds",
        "3",
        "--host",
        "h",
    )
    assert _asked(options(*words)) == {
        "model": "m", "kind": "slots", "most": 4, "rounds": 3, "host": "h", "batches": [256],
        "shapes": [{"prompt": 64, "output": 48}, {"prompt": 512, "output": 32}],
    }  # fmt: skip


def test_an_arm_is_named_by_what_it_sets():
    asked = _asked(options("m", "--against", "kv_type=q8_0", "--against", "threads=4,flash=on", "--at-once", "2"))
    assert asked == {
        "model": "m", "kind": "options", "at_once": 2, "arms": [{"kv_type": "q8_0"}, {"threads": 4, "flash": True}]
    }  # fmt: skip


@pytest.mark.parametrize("words", [("--shape", "64"), ("--shape", "a:b"), ("--shape", "²:³"), ("--against", "fast")])
def test_what_cannot_be_read_is_told_with_an_example(words):
    with pytest.raises(BadRequest, match="like"):
        _asked(options("m", *words))


def test_a_sweep_is_printed_with_its_knee_and_the_setting(capsys: Any):
    _show(to_json(fake_batching.swept()))  # type: ignore[arg-type]
    said = capsys.readouterr().out
    assert "64 → 48 tokens" in said and said.count("knee\n") == 2
    assert "4 slots: " in said and "OLLAMA_NUM_PARALLEL=4" in said and "LOUPE_RUNTIME_BATCH=256" in said


def test_an_a_b_is_printed_with_ratio_quality_and_verdict(capsys: Any):
    _show(to_json(fake_batching.compared()))  # type: ignore[arg-type]
    said = capsys.readouterr().out
    assert "in force" in said and "threads=2" in said and "1.41 [1.37–1.45]" in said and "faster" in said
    assert "kv_type=q4_0" in said and "close" in said


def test_with_json_an_error_is_json_too(capsys: Any):
    assert _run(options("m", "--shape", "64", "--json")) == 1
    assert "no shape of a request" in json.loads(capsys.readouterr().out)["error"]


def test_ctrl_c_shows_what_was_measured_by_then(monkeypatch: pytest.MonkeyPatch, capsys: Any):
    asked: list[tuple[str, str]] = []

    class Instance:
        def ask(self, method: str, path: str) -> Any:
            asked.append((method, path))
            return to_json(fake_batching.swept())

    def stopped(*_: object) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli_batching, "to_the_end", stopped)
    assert _measured(Instance(), {"id": "a", "job": {}}, options("m")) == 130  # type: ignore[arg-type]
    told = capsys.readouterr()
    assert "64 → 48 tokens" in told.out and "What was measured is kept" in told.err
    assert asked == [("POST", "/loupe/batching/a/cancel"), ("GET", "/loupe/batching/a")]


def test_a_study_that_came_to_no_advice_is_not_applied(capsys: Any):
    assert _applied(None, "/p", {"advice": None}) == 0  # type: ignore[arg-type]
    assert "too little was measured" in capsys.readouterr().err


def test_what_is_set_already_is_not_applied(capsys: Any):
    study: Any = to_json(fake_batching.swept())
    study["advice"]["setup"] = {"slots": None, "threads": None, "batch": None, "flash": None, "kv_type": ""}
    assert _applied(None, "/p", study) == 0  # type: ignore[arg-type]
    assert "set so already" in capsys.readouterr().err
