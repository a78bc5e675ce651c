"""The little that a page cannot do without a script of its own: copying an answer as it was written, and staying at
the end of a conversation while it grows.

One instance per page. What is to be copied stands in the clicked element's `data-lp-copy`.
"""

from __future__ import annotations

import streamlit as st

_JS = """
const NEAR = 120  // px from the end that still count as reading the end

function copying() {
  if (window.__loupeCopy) return
  window.__loupeCopy = true
  document.addEventListener("click", async (event) => {
    const button = event.target.closest?.("[data-lp-copy]")
    if (!button) return
    const text = button.getAttribute("data-lp-copy")
    try {
      await navigator.clipboard.writeText(text)
    } catch {
      // No clipboard without https or localhost: the old way.
      const field = document.createElement("textarea")
      field.value = text
      document.body.append(field)
      field.select()
      document.execCommand("copy")
      field.remove()
    }
    button.textContent = "Copied"
    setTimeout(() => { button.textContent = "Copy" }, 1500)
  })
}

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


def show(place: str) -> None:
    """`place` names what is being read; when it changes, the page goes to its end."""
    st.components.v2.component("loupe_page_keys", html="<span hidden></span>", js=_JS)(
        key="page-keys", data={"place": place}
    )
