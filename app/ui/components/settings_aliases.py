"""Aliases: names that stand for models, where each leads now, and the form that makes or switches one."""

from __future__ import annotations

from html import escape

import streamlit as st

from app.services.alias_targets import AliasView
from app.services.alias_values import Alias
from app.ui import access, alias_actions, bridge, notices, settings_actions, who
from app.ui import alias_words as words
from app.ui import view_models as vm
from app.ui.components import confirming
from app.ui.components.settings_head import why_not
from app.ui.state import settings_state

HOW = (
    "A name such as coder that editors and scripts ask for. Which model that is, is said here and changed without a "
    "restart; requests that run keep what they began with."
)
EMPTY = "There is no alias yet."
TARGETS_HELP = (
    "One a line, the first choice first; the others step in where it cannot answer. A model, another alias, "
    "family=NAME, best=NAME or best=\\*; @HOST behind it for one host only."
)


def show() -> None:
    may = who.visits().admin
    with st.container(key="settings-aliases", gap="small"):
        with st.container(key="settings-part-aliases", horizontal=True, gap="small", vertical_alignment="center"):
            st.html(f'<p class="lp-quiet">{HOW}</p>')
            st.button(
                "Add an alias", key="alias-new", disabled=not may, on_click=settings_actions.ask, args=("alias", "")
            )
        why_not("change aliases")
        views = bridge.call(access.services().aliases.views())
        with st.container(key="alias-rows", gap=None):
            for view in views:
                _row(view, may=may)
        if not views:
            st.html(f'<p class="lp-quiet">{EMPTY}</p>')
    _dialogs()


def _row(view: AliasView, *, may: bool) -> None:
    name = view.alias.name
    model, tone = words.answers(view)
    with st.container(key=f"line-alias-{name}", horizontal=True, gap="xsmall", vertical_alignment="center"):
        told = "".join(f"<em>{escape(text)}</em>" for text in words.troubles(view))
        st.html(
            f'<div class="lp-line"><b>{escape(name)}</b><span class="lp-state lp-{tone}">→ {escape(model)}</span>'
            f"<small>{escape(words.way(view))}</small><small>{escape(words.adds(view.alias))}</small>{told}</div>"
        )
        st.button(
            "Change…", type="tertiary", key=f"alias-change-{name}", disabled=not may,
            on_click=settings_actions.ask, args=("alias", name),
        )  # fmt: skip
        st.button(
            "Remove…", type="tertiary", key=f"alias-remove-{name}", disabled=not may,
            on_click=settings_actions.ask, args=("unalias", name),
        )  # fmt: skip


def _dialogs() -> None:
    what, name = settings_state().confirming or ("", "")
    if what == "unalias":
        confirming.show(
            f"Remove the alias {vm.plain(name)}?", words.removal(name), "Remove",
            lambda: alias_actions.remove(name), settings_actions.close_dialog, settings_state().notices,
        )  # fmt: skip
    elif what == "alias":
        before = access.services().aliases.find(name) if name else None
        title = f"The alias {vm.plain(name)}" if name else "A new alias"
        st.dialog(title, width=560, on_dismiss=settings_actions.close_dialog)(_form)(before)


def _form(before: Alias | None) -> None:
    with st.form("alias", border=False):
        name = before.name if before else st.text_input("Name", key="alias-name", placeholder="coder", max_chars=100)
        targets = "\n".join(target.text for target in before.targets) if before else ""
        options = words.options_text(before.defaults.options) if before else ""
        guard = list(words.GUARDS).index(str(before.guard)) if before else 0
        fields = {
            "targets": st.text_area("Points at", targets, key="alias-targets", height=100, help=TARGETS_HELP),
            "options": st.text_area(
                "Options, where the request says none", options, key="alias-options", height=80,
                placeholder="num_ctx=16384",
            ),
            "guard": st.selectbox(
                "A prompt longer than the context", list(words.GUARDS), key="alias-guard", index=guard,
                format_func=words.GUARDS.__getitem__,
            ),
            "system": before.defaults.system if before else "",
            "note": st.text_input("What it is for", before.note if before else "", key="alias-note", max_chars=500),
        }  # fmt: skip
        anyway = st.checkbox("Also where a target is not there yet", key="alias-anyway")
        sent = st.form_submit_button("Save", type="primary", key="alias-save")
    if sent and alias_actions.save(name, before, fields, anyway=anyway):
        settings_actions.close_dialog()
        st.rerun()
    notices.show_at("dialog", settings_state().notices)
