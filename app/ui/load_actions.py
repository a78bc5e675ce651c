"""What clicks do in the load lab. Callbacks: they run before the page is drawn, so it shows their effect."""

from __future__ import annotations

from dataclasses import replace

import streamlit as st

from app.comparison.load_lab.lab import Asker
from app.comparison.load_lab.plan import LoadPlan
from app.comparison.load_lab.runs import HostInUse
from app.core.errors import LoupeError
from app.ui import access, bridge, notices
from app.ui import view_models as vm
from app.ui.notices import Notice
from app.ui.state import load_state, open_load, open_load_id

BEGIN_SECONDS = 60.0  # hosts are looked at first, and chats read


def begin(plan: LoadPlan) -> None:
    """Begin, and go to the run: its address survives a reload. Who would feel it is said beside a way to go on."""
    state = load_state()
    state.refused = None
    state.notices.clear()
    asker = Asker(access.principal(), access.caller().flow)
    try:
        run = bridge.call(access.services().load_lab.begin(plan, asker), seconds=BEGIN_SECONDS)
    except HostInUse as error:
        state.refused = replace(plan, anyway=True)
        state.notices["begin"] = Notice("The host is in use", vm.sentence(error.why), tone="warn")
    except LoupeError as error:
        state.notices["begin"] = notices.notice_for(error)
    else:
        open_load(run.id)


def show_run(run_id: str, beside: str = "") -> None:
    """Go to a run, beside another one; "" is the list of all."""
    open_load(run_id, beside)


def cancel(run_id: str) -> None:
    lab = access.services().load_lab
    notices.told_at(load_state().notices, "run", lambda: bridge.call(lab.cancel(run_id), keep=True))


def ask_to_delete(run_id: str) -> None:
    load_state().deleting = run_id


def close_dialog() -> None:
    load_state().deleting = ""
    load_state().notices.pop("dialog", None)


def delete(run_id: str) -> bool:
    """Whether it is gone. The page goes to the list where it showed that run."""

    async def work() -> bool:
        await access.services().load_lab.delete(run_id)
        return True

    gone = bool(notices.told_at(load_state().notices, "dialog", lambda: bridge.call(work())))
    if gone and open_load_id() == run_id:
        open_load("")
    return gone


def beside_changed(run_id: str, key: str) -> None:
    open_load(run_id, str(st.session_state[key] or ""))
