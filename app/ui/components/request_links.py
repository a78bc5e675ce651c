"""What a list of requests needs of the browser: a click on a row opens it, and a line tells of newer ones."""

from __future__ import annotations

from html import escape
from pathlib import Path
from urllib.parse import quote

import streamlit as st

from app.ui import request_actions

HTML, JS = (Path(__file__).with_suffix(suffix).read_text(encoding="utf-8") for suffix in (".html", ".js"))


def listen(query: str = "", running: int = 0) -> None:
    """Once a page. `query`: what `/loupe/requests` is asked for newer ones; without it nothing is asked."""
    links = st.components.v2.component("loupe_request_links", html=HTML, js=JS, isolate_styles=False)
    links(key=request_actions.LINKS, data={"query": query, "running": running}, on_act_change=request_actions.heard)


def of(request_id: str) -> str:
    """The attribute of an element that opens a request when it is clicked."""
    return f'data-lp-request="{escape(request_id, quote=True)}"'


def link(request_id: str, text: str) -> str:
    """A link to a request, as HTML."""
    address = f"?view=Requests&amp;request={escape(quote(request_id), quote=True)}"
    return f'<a href="{address}" target="_self" data-lp-open {of(request_id)}>{escape(text)}</a>'
