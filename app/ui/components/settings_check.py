"""Is this machine right? What was found, what is needed, and what to do; to be copied when asking for help."""

from __future__ import annotations

from html import escape

import streamlit as st

from app import __version__
from app.core.checks import Check, Verdict
from app.services.checking.telling import as_text, in_short
from app.ui import access, bridge
from app.ui.components import copying
from app.ui.fragments import fragment

FOUND = "check-found"
SECONDS = 60.0  # it takes three; a disk that hangs takes longer
_WORDS = {
    Verdict.OK: "fine",
    Verdict.WARN: "could be better",
    Verdict.FAIL: "does not work",
    Verdict.UNKNOWN: "unknown",
}
_TONES = {Verdict.OK: "good", Verdict.WARN: "warn", Verdict.FAIL: "bad", Verdict.UNKNOWN: "quiet"}
_HEAD = "<thead><tr><th>What</th><th>Found</th><th>Verdict</th><th>What to do</th></tr></thead>"


@fragment()
def show() -> None:
    """Looks when it is first opened, and when asked to."""
    with st.container(key="settings-check", gap="small"):
        with st.container(key="settings-part-check", horizontal=True, gap="small", vertical_alignment="center"):
            sentence, copy = st.empty(), st.empty()
            again = st.button("Look again", key="check-again")
        table = st.empty()
        if again or FOUND not in st.session_state:
            sentence.html('<p class="lp-quiet">Looking at the machine: some three seconds.</p>')
            st.session_state[FOUND] = bridge.call(access.services().check.run(), seconds=SECONDS)
        checks: tuple[Check, ...] = st.session_state[FOUND]
        sentence.html(f'<p class="lp-quiet">{escape(in_short(checks))}</p>')
        copy.html(copying.button(as_text(checks, __version__), "Copy for help", kind="lp-button"), width="content")
        rows = "".join(map(_row, checks))
        table.html(f'<table class="lp-set lp-check">{_HEAD}<tbody>{rows}</tbody></table>')


def _row(check: Check) -> str:
    needed = f"<small>needed: {escape(check.needed)}</small>" if check.needed else ""
    return (
        f'<tr><th scope="row">{escape(check.name)}</th><td>{escape(check.found)}{needed}</td>'
        f'<td data-tone="{_TONES[check.status]}">{_WORDS[check.status]}</td><td>{escape(check.advice)}</td></tr>'
    )
