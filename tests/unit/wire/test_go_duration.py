"""Durations as Go's time.ParseDuration reads them; expected values were printed by Go 1.26."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.errors import BadRequest
from app.wire.go_duration import FOREVER, keep_alive_ns, parse_duration, quote_go

GOOD = [
    ("10m", 600_000_000_000), ("1h30m", 5_400_000_000_000), ("-1s", -1_000_000_000), ("0s", 0), ("0", 0),
    ("1.5h", 5_400_000_000_000), ("+3s", 3_000_000_000), ("1us", 1000), ("1µs", 1000), ("1μs", 1000),
    ("1.s", 1_000_000_000), ("3.m2s", 182_000_000_000), ("300ms", 300_000_000),
]  # fmt: skip
BAD = [
    ("300", 'time: missing unit in duration "300"'), ("", 'time: invalid duration ""'),
    ("x", 'time: invalid duration "x"'), ("1e3s", 'time: unknown unit "e" in duration "1e3s"'),
    ("5 m", 'time: unknown unit " m" in duration "5 m"'), ("1d", 'time: unknown unit "d" in duration "1d"'),
    (".s", 'time: invalid duration ".s"'), ("-", 'time: invalid duration "-"'),
    ("1h-3m", 'time: unknown unit "h-" in duration "1h-3m"'), ("2562048h", 'time: invalid duration "2562048h"'),
    ("1ns1", 'time: missing unit in duration "1ns1"'), ("9" * 5000 + "s", "time: invalid duration"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "nanoseconds"), GOOD)
def test_durations_are_read(text: str, nanoseconds: int):
    assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize(("text", "sentence"), BAD)
def test_bad_durations_are_refused_in_gos_words(text: str, sentence: str):
    with pytest.raises(BadRequest) as caught:
        parse_duration(text)
    assert caught.value.message.startswith(sentence)


@given(st.text(max_size=20))
def test_every_text_is_a_duration_or_refused(text: str):
    try:
        assert isinstance(parse_duration(text), int)
    except BadRequest as error:
        assert error.message.startswith("time: ")


@pytest.mark.parametrize(
    ("value", "nanoseconds"),
    [(None, None), (0, 0), (1.5, 1_500_000_000), (-1, FOREVER), ("-1s", FOREVER), ("0s", 0), (10**30, FOREVER)],
)
def test_keep_alive_is_seconds_or_a_duration_and_negative_means_for_ever(value: object, nanoseconds: int | None):
    assert keep_alive_ns(value) == nanoseconds  # type: ignore[arg-type]


def test_quoting_is_gos():
    assert quote_go('é\x00"\\\n\u2028😀') == '"é\\x00\\"\\\\\\n\\u2028😀"'
