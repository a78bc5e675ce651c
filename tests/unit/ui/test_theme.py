"""Colours that can be read, options that Streamlit knows, files that are there."""

from __future__ import annotations

import re

import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient
from streamlit import config

from app.ui import assets, theme
from app.ui.theme import DARK, LIGHT, Palette

AA_TEXT, AA_GRAPHIC = 4.5, 3.0


def luminance(colour: str) -> float:
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_every_text_colour_is_aa_on_every_ground(palette: Palette) -> None:
    for ground in (palette.ground, palette.surface, palette.raised):
        for name in ("text", "muted", "accent", "good", "warn", "bad"):
            assert contrast(getattr(palette, name), ground) >= AA_TEXT, (name, ground)


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("bpw", [16.0, 8.5, 6.6, 5.7, 4.8, 3.9, 3.0, 2.1, None])
def test_a_quantizations_colour_can_be_seen_on_both_grounds(palette: Palette, bpw: float | None) -> None:
    assert contrast(theme.bpw_colour(bpw), palette.ground) >= AA_GRAPHIC


def test_the_reference_and_the_unknown_are_neutral() -> None:
    assert theme.bpw_colour(4.8, reference=True) == theme.bpw_colour(None) == theme.bpw_colour(16.0) == theme.REFERENCE


def test_streamlit_knows_every_option() -> None:
    known = config.get_config_options()
    assert [name for name in theme.options() if name not in known] == []


def test_the_style_sheet_has_no_blank_left_and_loads_nothing() -> None:
    sheet = theme.stylesheet()
    assert not re.search(r"\$[a-z]", sheet)
    assert "url(" not in sheet
    assert sheet.count("{") == sheet.count("}")


def test_fonts_are_served_and_nothing_else_is() -> None:
    client = TestClient(Starlette(routes=assets.routes()))
    for face in assets.font_faces():
        answer = client.get(face["url"])
        assert answer.status_code == 200
        assert answer.content[:4] == b"\x00\x01\x00\x00"
        assert "immutable" in answer.headers["cache-control"]
    assert client.get(f"{assets.URL_PREFIX}/..%2f..%2fmetadata.json").status_code == 404
    assert client.get(f"{assets.URL_PREFIX}/other.ttf").status_code == 404
