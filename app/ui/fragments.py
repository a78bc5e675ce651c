"""Parts of a page that are drawn anew by themselves, safely beside others.

Streamlit drops what the page's own run has sent of a fragment where a run of that fragment follows before it was
flushed (`ForwardMsgQueue.clear`, 1.67). The browser then takes the fragment's place out as stale, its siblings move up,
and the fragment is drawn over the first of them: the input was gone. So each gets a container of the page's to itself.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import streamlit as st

P = ParamSpec("P")


def fragment(*, run_every: float | None = None) -> Callable[[Callable[P, None]], Callable[P, None]]:
    """`st.fragment` in a container of its own. `run_every`: seconds after which it draws itself anew."""

    def apart(draw: Callable[P, None]) -> Callable[P, None]:
        drawn = st.fragment(draw, run_every=run_every)

        @wraps(draw)
        def in_its_place(*args: P.args, **words: P.kwargs) -> None:
            with st.container():
                drawn(*args, **words)

        return in_its_place

    return apart
