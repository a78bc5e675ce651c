"""The load lab: what to ask of which variant, a run on its way, a finished one, and those that were made before.

The address says which: `?run=ID` is one run, `&beside=ID` another one beside it.
"""

from __future__ import annotations

import streamlit as st

from app.comparison.load_lab.runs import RUNNING
from app.ui import access, load_actions, notices
from app.ui.components import copying, load_lab_course, load_lab_form, load_lab_list, load_lab_result
from app.ui.state import load_state, open_load_id


def show() -> None:
    with st.container(key="lab-view", gap="small"):
        run_id = open_load_id()
        if run_id:
            _run(run_id)
        elif load_lab_form.show() or access.services().load_lab.list():
            load_lab_list.show()
    load_lab_list.dialog()
    copying.listen()


def _run(run_id: str) -> None:
    st.button("All load runs", type="tertiary", icon=":material/arrow_back:", key="lab-all",
              on_click=load_actions.show_run, args=("",))  # fmt: skip
    notices.show_at("begin", load_state().notices)
    with notices.showing_errors("lab-run"):
        run = access.services().load_lab.get(run_id)
        if run.state == RUNNING:
            load_lab_course.show(run)
        else:
            load_lab_result.show(run)
