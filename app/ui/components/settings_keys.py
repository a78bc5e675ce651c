"""Keys: who has one, what each may and has used, a new one shown once, and taking one away."""

from __future__ import annotations

import time
from html import escape
from urllib.parse import urlsplit

import streamlit as st

from app.services.access_keys import KeyScope
from app.services.key_usage import KeyView
from app.ui import access, bridge, key_actions, notices, settings_actions, who
from app.ui import key_words as words
from app.ui import view_models as vm
from app.ui.components import confirming, copying
from app.ui.components.settings_head import why_not
from app.ui.state import settings_state

HOW = (
    "A key is for each client, person or machine that is to be told apart, limited, or let in from elsewhere. Each one "
    "has its own conversations and cache."
)
EMPTY = "There is no key yet."
OPEN = " Without keys whoever reaches this port is the owner."


def show() -> None:
    may = who.visits().admin
    with st.container(key="settings-keys", gap="small"):
        with st.container(key="settings-part-keys", horizontal=True, gap="small", vertical_alignment="center"):
            st.html(f'<p class="lp-quiet">{HOW}</p>')
            st.button("Make a key", key="key-new", disabled=not may, on_click=settings_actions.ask, args=("key", ""))
        why_not("see and change the keys of others")
        _fresh()
        views = bridge.call(key_actions.views() if may else _own())
        with st.container(key="key-rows", gap=None):
            for view in views:
                _row(view, may=may)
        if not views:
            settings = access.services().settings
            st.html(f'<p class="lp-quiet">{EMPTY}{"" if settings.signs_in_without_key else OPEN}</p>')
    _dialogs(views)


async def _own() -> tuple[KeyView, ...]:
    own = await key_actions.own()
    return (own,) if own else ()


def _fresh() -> None:
    """The secret of a key that was made just now, with lines for clients."""
    if settings_state().secret is None:
        return
    name, secret = settings_state().secret or ("", "")
    rows = "".join(
        f"<tr><th>{escape(label)}</th><td><code>{escape(line)}</code></td><td>{copying.button(line)}</td></tr>"
        for label, line in (("the key", secret), *words.lines(_base(), secret))
    )
    with st.container(key="key-fresh", gap="xsmall"):
        st.html(
            f'<div class="lp-fresh" role="status"><strong>The key {escape(name)}</strong><p>{words.ONCE}</p>'
            f"<table>{rows}</table></div>"
        )
        st.button("I have it", key="key-fresh-done", on_click=key_actions.put_away)


def _base() -> str:
    """The address by which this browser came."""
    parts = urlsplit(st.context.url or "")
    return f"{parts.scheme}://{parts.netloc}" if parts.netloc else f"http://127.0.0.1:{access.services().settings.port}"


def _row(view: KeyView, *, may: bool) -> None:
    key, now = view.key, time.time()
    told, tone = words.state(key, now)
    with st.container(key=f"line-key-{key.id}", horizontal=True, gap="xsmall", vertical_alignment="center"):
        st.html(
            f'<div class="lp-line"><b>{escape(key.name)}</b><span class="lp-state lp-{tone}">{escape(told)}</span>'
            f"<small>{escape(words.may(key))}</small>"
            f"<small>{escape(words.used(view, now))} · <code>{escape(key.hint)}…</code></small></div>"
        )
        if key.revoked_at is None:
            st.button(
                "Revoke…", type="tertiary", key=f"key-revoke-{key.id}", disabled=not may,
                on_click=settings_actions.ask, args=("revoke", key.id),
            )  # fmt: skip


def _dialogs(views: tuple[KeyView, ...]) -> None:
    what, name = settings_state().confirming or ("", "")
    found = next((view.key for view in views if view.key.id == name), None)
    if what == "key":
        st.dialog("A new key", width=520, on_dismiss=settings_actions.close_dialog)(_form)()
    elif what == "revoke" and found is not None:
        others = [
            v for v in views if v.key.scope is KeyScope.ADMIN and v.key.revoked_at is None and v.key.id != found.id
        ]
        last = found.scope is KeyScope.ADMIN and not others and not access.services().settings.signs_in_without_key
        confirming.show(
            f"Revoke the key {vm.plain(found.name)}?", words.revoking(found, last=last), "Revoke",
            lambda: key_actions.revoke(found.id), settings_actions.close_dialog, settings_state().notices,
        )  # fmt: skip


def _form() -> None:
    services = access.services()
    first = not services.keys.made and not services.settings.signs_in_without_key
    if first:
        st.html(f'<p class="lp-told">{words.FIRST}</p>')
    with st.form("key", border=False):
        name = st.text_input("Name", key="key-name", placeholder="me" if first else "editor", max_chars=64)
        scopes = [KeyScope.ADMIN] if first else [KeyScope.INFER, KeyScope.READ, KeyScope.ADMIN]
        scope = st.selectbox("May", scopes, key="key-scope", format_func=words.SCOPES.__getitem__)
        models = st.text_input(
            "Models",
            key="key-models",
            placeholder="all",
            help="Names, or patterns like qwen2.5:\\*",
        )
        with st.container(horizontal=True, gap="small"):
            limits = {
                "per_minute": st.number_input("Requests/min", 0, None, 0, key="key-per-minute", help="0: no limit"),
                "at_once": st.number_input("At once", 0, None, 0, key="key-at-once", help="0: no limit"),
                "tokens_a_day": st.number_input(
                    "Tokens a day", 0, None, 0, 10_000, key="key-tokens", help="0: no limit"
                ),
            }
        sent = st.form_submit_button("Make it", type="primary", key="key-save")
    if sent and key_actions.create(name, scope, models, limits):
        settings_actions.close_dialog()
        st.rerun()
    notices.show_at("dialog", settings_state().notices)
