"""Dashboard: how is the machine, and how long do answers take?

A view is a line of `VIEWS`; which one is shown stands in the address (`?view=`).
"""

from __future__ import annotations

import streamlit as st

from app.ui import notices
from app.ui.components import (
    dashboard_alerts,
    dashboard_cost,
    dashboard_latency,
    host_strip,
    job_tray,
    live_series,
    requests_view,
)

VIEWS = {
    "Live": live_series.show,
    "Latency": dashboard_latency.show,
    "Requests": requests_view.show,
    "Alerts": dashboard_alerts.show,
    "Cost": dashboard_cost.show,
}
FIRST = next(iter(VIEWS))

above = st.container()
with st.container(key="dashboard-head", horizontal=True, gap="small", vertical_alignment="center"):
    chosen = st.segmented_control(
        "Part", list(VIEWS), default=FIRST, required=True, key="view", label_visibility="collapsed",
        bind="query-params",
    )  # fmt: skip
view = chosen or FIRST
polls = view != FIRST  # the live series say when something changed
with above:
    host_strip.show(polls=polls)
job_tray.show(polls=polls)
with notices.showing_errors("dashboard"):
    VIEWS[view]()
