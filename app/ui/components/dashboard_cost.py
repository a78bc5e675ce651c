"""Cost: what answers take in energy and money, beside the cloud's prices, and what that is worked out from."""

from __future__ import annotations

from html import escape

import streamlit as st

from app.services.costing.service import CostView
from app.ui import access, bridge, cost_actions, notices
from app.ui import cost_words as words
from app.ui.components import cost_forms, figure_table
from app.ui.fragments import fragment
from app.ui.state import cost_state

DEFAULT = "30 days"


@fragment()
def show() -> None:
    with notices.showing_errors("cost"), st.container(key="cost-view", gap="medium"):
        with st.container(key="cost-head", horizontal=True, gap="small", vertical_alignment="center"):
            period = _choice("Time", list(words.PERIODS), DEFAULT, "days")
            by = _choice("By", list(words.BY), "Variant", "by")
        with st.skeleton(height=320):
            view = bridge.call(access.services().cost.view(words.BY[by], words.PERIODS[period]))
        st.html(_figures(view))
        if view.report.rows:
            _used(view)
        else:
            st.html(f'<p class="lp-quiet">{escape(words.EMPTY)}</p>')
        _cloud(view)
        _assumptions(view)


def _choice(label: str, options: list[str], default: str, key: str) -> str:
    chosen = st.segmented_control(
        label, options, default=default, required=True, key=key, label_visibility="collapsed", bind="query-params"
    )
    return chosen or default


def _figures(view: CostView) -> str:
    cells = "".join(
        f"<div><dt>{_explained(each)}</dt><dd>{escape(each.value)}</dd><small>{escape(each.note)}</small></div>"
        for each in words.figures(view)
    )
    return f'<dl class="lp-figures">{cells}</dl>'


def _explained(figure: words.Figure) -> str:
    return (
        f'<span title="{escape(figure.help, quote=True)}">{escape(figure.name)}</span>' if figure.help else figure.name
    )


def _used(view: CostView) -> None:
    head, rows = words.table(view)
    st.html(figure_table.html(head, rows) + f'<p class="lp-quiet">{escape(words.under_table(view))}</p>')


def _cloud(view: CostView) -> None:
    head, rows = words.cloud(view)
    st.html(
        f'<h2 class="lp-part">Beside the cloud</h2>{figure_table.html(head, rows)}'
        f'<p class="lp-quiet">{escape(words.under_cloud(view))}</p>'
    )


def _assumptions(view: CostView) -> None:
    rows = "".join(
        f'<tr class="{"lp-own" if row.said == "stated" else "lp-default"}"><th scope="row">{escape(row.name)}</th>'
        f"<td>{escape(row.value)}</td><td><span>{escape(row.said)}</span></td><td>{escape(row.note)}</td></tr>"
        for row in words.assumed_rows(view)
    )
    head = "<thead><tr><th>Assumption</th><th>Value</th><th>From</th><th>What it is</th></tr></thead>"
    st.html(
        '<h2 class="lp-part">What this is worked out from</h2>'
        f'<table class="lp-set lp-assumed">{head}<tbody>{rows}</tbody></table>'
    )
    notices.show_at("cost", cost_state().notices)
    with st.container(key="cost-forms", horizontal=True, gap="small"):
        with st.popover("Change these", key="cost-change"):
            cost_forms.assumptions(view)
        with st.popover("Change the cloud's prices", key="cost-prices"):
            cost_forms.prices(view)
        if view.assumed.stated:
            st.button(
                "Take all back", type="tertiary", key="cost-back", on_click=cost_actions.take_back,
                args=(view.assumed.stated,), help="Forget what was stated; what Loupe begins with holds again",
            )  # fmt: skip
