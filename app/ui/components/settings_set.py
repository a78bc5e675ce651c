"""Every setting: its value, who set it, what it does, and what of the settings file waits for a restart."""

from __future__ import annotations

from html import escape

import streamlit as st

from app.config_picture import Origin, Picture, SettingRow, picture
from app.ui import access, notices
from app.ui import settings_words as words
from app.ui.components import copying

HEAD = "<thead><tr><th>Setting</th><th>Value</th><th>Set by</th><th>What it does</th></tr></thead>"


def show() -> None:
    found = picture(access.services().loaded)
    with st.container(key="settings-set", gap="small"):
        st.html(f'<p class="lp-quiet">{escape(words.where_from(found))}</p>')
        for key, notice in words.notices_of(found):
            notices.show(notice, key=f"set-{key}")
        with st.container(key="settings-tools", horizontal=True, gap="xsmall", vertical_alignment="bottom"):
            text = st.text_input("Find", key="find", placeholder="port, cache, token", bind="query-params")
            which = st.segmented_control(
                "Which", [words.EVERYTHING, words.CHANGED], default=words.EVERYTHING, required=True, key="which",
                label_visibility="collapsed",
            )  # fmt: skip
            rows = words.chosen_rows(found.rows, text or "", which or words.EVERYTHING)
            st.html(copying.button(words.as_text(rows), "Copy the list", kind="lp-button"), width="content")
        st.html(_table(rows, found) if rows else f'<p class="lp-quiet">{escape(words.nothing_found(text or ""))}</p>')


def _table(rows: tuple[SettingRow, ...], found: Picture) -> str:
    groups = "".join(
        f'<tbody><tr class="lp-group"><th scope="rowgroup" colspan="4">{escape(name)}</th></tr>'
        f"{''.join(_row(row, found) for row in group)}</tbody>"
        for name, group in words.by_group(rows).items()
    )
    return f'<table class="lp-set">{HEAD}{groups}</table>'


def _row(row: SettingRow, found: Picture) -> str:
    source = found.file.name if row.origin is Origin.FILE else str(row.origin)
    coming = f"<small>after a restart: <b>{escape(row.next_value)}</b></small>" if row.next_value is not None else ""
    hidden = f"<small>{escape(found.file.name)} sets it too, in vain</small>" if row.overruled else ""
    notes = " ".join(part for part in (words.limits(row), row.after) if part)
    return (
        f'<tr class="{"lp-default" if row.origin is Origin.DEFAULT else "lp-own"}">'
        f'<th scope="row"><code>{escape(row.variable)}</code></th>'
        f"<td><code>{escape(row.value)}</code>{coming}</td><td><span>{escape(source)}</span>{hidden}</td>"
        f"<td>{escape(row.help)}<small>{escape(notes)}</small></td></tr>"
    )
