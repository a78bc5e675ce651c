"""The one door from the pages to the services. Tests patch `services`; everything else asks here.

Streamlit runs each page script anew on every interaction, in a thread of its own; the services live on the server's
loop. Call them through `app.ui.bridge`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from streamlit.runtime.scriptrunner import get_script_run_ctx

from app import instance
from app.services.chat import Caller

if TYPE_CHECKING:
    from app.bootstrap import Services

LOCAL = "local"


def services() -> Services:
    """The services of this process. Raises `ServicesNotInstalled` outside of the running product."""
    return instance.current()


def loop() -> asyncio.AbstractEventLoop:
    """The loop that the services run on."""
    return services().loop


def principal() -> str:
    """Who owns this page's conversations. One token, one person: every page of the product is `local`."""
    return LOCAL


def caller() -> Caller:
    """A caller with a fresh trace, for one request. Its flow is this page, so that two pages share fairly."""
    context = get_script_run_ctx()
    return Caller(
        principal=principal(),
        flow=f"page {context.session_id}" if context else "page",
        from_page=True,
        cache_mode=services().settings.cache_mode,
    )
