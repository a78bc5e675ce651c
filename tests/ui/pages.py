"""What the page tests look at."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

from streamlit.testing.v1 import AppTest


def html_of(page: AppTest) -> str:
    """All HTML that the page drew itself, in order."""
    return "\n".join(element.proto.body for element in page.get("html"))


def text_of(page: AppTest) -> str:
    """The words on the page: Markdown, code and our HTML without its tags."""
    words = [element.value for element in page.markdown] + [element.value for element in page.code]
    return "\n".join([*words, unescape(re.sub(r"<style>.*?</style>|<[^>]+>", " ", html_of(page), flags=re.DOTALL))])


def labels_of(page: AppTest) -> list[str]:
    return [button.label for button in page.button]


def calm(page: AppTest) -> AppTest:
    """The page, which showed no exception."""
    assert not page.exception, page.exception
    return page


def choose(page: AppTest, what: str) -> None:
    """Take an entry of the first conversation's menu."""
    menu: Any = page.get("menu_button")[0]
    menu.click(what).run()


def chat_of(page: AppTest) -> str:
    """The conversation that the page's address names."""
    value = page.query_params["chat"]
    return value if isinstance(value, str) else value[0]
