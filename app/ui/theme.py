"""Colours and type. `options()` is what the ASGI module hands to Streamlit; `theme.css` adds what options cannot say.

Light and dark are both drawn here, neither derived from the other. Text on its ground is AA (4.5:1) or better in
both; a test computes it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from app.ui.assets import URL_PREFIX, font_faces

CSS = Path(__file__).with_name("theme.css")
# The mark: a lens over a scale of steps. The name beside it is text, put there by the style sheet.
ICON = (
    '<svg xmlns="http://www.w3.org/2000/svg" width="24" height="24" viewBox="0 0 24 24" role="img" aria-label="Loupe">'
    '<g fill="none" stroke="#16808c" stroke-width="2" stroke-linecap="round"><circle cx="10" cy="10.5" r="7"/>'
    '<path d="M15.2 15.7 L20 20.5"/><path d="M7 13 V11 M10 13 V8 M13 13 V9.6"/></g></svg>'
)


class Palette(NamedTuple):
    ground: str
    surface: str
    raised: str
    line: str
    text: str
    muted: str
    accent: str
    good: str
    warn: str
    bad: str


LIGHT = Palette(
    ground="#fcfcfb", surface="#f4f4f2", raised="#ffffff", line="#e1e1dd", text="#1d1e20", muted="#62656a",
    accent="#0b6670", good="#1d7544", warn="#8a5a00", bad="#b3261e",
)  # fmt: skip
DARK = Palette(
    ground="#131416", surface="#1b1c1f", raised="#202225", line="#2e3034", text="#e4e5e7", muted="#9b9ea5",
    accent="#5fc3cc", good="#58c08a", warn="#dca743", bad="#f2847c",
)  # fmt: skip

# One colour for a quantization everywhere: its true bits per weight on a scale from many to few.
# Middle lightness, so that the same three stops carry 3:1 against the light and the dark ground.
REFERENCE = "#7d8187"
_STOPS = ((8.5, (18, 122, 132)), (5.0, (120, 132, 38)), (2.5, (196, 84, 36)))


def bpw_colour(bpw: float | None, *, reference: bool = False) -> str:
    """Hex colour of a quantization; the reference, and what is unknown, are a neutral."""
    if reference or bpw is None or bpw > 12:
        return REFERENCE
    (high, first), *rest = _STOPS
    if bpw >= high:
        return _hex(first)
    for low, second in rest:
        if bpw >= low:
            part = (bpw - low) / (high - low)
            return _hex(tuple(round(b + (a - b) * part) for a, b in zip(first, second, strict=True)))
        high, first = low, second
    return _hex(first)


def _hex(rgb: tuple[int, ...]) -> str:
    return "#" + "".join(f"{part:02x}" for part in rgb)


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
