"""What is known about the tokens of a text without tokenizing it, against a small tokenizer of whole words."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.errors import BadRequest
from app.models.gguf_file import read_gguf
from app.runtime.prompt_bounds import MAX_PROMPT, TokenBounds, bounds_of, check_size
from tests.gguf_samples import ARRAY, I32, STRING, Sample

SPECIAL = "<s>"
BOUNDS = TokenBounds(4, re.compile(re.escape(SPECIAL)))


def tokens(text: str) -> list[str]:
    """Special tokens, and words in pieces of at most four letters, a space before them with the first."""
    return [
        piece
        for part in re.findall(rf"{SPECIAL}| ?[^ <]+|[ <]", text)
        for piece in ([part] if part == SPECIAL else re.findall(".{1,4}", part))
    ]


TEXTS = st.lists(st.sampled_from([SPECIAL, " a", " word", "longerword", " ", "x", "é"]), max_size=400).map("".join)


@given(TEXTS, st.integers(1, 100))
def test_a_text_that_surely_exceeds_does(text: str, limit: int):
    if BOUNDS.surely_exceed(text, limit):
        assert len(tokens(text)) > limit


@given(TEXTS, st.integers(1, 30))
def test_a_shortened_text_has_the_same_tokens_at_both_ends_and_more_than_those(text: str, count: int):
    if BOUNDS.surely_exceed(text, 2 * count):
        whole, short = tokens(text), tokens(BOUNDS.shortened(text, count, count))
        assert short[:count] == whole[:count]
        assert short[-count:] == whole[-count:]
        assert len(short) > 2 * count


def test_a_long_text_and_one_full_of_special_tokens_come_down_to_what_can_matter():
    for text in ("word " * 100_000, SPECIAL * 100_000, "word " * 50_000 + SPECIAL * 50_000):
        assert len(BOUNDS.shortened(text, 100, 100)) < 2000


def test_bounds_come_from_the_vocabulary(tmp_path: Path):
    path = tmp_path / "model.gguf"
    words = [("tokenizer.ggml.tokens", ARRAY, (STRING, ["a", "longest", "<|x|>", "<mine>"]))]
    path.write_bytes(Sample([*words, ("tokenizer.ggml.token_type", ARRAY, (I32, [1, 1, 3, 4]))]).bytes())
    bounds = bounds_of(read_gguf(path))
    assert bounds is not None
    assert bounds.longest == 7
    assert bounds.surely_exceed("<|x|><mine><|x|>", 2) and not bounds.surely_exceed("<|x|><mine>", 2)
    path.write_bytes(Sample(words).bytes())
    without = bounds_of(read_gguf(path))
    assert without is not None and not without.surely_exceed("<|x|>" * 2, 2)
    path.write_bytes(Sample([]).bytes())
    assert bounds_of(read_gguf(path)) is None


def test_texts_that_nobody_reads_are_refused():
    check_size("x" * MAX_PROMPT, None, 5)
    with pytest.raises(BadRequest, match="the prompt is longer than"):
        check_size("x" * MAX_PROMPT, "y")
