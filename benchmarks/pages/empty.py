"""The page that startup is compared with: Streamlit and one line."""

import streamlit as st

st.write("Ready")
