"""What clicks do among the batch jobs: begin one, pause, go on, cancel, ask failed ones again, delete."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import streamlit as st

from app.core.errors import BadRequest
from app.services.batches.reading import form_of, read_prompts
from app.services.batches.values import Batch, BatchNotFound, Defaults
from app.services.key_errors import ModelNotForKey
from app.ui import access, bridge, notices
from app.ui.state import BATCH_PARAMETER, open_batch, service_state

T = TypeVar("T")
FILE, MODEL, SYSTEM, ROUND = "batch-file", "batch-model", "batch-system", "batch-round"  # widget keys; which form it is
SECONDS = 60.0  # a large file is written to the disk first


def owner() -> str:
    """Whose batches the page shows: "" for everybody's."""
    return "" if access.administers() else access.principal()


def find(batch_id: str) -> Batch | None:
    """None where it was deleted meanwhile."""
    try:
        return access.services().batches.get(batch_id, owner())
    except BatchNotFound:
        return None


def file_key() -> str:
    """The uploader's key: another one after each beginning, so that it is empty again."""
    return f"{FILE}-{st.session_state.get(ROUND, 0)}"


def begin() -> None:
    """Begin with the file that was chosen."""
    if _told_at("batch", _begin) is not None:
        st.session_state[ROUND] = int(st.session_state.get(ROUND, 0)) + 1


def _begin() -> Batch:
    file = st.session_state.get(file_key())
    if file is None:
        raise BadRequest("choose a file of prompts first", "file")
    try:
        content = file.getvalue().decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BadRequest(f"{file.name} is no text in UTF-8; save it as such and choose it again", "file") from None
    model, system = (str(st.session_state.get(key) or "") for key in (MODEL, SYSTEM))
    form = form_of(file.name, content)
    prompts = read_prompts(file.name, content, form, Defaults(model, system))
    visitor = access.visitor()
    for name in dict.fromkeys(prompt.model for prompt in prompts):
        if not visitor.may_use(name):
            raise ModelNotForKey(name)
    begun = access.services().batches.begin(file.name, form, prompts, visitor.principal)
    return bridge.call(begun, seconds=SECONDS, keep=True)


def operate(what: str, batch_id: str) -> None:
    """pause, resume, cancel or retry."""
    batches = access.services().batches
    work = {"pause": batches.pause, "resume": batches.resume, "cancel": batches.cancel, "retry": batches.retry}[what]
    _told_at("batch", lambda: bridge.call(work(batch_id, owner()), keep=True))


def show_answers(batch_id: str) -> None:
    """Show the answers of a batch, or hide them again."""
    if open_batch() == batch_id:
        st.query_params.pop(BATCH_PARAMETER, None)
    else:
        st.query_params[BATCH_PARAMETER] = batch_id


def delete(batch_id: str) -> bool:
    """Whether it is gone."""
    batches = access.services().batches

    async def work() -> bool:
        await batches.delete(batch_id, owner())
        return True

    gone = bool(_told_at("dialog", lambda: bridge.call(work(), keep=True)))
    if gone and open_batch() == batch_id:
        st.query_params.pop(BATCH_PARAMETER, None)
    return gone


def _told_at(place: str, work: Callable[[], T]) -> T | None:
    return notices.told_at(service_state().notices, place, work)
