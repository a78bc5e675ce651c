"""Buttons that copy a text: the text stands in the element's `data-lp-copy`, and one listener a page does the rest."""

from __future__ import annotations

from html import escape

import streamlit as st

JS = """
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
    const words = (button.dataset.lpWords ??= button.textContent)
    button.textContent = "Copied"
    setTimeout(() => { button.textContent = words }, 1500)
  })
}
"""
_LISTENING = JS + "\nexport default function () { copying() }\n"


def button(text: str, label: str = "Copy", *, kind: str = "lp-copy") -> str:
    """The button as HTML. A page with one also draws `listen`, or the chat's own keys."""
    return f'<button type="button" class="{kind}" data-lp-copy="{escape(text, quote=True)}">{escape(label)}</button>'


def listen() -> None:
    """Once a page."""
    st.components.v2.component("loupe_copying", html="<span hidden></span>", js=_LISTENING)(key="copying")
