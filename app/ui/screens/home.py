"""Home: what runs, how busy is it, what needs me?"""

from __future__ import annotations

import streamlit as st

from app.ui import notices
from app.ui.components import home_now, home_ways, host_strip, job_tray

host_strip.show()
job_tray.show()
with st.container(key="home", gap="large"), notices.showing_errors("home"):
    home_now.show()
    home_ways.show()
