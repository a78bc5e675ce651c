"""The batching lab: measure how many answers at once are worth it, or other settings of the runtime; what was found.

The address says which: `?study=ID` is one study, so that it survives a reload and can be sent to somebody.
"""

from __future__ import annotations

import time
from html import escape

import streamlit as st

from app.comparison.batching.study import Study
from app.ui import access, batching_actions, notices
from app.ui import batching_words as words
from app.ui import view_models as vm
from app.ui.components import batching_choose, batching_study
from app.ui.fragments import fragment
from app.ui.state import open_study, service_state

LOOK_SECONDS = 2.0


def show() -> None:
    with st.container(key="batching", gap="small"):
        named = open_study()
        notices.show_at("study", service_state().notices)
        if named:
            _study(named)
        else:
            batching_choose.show()
            live = any(study.state in words.LIVE for study in access.services().batching.list())
            fragment(run_every=LOOK_SECONDS if live else None)(_list)()


def _study(study_id: str) -> None:
    st.button("All studies", type="tertiary", icon=":material/arrow_back:", key="all-studies",
              on_click=batching_actions.show_study, args=("",))  # fmt: skip
    with notices.showing_errors("study-of-address"):
        study = access.services().batching.get(study_id)
        if study.state in words.LIVE:
            batching_study.show_running(study)
        else:
            batching_study.show(study)


def _list() -> None:
    studies = access.services().batching.list()
    with st.container(key="study-list", gap=None):
        st.html('<h3 class="lp-part">Studies</h3>')
        if not studies:
            st.html(f'<p class="lp-quiet">{words.NONE_YET}</p>')
        for study in studies:
            _row(study)


def _row(study: Study) -> None:
    with st.container(
        key=f"card-row-{study.id}", horizontal=True, gap="xsmall", vertical_alignment="center", wrap=False
    ):
        st.html(
            f'<div class="lp-card-row"><b>{escape(study.asked.model)}</b>'
            f"<small>{escape(words.study_line(study, time.time()))}</small>"
            f"<span>{escape(words.headline(study))}</span></div>"
        )
        if st.button(
            "Open", key=f"study-open-{study.id}", help=f"Open the study of {vm.plain(study.asked.model)}",
            on_click=batching_actions.show_study, args=(study.id,),
        ):  # fmt: skip
            st.rerun()  # the whole page, of which this list is a part
