"""docs/method.md says what the code does: its limits and lengths are those in use."""

from __future__ import annotations

import re
from pathlib import Path

from app.comparison import speed, validity_after
from app.comparison.divergence import TOP
from app.comparison.intervals import CONFIDENCE, MARGIN, POWER
from app.comparison.probes import SINCE
from app.models.advisor import FLOORS, Use
from app.models.tiers import LIMITS

PAGE = (Path(__file__).parents[3] / "docs" / "method.md").read_text(encoding="utf-8")
FLAT = " ".join(PAGE.split())


def test_the_tiers_are_cut_where_the_page_says():
    for tier, least, most in LIMITS:
        share, word = f"{100 * least:g} %", tier.value
        assert re.search(rf"{word} \((?:same top ≥ )?{share}(?:,| and KLD ≤) {most:g}\)", FLAT), word


def test_the_least_speeds_are_those_of_the_advisor():
    chat, code, extraction = (f"{FLOORS[use]:g}" for use in (Use.CHAT, Use.CODE, Use.EXTRACTION))
    assert f"chat {chat} tokens/s, code {code}, extraction {extraction}" in FLAT


def test_lengths_of_prompts_and_answers_are_those_measured():
    told = (
        f"about {speed.TTFT_TOKENS} tokens of prompt", f"about {speed.SHORT} and {speed.LONG} tokens",
        f"answers of {speed.DECODE_TOKENS} tokens", f"{speed.DEPTHS[1]:,} and {speed.DEPTHS[2]:,} tokens before it",
        f"the {TOP} likeliest tokens", f"Ollama {'.'.join(map(str, SINCE))} or newer", f"± {100 * MARGIN:g} points",
        f"with {100 * POWER:g} % power", f"{100 * CONFIDENCE:g} %, over texts",
    )  # fmt: skip
    assert [text for text in told if text not in FLAT] == []
    assert validity_after.ENOUGH_TEXTS >= 24
