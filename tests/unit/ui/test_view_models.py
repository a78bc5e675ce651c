"""Formatting: value and unit, no more figures than are known."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from app.core.conversations import Answer, ConversationRow, MessageState, StoredMessage
from app.core.generation import Span, Usage
from app.core.hosts import LoadedModel
from app.ui import view_models as vm

NOW = datetime(2026, 5, 14, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0 ms"), (0.00002, "0 ms"), (0.0004, "0.4 ms"), (0.008, "8 ms"), (0.42, "420 ms"), (0.9996, "1.00 s"),
        (1.24, "1.24 s"),
        (14.23, "14.2 s"), (59.96, "1 min 00 s"), (185, "3 min 05 s"), (3599.7, "1 h 00 min"), (7620, "2 h 07 min"),
        (None, "–"), (-1, "–"), (float("nan"), "–"),
    ],
)  # fmt: skip
def test_durations(seconds: float | None, text: str) -> None:
    assert vm.duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.2, "about 1 s"), (59.4, "about 59 s"), (59.5, "about 1 min"), (5969, "about 99 min"), (5970, "about 1.7 h"),
        (7200, "about 2 h"), (35_800, "about 9.9 h"), (35_900, "about 10 h"), (170_000, "about 47 h"),
        (172_800, "about 2 days"),
    ],
)  # fmt: skip
def test_estimates_are_no_more_exact_than_they_are(seconds: float, text: str) -> None:
    assert vm.about(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0.00 MiB"), (94_371_840, "90.0 MiB"), (109_051_904, "104 MiB"), (1_073_741_824, "1.00 GiB"),
     (4_692_251_770, "4.37 GiB"), (None, "–")],
)  # fmt: skip
def test_sizes(count: int | None, text: str) -> None:
    assert vm.size(count) == text


@pytest.mark.parametrize(("tps", "text"), [(41.23, "41.2 tok/s"), (1234.5, "1234 tok/s"), (None, "–")])
def test_rates(tps: float | None, text: str) -> None:
    assert vm.rate(tps) == text


def test_percent_never_says_a_hundred_before_it_is_done() -> None:
    assert [vm.percent(x) for x in (0.4, 0.999, 1.0, None)] == ["40 %", "99 %", "100 %", "–"]


def test_counts_agree_with_their_noun() -> None:
    assert vm.count(1, "token") == "1 token"
    assert vm.count(12034, "token") == f"12{vm.NARROW}034 tokens"


@pytest.mark.parametrize(
    ("phase", "position", "eta", "words"),
    [
        ("queued", 2, (4.2, 12.3), "second in the queue, begins in 4–13 s"), ("queued", 1, None, "next in the queue"),
        ("queued", 14, (70.0, 130.0), "number 14 in the queue, begins in 1–3 min"),
        ("queued", 3, (48.2, 71.0), "third in the queue, begins in 48 s–2 min"),
        ("queued", 1, (0.1, 0.4), "next in the queue, begins in a moment"), ("loading", None, None, "loading Q4_K_M…"),
        ("prefill", None, None, "reading the prompt…"), ("new", None, None, "asking the model…"),
    ],
)  # fmt: skip
def test_waiting_is_said_in_words(
    phase: str, position: int | None, eta: tuple[float, float] | None, words: str
) -> None:
    assert vm.waiting(phase, "Q4_K_M", position, eta) == words


def answer(**changes: object) -> StoredMessage:
    usage = Usage(prompt_tokens=31, prefill_ns=20_000_000, output_tokens=128, decode_ns=3_106_796_117)
    facts: dict[str, object] = {"model": "m", "usage": usage, "ttft": 0.42}
    state = changes.pop("state", MessageState.COMPLETE)
    return StoredMessage("1", "assistant", "x", 0.0, state, answer=Answer(**{**facts, **changes}))  # type: ignore[arg-type]


def test_the_quiet_line_under_an_answer() -> None:
    assert vm.answer_facts(answer(), "Q4_K_M", 0.0) == ("Q4_K_M", "TTFT 0.42 s", "41.2 tok/s", "128 tokens")


def test_a_cached_answer_shows_no_speed() -> None:
    told = vm.answer_facts(answer(cached=True, cached_age=100.0), "Q4_K_M", 80.0)
    assert told == ("Q4_K_M", "TTFT 0.42 s", "128 tokens", "cached, 3 min ago")
    assert vm.answer_facts(answer(cached=True), "Q4_K_M", 80.0)[-1] == "cached"  # kept before ages were


def test_an_answer_says_how_it_ended() -> None:
    stopped = answer(state=MessageState.STOPPED, usage=None, ttft=None)
    assert vm.answer_facts(stopped, "Q8_0", 0.0) == ("Q8_0", "stopped")
    assert vm.answer_facts(answer(done_reason="length"), "Q8_0", 0.0)[-1] == "cut at the token limit"


def test_the_waterfall_puts_every_layer_on_one_axis() -> None:
    spans = (Span("queue", 0.0, 1.0), Span("load", 1.0, 3.0), Span("prefill", 3.0, 3.5), Span("decode", 3.5, 5.0))
    bars = vm.waterfall(spans, Usage(prompt_tokens=31, output_tokens=60, decode_ns=1_500_000_000))
    assert [(b.label, b.left, b.width, b.time) for b in bars] == [
        ("Queue", 0.0, 20.0, "1.00 s"), ("Load", 20.0, 40.0, "2.00 s"),
        ("Prefill", 60.0, 10.0, "500 ms"), ("Decode", 70.0, 30.0, "1.50 s"),
    ]  # fmt: skip
    assert bars[3].note == "60 tokens, 40.0 tok/s"


def test_the_wait_for_the_first_token_is_not_told_twice() -> None:
    spans = (Span("first_token", 0.0, 1.0), Span("prefill", 0.0, 1.0))
    assert [bar.label for bar in vm.waterfall(spans, None)] == ["Prefill"]
    assert [bar.label for bar in vm.waterfall(spans[:1], None)] == ["First token"]


def test_no_spans_no_waterfall() -> None:
    assert vm.waterfall((), None) == ()


def test_conversations_are_grouped_by_day() -> None:
    ages = (0, 1, 3, 40, 200)
    rows = [ConversationRow(str(d), f"chat {d}", "m", (NOW - timedelta(days=d)).timestamp()) for d in ages]
    titles = [day.title for day in vm.by_day(rows, NOW)]
    assert titles == ["Today", "Yesterday", "Last seven days", "April", "October 2025"]


def test_loaded_until() -> None:
    assert vm.until(NOW + timedelta(minutes=5), NOW) == "until 12:05"
    assert vm.until(NOW + timedelta(days=2), NOW) == "until 16 May"
    assert vm.until(NOW + timedelta(days=100_000), NOW) == "kept loaded"


@pytest.mark.parametrize(
    ("vram", "told"), [(0, "loaded, 800 MiB, "), (400, "800 MiB, 50 % GPU, "), (800, "800 MiB, 100 % GPU, ")]
)
def test_a_loaded_model_says_how_much_of_it_a_gpu_holds(vram: int, told: str) -> None:
    now = datetime(2026, 5, 4, 14, 0, tzinfo=UTC)
    model = LoadedModel("a:q4_0", "", 800 << 20, vram << 20, now + timedelta(minutes=5), 4096)
    assert vm.in_memory(model, now)[0] == told + "until 14:05"
