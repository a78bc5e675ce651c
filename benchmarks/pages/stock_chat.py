"""The chat page of Streamlit's own tutorial, on an Ollama host: st.chat_input, httpx, st.write_stream.

What our page is measured against. Host and model come from the environment: STOCK_CHAT_HOST, STOCK_CHAT_MODEL.
"""

import json
import os
from collections.abc import Iterator

import httpx
import streamlit as st

HOST, MODEL = os.environ["STOCK_CHAT_HOST"], os.environ["STOCK_CHAT_MODEL"]
OPTIONS = {"temperature": 0, "num_predict": int(os.environ.get("STOCK_CHAT_TOKENS", "-1"))}


@st.cache_resource
def client() -> httpx.Client:
    return httpx.Client(base_url=HOST, timeout=120)


def answer(messages: list[dict[str, str]]) -> Iterator[str]:
    asked = {"model": MODEL, "messages": messages, "options": OPTIONS}
    with client().stream("POST", "/api/chat", json=asked) as response:
        response.raise_for_status()
        for line in response.iter_lines():
            yield json.loads(line)["message"]["content"]


st.session_state.setdefault("messages", [])
for message in st.session_state.messages:
    st.chat_message(message["role"]).markdown(message["content"])
if question := st.chat_input("Ask something"):
    st.session_state.messages.append({"role": "user", "content": question})
    st.chat_message("user").markdown(question)
    with st.chat_message("assistant"):
        written = st.write_stream(answer(st.session_state.messages))  # noqa: TID251  # the thing we compare with
    st.session_state.messages.append({"role": "assistant", "content": str(written)})
