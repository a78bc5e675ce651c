"""The Compare screen's frame: its three parts, and the address that opens each."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from streamlit.testing.v1 import AppTest

from tests.ui.pages import calm, text_of

Open = Callable[..., AppTest]


def test_it_opens_with_the_scorecard(open_screen: Open) -> None:
    page = calm(open_screen("compare"))
    assert page.session_state["view"] == "Scorecard"


@pytest.mark.parametrize("view", ["Scorecard", "Side by side", "Votes"])
def test_each_part_has_an_address(view: str, open_screen: Open) -> None:
    page = calm(open_screen("compare", view=view))
    assert page.session_state["view"] == view
    assert text_of(page).strip()
