"""The answer that is being written: finished blocks are drawn once, only the open one again, at most 20 times a second.

Attaching is all it does: leaving the page, or clicking anywhere, ends the attaching and not the answer.
"""

from __future__ import annotations

from html import escape

import streamlit as st

from app.services.generations import Delta, Failed, Finished, Generation, Progress
from app.ui import bridge, notices
from app.ui import view_models as vm
from app.ui.chat_view import ChatView
from app.ui.components.transcript import draw_block, thinking_html
from app.ui.markdown_blocks import BlockReader
from app.ui.state import chat_state


class Pen:
    """Draws a growing answer into the container it was made in."""

    def __init__(self, variant: str) -> None:
        self._variant = variant
        self._reader = BlockReader()
        self._thinking = ""
        self._thoughts = st.empty()
        self._body = st.container(gap="small")
        self._tail = self._body.empty()
        self._status = st.empty()
        self._drawn = 0
        self._told = ""

    def wait(self, progress: Progress) -> None:
        eta = (progress.eta.low, progress.eta.high) if progress.eta else None
        words = vm.waiting(progress.phase, self._variant, progress.position, eta)
        clock = f" · {progress.seconds:.0f} s so far" if progress.seconds >= 2 else ""
        self.say("" if progress.phase == "decode" and self._reader.tail else words + clock)

    def say(self, told: str) -> None:
        """The line under the answer; "" takes it away."""
        if told != self._told:
            self._told = told
            if told:
                self._status.html(f'<div class="lp-wait" role="status">{escape(told)}</div>')
            else:
                self._status.empty()

    def write(self, text: str, thinking: str) -> None:
        if thinking:
            self._thinking += thinking
            self._thoughts.html(thinking_html(self._thinking, running=not text))
        if not text:
            return
        self._reader.feed(text)
        for block in self._reader.done[self._drawn :]:
            with self._tail:
                draw_block(block)
            self._tail = self._body.empty()
        self._drawn = len(self._reader.done)
        tail = self._reader.tail
        if tail is not None and tail.text.strip():
            with self._tail:
                draw_block(tail)


def show(view: ChatView, generation: Generation) -> None:
    """Runs until the answer has ended, then draws the page anew with the stored message."""
    with st.container(key=f"answer-{generation.message_id}", gap="small"):
        pen = Pen(view.label(generation.model))
        for batch in bridge.iterate(generation.attach()):
            text = "".join(event.text for event in batch if isinstance(event, Delta))
            thinking = "".join(event.thinking for event in batch if isinstance(event, Delta))
            if text or thinking:
                pen.write(text, thinking)
            for event in batch:
                if isinstance(event, Progress):
                    pen.wait(event)
                elif isinstance(event, Failed):
                    chat_state().notices[event.message.id] = notices.notice_for(event.error)
                elif isinstance(event, Finished):
                    chat_state().notices.pop(event.message.id, None)
    st.rerun()
