"""The variant chip: which model answers, and one click away every other quantization of it."""

from __future__ import annotations

from html import escape

import streamlit as st

from app.models.catalog import CatalogFamily, CatalogVariant
from app.services.alias_targets import AliasView
from app.ui import access, actions, theme
from app.ui import view_models as vm
from app.ui.chat_view import ChatView
from app.ui.model_words import CONFLICT, NOT_LOCAL
from app.ui.state import FAMILY_PARAMETER


def show(view: ChatView) -> None:
    chosen = view.chosen
    name = f":gray[{vm.plain(chosen[0].title)}] {vm.plain(chosen[1].label)}" if chosen else vm.plain(view.model)
    if view.alias is not None and chosen:
        name = f"{vm.plain(view.alias.alias.name)} :gray[→ {vm.plain(chosen[1].label)}]"
    with st.popover(name or "No model", key="variant", on_change="rerun", type="tertiary", help=None) as picker:
        if not picker.open:
            return
        with st.container(key="picker", gap=None):
            if view.aliases:
                st.html('<h3 class="lp-family">Aliases</h3>')
            for alias in view.aliases:
                _alias_row(view, alias)
            for family in view.catalog.families:
                st.html(f'<h3 class="lp-family">{escape(family.title)}{_context(family)}</h3>')
                for variant in family.variants:
                    _row(view, variant)
                if access.administers() and sum(variant.state == "ready" for variant in family.variants) > 1:
                    st.page_link(
                        "screens/compare.py", label="Compare these", query_params={FAMILY_PARAMETER: family.key}
                    )
            if not view.catalog.families:
                st.html('<p class="lp-quiet">No model is here yet.</p>')


def _context(family: CatalogFamily) -> str:
    return f" <small>{vm.count(family.context_length, 'token')} of context</small>" if family.context_length else ""


def _row(view: ChatView, variant: CatalogVariant) -> None:
    state, size = state_words(variant), vm.size(None if variant.remote else variant.size or None)
    colour = theme.bpw_colour(variant.bpw, reference=variant.reference)
    chosen = view.chosen is not None and view.chosen[1].name == variant.name and view.alias is None
    here = ":material/check:" if chosen else None
    label = (
        f':color[■]{{foreground="{colour}"}} **{vm.plain(variant.label)}** :gray[{size}] '
        f":gray[{vm.bits(variant.bpw)}] {state}"
    )
    st.button(
        label, type="tertiary", key=f"pick-{variant.key}", width="stretch", icon=here, icon_position="right",
        help=CONFLICT if variant.conflict else NOT_LOCAL if variant.remote else None,
        disabled=variant.state != "ready" or (variant.remote and not access.services().settings.remote_models),
        on_click=actions.choose_variant, args=(variant.name,),
    )  # fmt: skip


def _alias_row(view: ChatView, alias: AliasView) -> None:
    name = alias.alias.name
    leads = f":gray[→ {vm.plain(alias.model)}]" if alias.model else ":orange[nothing of it can answer now]"
    st.button(
        f"**{vm.plain(name)}** {leads}", type="tertiary", key=f"pick-alias-{name}", width="stretch",
        icon=":material/check:" if view.alias == alias else None, icon_position="right", disabled=not alias.model,
        on_click=actions.choose_variant, args=(name,), help=alias.alias.note or None,
    )  # fmt: skip


def state_words(variant: CatalogVariant) -> str:
    """In one or two words, coloured only where it is a state."""
    if variant.remote:
        return ":orange[not local]"  # its host has it computed by somebody else
    if variant.conflict:
        return f":orange[conflict on {vm.plain(', '.join(variant.hosts))}]"
    if variant.state == "making":
        return f":orange[{vm.percent(variant.progress) if variant.progress else 'being made'}]"
    if variant.state == "waiting":
        return ":gray[to be made]"
    return ":green[loaded]" if variant.loaded else ":gray[reference]" if variant.reference else ":gray[ ]"
