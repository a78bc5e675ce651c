"""Deleting a model: names it and says what is freed, what shares its weights and what is lost. Open by state."""

from __future__ import annotations

from html import escape

import streamlit as st

from app.core.errors import LoupeError
from app.models.catalog import CatalogFamily, CatalogVariant, CatalogView
from app.services.model_jobs import Removal
from app.ui import access, bridge, model_actions, notices
from app.ui import model_words as words
from app.ui import view_models as vm
from app.ui.state import models_state


def show(catalog: CatalogView) -> None:
    """Draws the dialog where the page's state names a variant; a variant that is gone closes it."""
    found = catalog.find(models_state().deleting) if models_state().deleting else None
    if found is None:
        models_state().deleting = ""
        return
    family, variant = found
    title = f"Delete {vm.plain(variant.name)}?"
    st.dialog(title, width=520, on_dismiss=model_actions.close_dialog)(_confirm)(family, variant)


def _confirm(family: CatalogFamily, variant: CatalogVariant) -> None:
    name, host = variant.name, variant.host
    if variant.aliases:
        name = st.selectbox("Name", [variant.name, *variant.aliases], key="delete-name")
    if len(variant.hosts) > 1:
        host = st.segmented_control("On", variant.hosts, default=host, required=True, key="delete-host") or host
    try:
        with st.skeleton(height=72):
            removal = bridge.call(access.services().model_jobs.removal(name, host))
    except LoupeError as error:
        notices.show(notices.notice_for(error), key="removal", on_retry=lambda: None)
        return
    several = len(access.services().pool.statuses()) > 1
    told = [escape(line) for line in lines(removal, family, variant, say_host=several)]
    st.html("".join(f'<p class="lp-told">{line}</p>' for line in told))
    problem = st.container()
    with st.container(key="dialog-foot", horizontal=True, gap="xsmall"):
        if st.button(f"Delete {vm.plain(variant.label)}", type="primary", key="delete-go"):
            _carry_out(removal)
        if st.button("Cancel", key="delete-cancel"):
            model_actions.close_dialog()
            st.rerun()
    with problem:
        notices.show_at("delete", models_state().notices)


def lines(removal: Removal, family: CatalogFamily, variant: CatalogVariant, *, say_host: bool) -> list[str]:
    """What the dialog says, a sentence or two a line."""
    where = f" on {removal.host}" if say_host else ""
    told = [f"Frees {vm.size(removal.frees)}{where}." if removal.frees else f"Frees no space{where}."]
    if removal.shared_with:
        told[0] += f" It shares its weights with {_listed(removal.shared_with)}, which stay."
    if removal.loaded:
        told.append("It is loaded now; an answer that it is writing ends.")
    others = [other for other in family.variants if other.name != variant.name and other.state == "ready"]
    sources = words.sources_of(family)
    if sources == (variant,) and others:
        told.append("It is what the other quantizations are made from and measured against; they stay.")
    elif any(source.name != variant.name for source in sources):
        told.append("It can be made again from the 16-bit variant.")
    else:
        told.append("To have it again, it has to be fetched again.")
    told.append("Chats with it stay, and can go on with another variant.")
    return told


def _listed(names: tuple[str, ...]) -> str:
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def _carry_out(removal: Removal) -> None:
    """Returns only where it failed."""
    done = model_actions.remove(removal.name, removal.host)
    if done is not None:
        model_actions.close_dialog()
        st.toast(f"{vm.plain(removal.name)} deleted, {vm.size(done.frees)} freed")
        st.rerun()
