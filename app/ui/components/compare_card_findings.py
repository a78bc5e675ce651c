"""What the validity guard found: one sentence, and what to do about it. What would mislead comes first."""

from __future__ import annotations

from html import escape

import streamlit as st

from app.comparison.results import Finding, Scorecard, Severity
from app.ui import card_table
from app.ui import card_words as words

_ORDER = tuple(Severity)
TONES = {Severity.REFUSED: "bad", Severity.MISLEADING: "warn", Severity.NOTE: "plain"}


def show(card: Scorecard) -> None:
    if not card.findings:
        return
    called = card_table.labels(card)
    found = sorted(card.findings, key=lambda finding: _ORDER.index(finding.severity))
    items = "".join(_item(finding, called) for finding in found)
    st.html(f'<ul class="lp-findings" aria-label="What was found">{items}</ul>')


def _item(finding: Finding, called: dict[str, str]) -> str:
    text, advice = words.finding_line(finding, called)
    return (
        f'<li data-tone="{TONES[finding.severity]}"><small>{escape(words.SEVERITIES[finding.severity])}</small>'
        f"<strong>{escape(text)}</strong> <span>{escape(advice)}</span></li>"
    )
