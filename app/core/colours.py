"""The colours of pages, pictures and reports. Standard library only.

Light and dark are both drawn here, neither derived from the other. Text on its ground is AA (4.5:1) or better in both;
a test computes it.
"""

from __future__ import annotations

from typing import NamedTuple


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
