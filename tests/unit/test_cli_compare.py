"""`compare` on the command line: what it asks for, what it says, and with which status it ends."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from typing import Any

import pytest

from app.cli_compare import BELOW, _asked, _below, _earlier, add_options, size
from app.comparison.report import document
from app.core.errors import BadRequest
from app.core.measures import Tier
from tests.unit.comparison import cards


def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_options(parser)
    return parser.parse_args(words)


@pytest.mark.parametrize(
    ("text", "count"), [("8GiB", 8 << 30), ("8g", 8 << 30), ("1.5 GB", 3 << 29), ("512M", 512 << 20), ("1024", 1024)]
)
def test_sizes_as_people_write_them(text: str, count: int) -> None:
    assert size(text) == count


@pytest.mark.parametrize("text", ["", "much", "0", "-8GiB", "8 XiB"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        size(text)


def test_only_what_was_said_is_asked_for() -> None:
    assert _asked(options("m:1b"), None) == {"models": ["m:1b"]}
    whole = options("m", "q8_0", "--deep", "--budget", "8GiB", "--context", "8192", "--reference", "m:fp16")
    assert _asked(whole, None) == {
        "models": ["m", "q8_0"], "depth": "deep", "budget": 8 << 30, "context": 8192, "reference": "m:fp16",
    }  # fmt: skip


def test_questions_of_a_file_go_along(tmp_path: Any) -> None:
    file = tmp_path / "my questions.txt"
    file.write_text("What is a tree?\nAnd a river?\n")
    body = _asked(options("m", "--prompts", str(file)), None)
    assert (body["question_set"], body["questions"]) == ("my-questions", ["What is a tree?", "And a river?"])


def test_a_report_is_measured_again_as_it_was_unless_something_else_is_said(tmp_path: Any) -> None:
    card = replace(cards.card(), depth="deep", options={"num_ctx": 2048}, seed=7)
    file = tmp_path / "report.json"
    file.write_text(json.dumps(document(card)))
    first = _earlier(str(file))
    assert first is not None and first[1] == card
    names = [variant.name for variant in card.variants]
    assert _asked(options(), first) == {
        "models": names, "reference": card.reference, "depth": "deep", "context": 2048, "seed": 7,
    }  # fmt: skip
    other = _asked(options("m", "--quick", "--context", "4096"), first)
    assert (other["models"], other["depth"], other["context"]) == (["m"], "quick", 4096)


def test_what_is_no_report_is_refused(tmp_path: Any) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("nothing")
    with pytest.raises(BadRequest, match="this is no report"):
        _earlier(str(file))


def test_without_a_model_it_says_how_it_is_used() -> None:
    with pytest.raises(BadRequest, match="python -m app compare"):
        _asked(options(), None)


def variant(name: str, tier: str | None, *, reference: bool = False) -> dict[str, Any]:
    return {"name": name, "tier": tier, "reference": reference}


@pytest.mark.parametrize(
    ("tiers", "status"),
    [
        (["close"], 0),
        (["very close", "close"], 0),
        (["close", "noticeable"], BELOW),
        ([None], BELOW),
        (["degraded"], BELOW),
    ],
)
def test_status_three_where_a_variant_is_below_or_it_could_not_be_shown(tiers: list[str | None], status: int) -> None:
    told = {"variants": [variant("ref", None, reference=True), *(variant(f"v{i}", t) for i, t in enumerate(tiers))]}
    assert _below(told, options("m", "--fail-below", "close")) == status
    assert _below(told, options("m")) == 0


def test_every_tier_can_be_asked_for() -> None:
    assert [options("m", "--fail-below", tier).fail_below for tier in Tier] == list(Tier)
