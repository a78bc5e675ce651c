"""The little that a page cannot do without a script of its own: copying an answer as it was written, and staying at
the end of a conversation while it grows.

One instance per page.
"""

from __future__ import annotations

import streamlit as st

from app.ui.components import copying

_JS = (
    copying.JS
    + """
const NEAR = 120  // px from the end that still count as reading the end

export default function ({ data, parentElement }) {
  copying()
  const main = document.querySelector('[data-testid="stMain"]')
  const content = document.querySelector('[data-testid="stMainBlockContainer"]')
  if (!main || !content) return
  const keep = (window.__loupeEnd ??= { place: null, atEnd: true, main: null, watch: null })
  if (keep.main !== main) {
    keep.watch?.disconnect()
    keep.main = main
    main.addEventListener("scroll", () => {
      keep.atEnd = main.scrollHeight - main.scrollTop - main.clientHeight < NEAR
    }, { passive: true })
    keep.watch = new ResizeObserver(() => { if (keep.atEnd) main.scrollTop = main.scrollHeight })
    keep.watch.observe(content)
  }
  if (keep.place !== data.place) {
    keep.place = data.place
    keep.atEnd = true
    requestAnimationFrame(() => { main.scrollTop = main.scrollHeight })
  }
}
"""
)


def show(place: str) -> None:
    """`place` names what is being read; when it changes, the page goes to its end."""
    st.components.v2.component("loupe_page_keys", html="<span hidden></span>", js=_JS)(
        key="page-keys", data={"place": place}
    )
