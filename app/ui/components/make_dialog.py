"""Making missing quantizations: which, how large, how long; or what is missing for it. Open while the state says so."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import streamlit as st

from app.core.errors import LoupeError
from app.models.catalog import CatalogFamily, CatalogVariant, CatalogView
from app.models.naming import nominal_bits
from app.services.model_jobs import MakeOffer
from app.ui import access, bridge, model_actions, notices, theme
from app.ui import model_words as words
from app.ui import view_models as vm
from app.ui.state import models_state

OFFERS_SECONDS = 60.0  # the host may have to be asked for every tensor of a large model


def show(catalog: CatalogView) -> None:
    """Draws the dialog where the page's state names a variant; a variant that is gone closes it."""
    found = catalog.find(models_state().making) if models_state().making else None
    if found is None:
        models_state().making = ""
        return
    family, variant = found
    sources = words.sources_of(family)
    title = f"Make quantizations of {vm.plain(family.title)}"
    dialog = st.dialog(title, width=560, on_dismiss=model_actions.close_dialog)
    if sources:
        dialog(_choose)(family, sources, variant)
    else:
        dialog(_reference_missing)(family, variant)


def _choose(family: CatalogFamily, sources: Sequence[CatalogVariant], wanted: CatalogVariant) -> None:
    places = {
        f"{source.label}, {host}" if len(source.hosts) > 1 or len(sources) > 1 else source.label: (source, host)
        for source in sources
        for host in source.hosts or ("",)
    }
    chosen = next(iter(places))
    if len(places) > 1:
        chosen = st.segmented_control("From", list(places), default=chosen, required=True, key="make-source") or chosen
    source, host = places[chosen]
    st.html(
        f'<p class="lp-quiet">From <b>{escape(source.name)}</b>, {escape(source.label)}, {vm.size(source.size)}. '
        "The source stays as it is.</p>"
    )
    try:
        with st.skeleton(height=260):
            offers = _offers(source.name, host)
    except LoupeError as error:
        notices.show(notices.notice_for(error), key="offers", on_retry=_ask_again)
        return
    with st.container(key="offers", gap=None):
        here = {variant.name for variant in family.variants}
        ticked = [offer for offer in offers if _offer(offer, here=offer.name in here)]
    _foot(source.name, host, ticked)


def _offers(source: str, host: str) -> tuple[MakeOffer, ...]:
    """Asked once while the dialog is open: a tick must not make the host look again."""
    kept = models_state().offers
    if (source, host) not in kept:
        kept[source, host] = bridge.call(access.services().model_jobs.offers(source, host), seconds=OFFERS_SECONDS)
    return kept[source, host]


def _ask_again() -> None:
    models_state().offers.clear()


def _offer(offer: MakeOffer, *, here: bool) -> bool:
    """One row; whether it is ticked."""
    colour = theme.bpw_colour(nominal_bits(offer.level) or None)
    time = vm.about(offer.seconds) if offer.seconds is not None else "time unknown"
    if here or offer.refusal:
        facts = ":gray[is here]" if here else f":gray[{vm.plain(offer.refusal)}]"
    else:
        facts = f":gray[{vm.size(offer.size or None)}] :gray[{time}]"
    return st.checkbox(
        f':color[■]{{foreground="{colour}"}} **{vm.plain(offer.level)}** {facts}', key=f"make-{offer.name}",
        disabled=here or bool(offer.refusal), width="stretch",
    )  # fmt: skip


def _foot(source: str, host: str, ticked: Sequence[MakeOffer]) -> None:
    told = words.chosen_words([offer.size for offer in ticked], [offer.seconds for offer in ticked])
    st.html(f'<p class="lp-quiet" role="status">{escape(told)}</p>')
    problem = st.container()
    with st.container(key="dialog-foot", horizontal=True, gap="xsmall"):
        go = st.button(words.make_label(len(ticked)), type="primary", key="make-go", disabled=not ticked)
        if st.button("Cancel", key="make-cancel"):
            _closed()
    if go and model_actions.make(source, [offer.level for offer in ticked], host):
        _closed()
    with problem:
        notices.show_at("make", models_state().notices)


def _closed() -> None:
    model_actions.close_dialog()
    st.rerun()


def _reference_missing(family: CatalogFamily, variant: CatalogVariant) -> None:
    """Quantizing what is quantized already would lose twice: say what to get instead."""
    tag, page = words.reference_tag(variant.name), words.tags_page(variant.name)
    size = words.bytes_at(variant, "F16")
    about = f" ({vm.about_size(size)})" if size else ""
    told = [
        "Quantizations are made from 16-bit weights, and none of this model are here. From a quantized file they would "
        "lose twice, and no longer be what their name says."
    ]
    if tag:
        told.append(f"By its name, <b>{escape(tag)}</b>{about} would serve as the reference.")
    elif page:
        told.append(f"Look for a tag that ends in fp16 or bf16{about}, and pull it.")
    else:
        told.append(f"Where you have this model from, look for F16 or BF16{about}, and pull it.")
    if page:
        told.append(
            f'Its tags are listed at <a href="{escape(page, quote=True)}" target="_blank" rel="noreferrer">'
            f"{escape(page.removeprefix('https://'))}</a>."
        )
    st.html("".join(f'<p class="lp-told">{sentence}</p>' for sentence in told))
    problem = st.container()
    with st.container(key="dialog-foot", horizontal=True, gap="xsmall"):
        go = tag and st.button(f"Pull {vm.plain(tag)}", type="primary", key="make-pull")
        if go and model_actions.pull(tag, variant.host, place="make"):
            _closed()
        if st.button("Close", key="make-cancel"):
            _closed()
    with problem:
        notices.show_at("make", models_state().notices)
