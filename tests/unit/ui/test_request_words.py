"""What the Requests view says: pure words from records."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest

from app.core.generation import GenerationRequest, Span, Usage
from app.services.telemetry import CacheDecision
from app.ui import request_words as words
from app.ui.components import waterfall
from tests.unit.services.test_request_log import record

SPANS = (
    Span("cache", 0.0, 0.1, {"outcome": "miss"}), Span("key", 0.0, 0.05), Span("queue", 0.1, 1.0),
    Span("host", 1.0, 1.5, {"host": "one", "attempt": 1, "outcome": "failed"}),
    Span("queue", 1.5, 1.6, {"again": True}),
    Span("host", 1.6, 4.0, {"host": "two", "attempt": 2, "outcome": "ok"}), Span("load", 1.6, 2.0),
    Span("prefill", 2.0, 2.5, {"seconds": 0.5, "tokens": 100}), Span("first token", 1.6, 2.5),
    Span("decode", 2.5, 4.0, {"seconds": 1.5, "tokens": 60}), Span("write", 2.5, 4.0, {"seconds": 0.25}),
)  # fmt: skip


def test_every_layer_has_its_row_on_one_axis() -> None:
    bars = words.layers(record(spans=SPANS, seconds=4.0))
    assert [(bar.label, bar.depth, bar.left, bar.width) for bar in bars] == [
        ("Cache", 0, 0.0, 2.5), ("Queue", 0, 2.5, 22.5), ("Host", 0, 25.0, 12.5), ("Queue", 0, 37.5, 2.5),
        ("Host", 0, 40.0, 60.0), ("Load", 1, 40.0, 10.0), ("Prefill", 1, 50.0, 12.5), ("Decode", 1, 62.5, 37.5),
        ("Write", 0, 62.5, 37.5),
    ]  # fmt: skip
    assert [bar.note for bar in bars] == [
        "miss", "", "one: failed", "for another host", "two: ok, attempt 2", "", "100 tokens, 200.0 tok/s",
        "60 tokens, 40.0 tok/s", "handing over took 250 ms",
    ]  # fmt: skip


def test_what_a_host_told_is_said_as_it_told_it() -> None:
    [bar] = words.layers(record(spans=(Span("decode", 0.9999, 1.0, {"seconds": 0.132, "tokens": 8}),)))
    assert (bar.time, bar.note) == ("132 ms", "8 tokens, 60.6 tok/s")


def test_the_wait_for_the_first_token_is_a_row_where_nothing_says_what_it_was() -> None:
    assert [bar.label for bar in words.layers(record(spans=(Span("first token", 0.0, 1.0),)))] == ["First token"]
    assert words.layers(record(spans=())) == ()


@pytest.mark.parametrize("seconds", [0.0004, 0.00023, 0.03, 0.9, 1.0, 2.3, 6.2, 47.0, 61.0, 700.0])
def test_the_axis_has_few_round_marks_inside_of_it(seconds: float) -> None:
    marks = words.ticks(seconds)
    assert 3 <= len(marks) <= 6 and marks[0].left == 0 and marks[-1].left <= 94
    steps = [later.left - mark.left for mark, later in zip(marks, marks[1:], strict=False)]
    assert max(steps) - min(steps) < 1e-9
    first = steps[0] * seconds / 100
    assert float(f"{first:.0e}") == pytest.approx(first), "a round number"
    assert len({mark.label for mark in marks}) == len(marks)


def test_the_marks_have_the_digits_that_they_need() -> None:
    told = {seconds: [mark.label for mark in words.ticks(seconds)] for seconds in (0.00023, 2.3, 6.2, 150.0)}
    assert told[0.00023] == ["0", "0.05 ms", "0.10 ms", "0.15 ms", "0.20 ms"]
    assert told[2.3] == ["0", "500 ms", "1.0 s", "1.5 s", "2.0 s"]
    assert told[6.2] == ["0", "2 s", "4 s"] and told[150.0] == ["0", "50 s", "1 min 40 s"]


def test_no_time_no_axis() -> None:
    assert words.ticks(0.0) == ()


def test_the_pieces_of_an_answer_stand_on_the_same_axis() -> None:
    told = words.growth(record(seconds=4.0, pace=((1.0, 1), (2.0, 21), (3.0, 61), (4.0, 81))))
    assert told is not None
    assert told.points[0] == (25.0, pytest.approx(100 / 81)) and told.points[-1] == (100.0, 100.0)
    assert (told.total, told.note) == ("81 pieces", "20–40 a second")
    assert words.growth(record(pace=((1.0, 1), (1.0, 1)))) is None
    jump = words.growth(record(seconds=8.0, pace=((0.0, 1), (1.0, 11), (1.00001, 31), (2.0, 41), (8.0, 101))))
    assert jump is not None and jump.note == "10–30 a second", "pieces that arrive together count in their stretch"
    usage = Usage(output_tokens=8, decode_ns=132_000_000)
    burst = words.growth(record(pace=((0.3138, 1), (0.3139, 5), (0.314, 7)), seconds=0.314, usage=usage))
    assert burst is not None and burst.note == "came together", "a rate of what lay ready is nobody's speed"
    drawn = waterfall.html(words.layers(record(spans=SPANS, seconds=4.0)), "a<b", ticks=words.ticks(4.0), growth=told)
    assert (
        "a&lt;b" in drawn and "polygon(25.00% 100%, 25.00% 98.77%, " in drawn and 'style="--lp-step:25.000%"' in drawn
    )


def test_what_no_model_did_is_no_speed() -> None:
    usage = Usage(output_tokens=60, decode_ns=1_500_000_000, prompt_tokens=31)
    ran, hit = record(usage=usage, spans=SPANS), record(usage=usage, cache=CacheDecision("hit", "", 9.0))
    assert words.speed(ran) == 40.0 and words.speed(hit) is None
    told = {fact.name: fact for fact in words.figures(ran)}
    assert told["TTFT"].note == "queue 1.00 s, load 400 ms, prefill 500 ms"
    assert told["Tokens"].value == "31 → 60"
    assert {fact.name: fact.note for fact in words.figures(hit)}["Speed"] == "no model ran for this one"
    nothing = {fact.name: fact for fact in words.figures(record(usage=None, ttft=None))}
    assert nothing["TTFT"].value == nothing["Speed"].value == nothing["Tokens"].value == "–"
    assert words.row(hit, "me", 0.0, 1.0).tokens == "–"


@pytest.mark.parametrize(
    ("decision", "told"),
    [
        (CacheDecision("hit", "", 184.0), "the same request was answered 3 min 04 s before"),
        (CacheDecision("joined", "the same question is being answered"), "Shared: the same question is being"),
        (CacheDecision("miss"), "not there"), (CacheDecision("miss", "the cache is off"), "the cache is off"),
        (CacheDecision("refresh"), "Made anew"), (CacheDecision("bypass", "not deterministic"), "Temperature 0, or a"),
        (CacheDecision("bypass", "asked for"), "the request asked for that"), (CacheDecision(), "ended before"),
        (CacheDecision("bypass", "the host did not say in time what would answer"), "Not looked for: the host did not"),
    ],
)  # fmt: skip
def test_the_caches_decision_is_told_with_its_reason(decision: CacheDecision, told: str) -> None:
    assert told in words.cache_story(record(cache=decision))


def test_of_one_that_runs_it_is_not_said_that_it_ended() -> None:
    assert words.cache_story(record(cache=CacheDecision(), status="running")) == "Not decided yet."


def body_of(command: str) -> tuple[list[str], Any]:
    """The words of the command as a shell reads them, and its body."""
    parts = shlex.split(command)
    return parts, json.loads(parts[parts.index("-d") + 1])


def test_the_command_says_the_same_request_whatever_is_in_it() -> None:
    nasty = 'it\'s "$HOME" `id`\n; rm -rf / # \\ ümlaut 語'
    body = {"model": "m", "messages": [{"role": "user", "content": nasty}], "options": {"seed": 1}}
    command = words.curl(record(), GenerationRequest("chat", body), "http://127.0.0.1:8501", key=False)
    parts, said = body_of(command.text)
    assert (said, command.missing, parts[2]) == (body, "", "http://127.0.0.1:8501/api/chat")
    assert "\n" not in command.text
    keyed = words.curl(record(), GenerationRequest("chat", body), "https://loupe.example", key=True)
    assert '-H "Authorization: Bearer $LOUPE_KEY"' in keyed.text


def test_where_the_words_are_not_known_the_command_says_what_is_missing() -> None:
    for endpoint, name in (("chat", "messages"), ("generate", "prompt"), ("embed", "input"), ("embeddings", "prompt")):
        command = words.curl(record(endpoint=endpoint, options={"num_ctx": 512}), None, "http://h", key=False)
        parts, said = body_of(command.text)
        assert parts[2] == f"http://h/api/{endpoint}" and "…" in json.dumps(said[name], ensure_ascii=False)
        assert said["options"] == {"num_ctx": 512} and "question" in command.missing
    long = GenerationRequest("generate", {"model": "m", "prompt": "x" * 200_000})
    assert "longer" in words.curl(record(endpoint="generate"), long, "http://h", key=False).missing


@pytest.mark.parametrize(
    ("name", "parts"),
    [("smollm2:135m-instruct-q4_K_M", ("smollm2:135m-instruct-", "q4_K_M")), ("llama3.2:1b", ("llama3.2:", "1b")),
     ("small", ("", "small"))],
)  # fmt: skip
def test_a_name_keeps_the_end_that_tells_variants_apart(name: str, parts: tuple[str, str]) -> None:
    assert words.split_name(name) == parts
