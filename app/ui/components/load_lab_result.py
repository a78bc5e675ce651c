"""A finished load run: four figures, what to know before believing them, every time with its interval, the pictures,
another run beside it, and the command that does it again."""

from __future__ import annotations

import time
from dataclasses import replace
from html import escape

import streamlit as st

from app.comparison.chart_parts import Look
from app.comparison.load_lab import telling
from app.comparison.load_lab.arrivals import Arrivals
from app.comparison.load_lab.beside import beside
from app.comparison.load_lab.pictures import pictures_of
from app.comparison.load_lab.runs import RUNNING, LoadRun
from app.ui import access, bridge, load_actions, notices
from app.ui import load_words as words
from app.ui.components import copying, figure_table, vega_chart
from app.ui.components.glossary import explained
from app.ui.state import load_state, open_beside_id

FRAME = 110  # pixels that title, axis and padding take beside the picture itself
BESIDE = "lab-beside"


def head(run: LoadRun) -> str:
    return (
        f'<header class="lp-model"><h2>{escape(words.mix(run.plan))}</h2></header>'
        f'<p class="lp-quiet lp-load-asked">{escape(words.asked_line(run))}</p>'
    )


def tiles(run: LoadRun) -> str:
    cells = "".join(
        f'<div><dt><span title="{escape(words.TERMS[tile.name], quote=True)}">{escape(tile.name)}</span></dt>'
        f"<dd>{escape(tile.value)}</dd><small>{escape(tile.note)}</small></div>"
        for tile in words.tiles(run)
    )
    return f'<dl class="lp-figures">{cells}</dl>'


def show(run: LoadRun) -> None:
    with st.container(key="lab-result", gap="small"):
        found = "".join(f"<li>{escape(line)}</li>" for line in words.findings(run))
        outcome = f'<p class="lp-told">{escape(telling.outcome(run.figures))}</p>' if run.figures.asked else ""
        st.html(head(run) + tiles(run) + outcome + (f'<ul class="lp-findings">{found}</ul>' if found else ""))
        if run.figures.answered:
            st.html(figure_table.html(*words.table(run.figures)))
            _pictures(run)
        _beside(run)
        _again(run)


def _pictures(run: LoadRun) -> None:
    """Read and drawn once a run: its rows may be many."""
    state = load_state()
    if state.pictures is None or state.pictures[0] != run.id:
        rows = bridge.call(access.services().load_lab.rows(run.id))
        light, dark = (pictures_of(run, rows, Look(dark=dark)) for dark in (False, True))
        state.pictures = (run.id, light, dark)
    _, light, dark = state.pictures
    with st.container(key="lab-pictures", horizontal=True, gap="large", vertical_alignment="top"):
        for name, spec in light.items():
            vega_chart.show(spec, dark[name], name=f"load-{name}-{run.id}", alt=str(spec["description"]),
                            height=int(spec["height"]) + FRAME)  # fmt: skip


def _beside(run: LoadRun) -> None:
    others = {one.id: one for one in access.services().load_lab.list() if one.id != run.id and one.state != RUNNING}
    if not others:
        return
    now, chosen = time.time(), open_beside_id()
    ids = ["", *others]
    picked = st.selectbox(
        "Beside", ids, index=ids.index(chosen) if chosen in ids else 0, key=f"{BESIDE}-{run.id}", width=480,
        format_func=lambda other: f"{words.mix(others[other].plan)}, {words.run_line(others[other], now)}"
        if other else "no other run",
        on_change=load_actions.beside_changed, args=(run.id, f"{BESIDE}-{run.id}"),
    )  # fmt: skip
    if picked:
        with notices.showing_errors("lab-beside"):
            _pairs(others[picked], run)


def _pairs(first: LoadRun, second: LoadRun) -> None:
    told = beside(first, second)
    head = ("", "the other one", "this one", "this / other", "")
    lines = "".join(f"<li>{escape(line)}</li>" for line in told.differences)
    same = "" if lines else '<p class="lp-quiet">The same load on the same machine.</p>'
    st.html(
        '<h3 class="lp-part">Beside each other</h3>'
        + (f'<ul class="lp-findings">{lines}</ul>' if lines else same)
        + figure_table.html(head, [telling.paired(pair) for pair in told.pairs])
    )


def _again(run: LoadRun) -> None:
    with st.container(key="lab-again", horizontal=True, gap="small", vertical_alignment="center"):
        if not run.own and run.plan.arrivals is not Arrivals.RECORDED:
            st.button(
                "Run again", key="lab-rerun", help="The same questions at the same moments.",
                on_click=load_actions.begin, args=(replace(run.plan, anyway=False),),
            )  # fmt: skip
        if (refused := load_state().refused) is not None:
            st.button("Load it all the same", key="lab-anyway", on_click=load_actions.begin, args=(refused,))
        st.html(copying.button(words.command(run), "Copy as command", kind="lp-button"), width="content")
        st.html(f'<a class="lp-button" href="/loupe/load/{run.id}/rows" download="load-{run.id}.json">All requests</a>',
                width="content")  # fmt: skip
        st.button("Delete", type="tertiary", key="lab-drop", icon=":material/delete:",
                  on_click=load_actions.ask_to_delete, args=(run.id,))  # fmt: skip
    terms = ", ".join(explained(term, term) for term in ("TTFT", "TPOT", "ITL", "E2E"))
    st.html(
        f'<p class="lp-quiet">{terms} from the moment each question was meant to be sent; in brackets 95 % intervals. '
        f"{escape(run.environment.machine)}, Loupe {escape(run.environment.loupe)}.</p>"
    )
