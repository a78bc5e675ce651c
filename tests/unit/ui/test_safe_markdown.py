"""Model output can neither load anything nor pose as part of the page."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.ui.safe_markdown import JOINER, neutralise


@pytest.mark.parametrize(
    "text",
    [
        "![x](https://example.org/a.png)",
        "see ![x][ref]\n\n[ref]: https://example.org/a.png",
        "![ref]\n\n[ref]: https://example.org/a.png",
        "[![badge](https://example.org/b.svg)](https://example.org)",
        "\\![x](https://example.org/a.png)",
        "- item\n\n  ![x](https://example.org/a.png)",
        "`unclosed ![x](https://example.org/a.png)",
    ],
)
def test_no_image_survives(text: str) -> None:
    assert "![" not in neutralise(text)


def test_code_that_only_looks_like_an_image_stays_exact() -> None:
    assert neutralise("use `vec![0; 4]` here") == "use `vec![0; 4]` here"


@pytest.mark.parametrize("info", ["mermaid", "Mermaid", "mer&#109;aid", " mermaid theme=dark", "&#x6d;ermaid"])
def test_mermaid_is_shown_as_text(info: str) -> None:
    assert neutralise(f"- x\n\n  ```{info}\n  graph TD\n  ```") == "- x\n\n  ```text\n  graph TD\n  ```"


@pytest.mark.parametrize("text", [":red[stop]", ":material/delete:", ":blue-background[x]", "a :streamlit: b"])
def test_the_pages_own_directives_are_inert(text: str) -> None:
    assert ":" + JOINER in neutralise(text)


def test_slices_in_code_spans_stay_exact() -> None:
    assert neutralise("write `xs[a:b[0]]`, ratio 3:2, 12:30") == "write `xs[a:b[0]]`, ratio 3:2, 12:30"


def test_links_stay_links() -> None:
    assert neutralise("[docs](https://example.org)") == "[docs](https://example.org)"


@given(st.text(alphabet="![]()`:\\ab\n#&;~", max_size=60))
def test_nothing_is_left_that_could_be_an_image_with_an_address(text: str) -> None:
    safe = neutralise(text)
    assert "![" not in safe or not any(mark in safe for mark in ("](", "][", "]:"))
    if "image: " not in safe:
        assert safe.replace(JOINER, "") == text


def test_an_image_becomes_a_link_that_says_so() -> None:
    text = "see ![a map](https://example.org/m.png)"
    assert neutralise(text) == "see [image: a map](https://example.org/m.png)"
