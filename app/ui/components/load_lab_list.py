"""Load runs that were made before, one row each; and the dialog that deletes one."""

from __future__ import annotations

import time
from html import escape

import streamlit as st

from app.comparison.load_lab.runs import RUNNING, LoadRun
from app.ui import access, load_actions
from app.ui import load_words as words
from app.ui import view_models as vm
from app.ui.components import confirming
from app.ui.fragments import fragment
from app.ui.state import load_state

LOOK_SECONDS = 2.0


def show() -> None:
    live = any(run.state == RUNNING for run in access.services().load_lab.list())
    fragment(run_every=LOOK_SECONDS if live else None)(_list)()


def _list() -> None:
    runs = access.services().load_lab.list()
    if not runs:
        st.html(f'<p class="lp-quiet">{escape(words.NO_RUNS)}</p>')
        return
    with st.container(key="lab-list", gap=None):
        st.html('<h3 class="lp-part">Load runs</h3>')
        for run in runs:
            _row(run)


def _row(run: LoadRun) -> None:
    with st.container(key=f"card-row-{run.id}", horizontal=True, gap="xsmall", vertical_alignment="center", wrap=False):
        st.html(
            f'<div class="lp-card-row"><b>{escape(words.mix(run.plan))}</b>'
            f"<small>{escape(words.run_line(run, time.time()))}</small>"
            f"<span>{escape(words.run_headline(run))}</span></div>"
        )
        if st.button("Open", key=f"lab-open-{run.id}", help=f"Open the load run on {vm.plain(run.title)}",
                     on_click=load_actions.show_run, args=(run.id,)):  # fmt: skip
            st.rerun()  # the whole page, of which this list is a part
        if run.state != RUNNING and st.button(
            "Delete", type="tertiary", key=f"lab-drop-{run.id}", icon=":material/delete:", help="Delete this load run",
            on_click=load_actions.ask_to_delete, args=(run.id,),
        ):  # fmt: skip
            st.rerun()  # the dialog belongs to the page, not to this list


def dialog() -> None:
    """Draws the dialog where the page's state names a run."""
    run_id = load_state().deleting
    if not run_id:
        return
    run = next((one for one in access.services().load_lab.list() if one.id == run_id), None)
    if run is None:
        load_actions.close_dialog()
        return
    lines = [f"{vm.count(run.figures.asked, 'request')} of {vm.ago(max(0.0, time.time() - run.started_at))}, with all "
             "their times, for good."]  # fmt: skip
    confirming.show(
        f"Delete the load run on {vm.plain(run.title)}?", lines, "Delete load run", lambda: load_actions.delete(run_id),
        load_actions.close_dialog, load_state().notices,
    )  # fmt: skip
