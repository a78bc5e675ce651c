"""Chat: talk, with a variant one click away."""

from __future__ import annotations

from app.ui import actions, notices
from app.ui.chat_view import load
from app.ui.components import (
    composer,
    conversations,
    empty_chat,
    history_notice,
    host_strip,
    job_tray,
    live_answer,
    page_keys,
    transcript,
)
from app.ui.state import open_chat, open_chat_id

host_strip.show()
job_tray.show()
with notices.showing_errors("chat", on_retry=lambda: open_chat("")):
    history_notice.show()
    view = load()
    conversations.show(view)
    if view.messages:
        transcript.show(view)
    else:
        empty_chat.show(view)
    composer.show(view)
    page_keys.show(f"{open_chat_id()} {view.last_question}")
    if view.live is not None:
        live_answer.show(view, view.live)
    actions.send_queued(view)
