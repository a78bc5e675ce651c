"""Saving a scorecard: as a page, as data, as a table, as a few lines."""

from __future__ import annotations

from html import escape

import streamlit as st

from app.comparison.results import Scorecard
from app.ui import card_reports


def show(card: Scorecard) -> None:
    with (
        st.popover("Report", icon=":material/download:", key="card-report"),
        st.container(key="card-files", gap="xsmall"),
    ):
        for file in card_reports.files_of(card):
            with st.container(horizontal=True, gap="small", vertical_alignment="center", key=f"file-{file.label}"):
                st.download_button(
                    file.label, file.make, file.name, file.mime, key=f"report-{file.label}", on_click="ignore"
                )
                st.html(f'<p class="lp-quiet">{escape(file.told)}</p>')
