"""The one door from the pages to the services. Tests patch `services`; everything else asks here.

Streamlit runs each page script anew on every interaction, in a thread of its own; the services live on the server's
loop. Call them through `app.ui.bridge`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import streamlit as st
from streamlit.runtime.scriptrunner import get_script_run_ctx

from app import instance
from app.services.access_keys import OWNER, KeyScope, Visitor
from app.services.chat import Caller

if TYPE_CHECKING:
    from app.bootstrap import Services


VISITOR_HEADER = "X-Loupe-Visitor"  # set by the guards on the page's websocket; a client cannot


def services() -> Services:
    """The services of this process. Raises `ServicesNotInstalled` outside of the running product."""
    return instance.current()


def loop() -> asyncio.AbstractEventLoop:
    """The loop that the services run on."""
    return services().loop


def visitor() -> Visitor:
    """Who has signed in on this page, and what they may do. A key that was revoked meanwhile ends the page here."""
    told = st.context.headers.get(VISITOR_HEADER)
    found = services().keys.visitor(told) if told else OWNER
    if found is None:
        st.error("Your key was revoked. Sign in with another one.")
        st.link_button("Sign in", "/loupe/sign-in")
        st.stop()
    return found


def administers() -> bool:
    """Whether this page may change what is there: models, hosts, queue, keys."""
    return visitor().scope is KeyScope.ADMIN


def principal() -> str:
    """Who owns this page's conversations and cache entries: the owner, or a key."""
    return visitor().principal


def caller() -> Caller:
    """A caller with a fresh trace, for one request. Its flow is this page, so that two pages share fairly."""
    context = get_script_run_ctx()
    return Caller(
        principal=principal(),
        flow=f"page {context.session_id}" if context else "page",
        from_page=True,
        cache_mode=services().settings.cache_mode,
    )
