"""The page around every screen: title, style, navigation. Streamlit runs this file for each page and interaction."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from app.ui import access, theme

SCREENS = Path(__file__).with_name("screens")

st.set_page_config(page_title="Loupe", page_icon=theme.ICON, layout="wide", initial_sidebar_state="auto")
st.html(f"<style>{theme.stylesheet()}</style>")
st.logo(theme.ICON, size="small")
screens = [st.Page(SCREENS / "chat.py", title="Chat", url_path="chat", default=True)]
if access.administers():  # a page that is not listed here cannot be opened
    screens.insert(0, st.Page(SCREENS / "home.py", title="Home", url_path="home"))
    screens += [
        st.Page(SCREENS / "compare.py", title="Compare", url_path="compare"),
        st.Page(SCREENS / "models.py", title="Models", url_path="models"),
        st.Page(SCREENS / "service.py", title="Service", url_path="service"),
        st.Page(SCREENS / "dashboard.py", title="Dashboard", url_path="dashboard"),
    ]
screens.append(st.Page(SCREENS / "settings.py", title="Settings", url_path="settings"))
page = st.navigation(screens, position="top")
page.run()
