"""Colours and type. `options()` is what the ASGI module hands to Streamlit; `theme.css` adds what options cannot say.

Light and dark are both drawn here, neither derived from the other. Text on its ground is AA (4.5:1) or better in
both; a test computes it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from app.core.colours import DARK, LIGHT, REFERENCE, Palette, bpw_colour
from app.ui.assets import URL_PREFIX, font_faces

__all__ = ["CSS", "DARK", "ICON", "LIGHT", "REFERENCE", "Palette", "bpw_colour", "options", "stylesheet"]

CSS = Path(__file__).with_name("theme.css")
# The mark: a lens over a scale of steps. The name beside it is text, put there by the style sheet.
ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="24" height="24" viewBox="0 0 24 24" role="img" aria-label="Loupe">'
    '<g fill="none" stroke="#16808c" stroke-width="2" stroke-linecap="round"><circle cx="10" cy="10.5" r="7"/>'
    '<path d="M15.2 15.7 L20 20.5"/><path d="M7 13 V11 M10 13 V8 M13 13 V9.6"/></g></svg>'
)


def _colours(p: Palette, *, dark: bool) -> dict[str, Any]:
    return {
        "primaryColor": p.accent,
        "backgroundColor": p.ground,
        "secondaryBackgroundColor": p.surface,
        "textColor": p.text,
        "linkColor": p.accent,
        "borderColor": p.line,
        "codeBackgroundColor": p.surface,
        "codeTextColor": p.text,
        "greenColor": p.good,
        "greenTextColor": p.good,
        "orangeColor": p.warn,
        "orangeTextColor": p.warn,
        "redColor": p.bad,
        "redTextColor": p.bad,
        "grayColor": p.muted,
        "grayTextColor": p.muted,
        "blueColor": p.accent,
        "blueTextColor": p.accent,
        "sidebar.backgroundColor": p.surface,
        "sidebar.secondaryBackgroundColor": p.raised if dark else p.ground,
        "sidebar.borderColor": p.line,
    }


def options() -> dict[str, Any]:
    """Streamlit's options for the look, by their full names; to be merged with the server's by whoever starts it."""
    shared: dict[str, Any] = {
        "theme.font": "Inter, system-ui, sans-serif",
        "theme.headingFont": "Inter, system-ui, sans-serif",
        "theme.codeFont": "'JetBrains Mono', ui-monospace, monospace",
        "theme.fontFaces": font_faces(),
        "theme.baseFontSize": 15,
        "theme.headingFontSizes": ["1.333rem", "1.133rem", "1rem", "1rem", "1rem", "1rem"],
        "theme.headingFontWeights": [600, 600, 600, 600, 600, 600],
        "theme.codeFontSize": "0.867rem",
        "theme.baseRadius": "6px",
        "theme.buttonRadius": "6px",
        "theme.linkUnderline": True,
        "theme.showWidgetBorder": True,
        "theme.showSidebarBorder": True,
        "theme.paddingTop": "1.5rem",
        "theme.paddingBottom": "1.5rem",
        "theme.sidebar.paddingTop": "0.5rem",
        "client.toolbarMode": "minimal",
        "client.showErrorDetails": "none",
    }
    for mode, palette in (("light", LIGHT), ("dark", DARK)):
        for name, value in _colours(palette, dark=mode == "dark").items():
            shared[f"theme.{mode}.{name}"] = value
    return shared


def stylesheet() -> str:
    """The page's CSS with the palette's values put in."""
    css = CSS.read_text(encoding="utf-8").replace("/loupe/assets", URL_PREFIX)
    for name in Palette._fields:
        css = css.replace(f"${name}", f"light-dark({getattr(LIGHT, name)}, {getattr(DARK, name)})")
    return css
