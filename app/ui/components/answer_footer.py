"""The quiet line under an answer, and one click deeper the waterfall of what it waited for. One HTML element."""

from __future__ import annotations

import time
from html import escape

import streamlit as st

from app.core.conversations import StoredMessage
from app.ui import view_models as vm
from app.ui.components import copying, waterfall
from app.ui.components.glossary import explained


def show(message: StoredMessage, variant: str) -> None:
    """`variant` is the short name of what answered, such as Q4_K_M."""
    st.html(footer(message, variant))


def footer(message: StoredMessage, variant: str) -> str:
    facts = vm.answer_facts(message, variant, time.time())
    line = '<i aria-hidden="true"> · </i>'.join(
        [f'<b title="{escape(message.model, quote=True)}">{escape(facts[0])}</b>', *map(_fact, facts[1:])]
    )
    bars = vm.waterfall(message.spans, message.usage)
    where = message.model + (f" on {message.host}" if message.host else "")
    falls = waterfall.html(bars, where)
    told = f"<details><summary>{line}</summary>{falls}</details>" if bars else f"<p>{line}</p>"
    copy = copying.button(message.content) if message.content else ""
    return f'<div class="lp-foot">{told}{copy}</div>'


def _fact(text: str) -> str:
    term = next((term for term in ("TTFT", "tok/s", "cached") if term in text), "")
    return explained(text, term)
