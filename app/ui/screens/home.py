"""Home: what runs, how busy is it, what needs me?"""

from __future__ import annotations

import streamlit as st

from app.ui import notices
from app.ui.components import home_live, home_now, home_ways, host_strip, job_tray

host_strip.show(polls=False)
job_tray.show(polls=False)
with st.container(key="home", gap="medium"), notices.showing_errors("home"):
    home_now.truth()
    home_live.show()
    home_now.needs()
    home_ways.show()
