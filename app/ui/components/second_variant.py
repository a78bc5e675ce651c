"""A family of which only one variant is here says how to get a second one: without it there is nothing to compare."""

from __future__ import annotations

from html import escape

import streamlit as st

from app.models.catalog import CatalogFamily, CatalogVariant
from app.ui import model_actions, notices
from app.ui import model_words as words
from app.ui import view_models as vm
from app.ui.state import models_state

ALONE = "One variant: nothing to compare it with yet."


def show(family: CatalogFamily) -> None:
    """Draws nothing where there are two, where one is coming, or where comparing answers means nothing."""
    only = family.variants[0]
    if len(family.variants) > 1 or only.state != "ready" or only.remote or not words.chats(only):
        return
    place = f"second-{only.key}"
    with st.container(key=place, horizontal=True, gap="xsmall", vertical_alignment="center"):
        if words.sources_of(family):
            _say(ALONE)
            if st.button(
                "Make a second one", type="tertiary", key=f"make-{place}",
                on_click=model_actions.ask_to_make, args=(only.name,),
            ):  # fmt: skip
                st.rerun()
        else:
            _to_pull(only, words.second_tag(only), place)
    notices.show_at(place, models_state().notices)


def _to_pull(only: CatalogVariant, tag: str, place: str) -> None:
    page = words.tags_page(only.name)
    if tag:
        size = words.bytes_at(only, "Q8_0" if tag.casefold().endswith("q8_0") else "Q4_K_M")
        about = f" ({vm.about_size(size)})" if size else ""
        _say(f"{ALONE} By its name, a second one is <b>{escape(tag)}</b>{about}.")
        st.button(
            "Pull it",
            type="tertiary",
            key=f"pull-{place}",
            on_click=model_actions.pull_as_told,
            args=(tag, only.host, place),
        )
    elif page:
        link = f'<a href="{escape(page, quote=True)}" target="_blank" rel="noreferrer">'
        _say(
            f"{ALONE} Pull another quantization of it; its tags are listed at "
            f"{link}{escape(page.removeprefix('https://'))}</a>."
        )
    else:
        _say(f"{ALONE} Pull another quantization of it from where this one is from.")


def _say(html: str) -> None:
    st.html(f'<p class="lp-quiet">{html}</p>')
