"""Batch jobs: a file of prompts in, its answers out; how far each is, and what can be done with it.

The list redraws itself alone, the form above it stays as it is.
"""

from __future__ import annotations

import time
from html import escape

import streamlit as st

from app.services.batches.values import Batch, BatchState, Form, Outcome, Prompt
from app.services.batches.writing import answer_of, question_of
from app.ui import access, batch_actions, bridge, notices, service_actions
from app.ui import batch_words as words
from app.ui import view_models as vm
from app.ui.fragments import fragment
from app.ui.state import open_batch, service_state

LOOK_SECONDS = 1.0
IDLE_SECONDS = 5.0  # a batch may be begun elsewhere
LATEST = 10
LARGEST = 20  # MiB of a file in the page; the command line takes more


def show() -> None:
    with st.container(key="batches", gap="medium"):
        _form()
        notices.show_at("batch", service_state().notices)
        busy = any(batch.active for batch in access.services().batches.list(batch_actions.owner()))
        fragment(run_every=LOOK_SECONDS if busy else IDLE_SECONDS)(_list)(busy)


def _form() -> None:
    with st.container(key="batch-form", gap="small"):
        st.html(f'<p class="lp-quiet">{escape(words.FORMS)}</p>')
        file = st.file_uploader(
            "File of prompts", ["jsonl", "ndjson", "json", "csv", "tsv", "txt"], key=batch_actions.file_key(),
            max_upload_size=LARGEST, label_visibility="collapsed",
        )  # fmt: skip
        with st.container(key="batch-how", horizontal=True, gap="small", vertical_alignment="bottom"):
            st.selectbox(
                "Model", _models(), key=batch_actions.MODEL,
                help="For prompts that name none themselves. In OpenAI's format each names its own.",
            )  # fmt: skip
            st.text_input(
                "System prompt", key=batch_actions.SYSTEM, placeholder="None",
                help="Goes before each prompt that has none of its own.",
            )  # fmt: skip
            st.button(
                "Begin", type="primary", key="batch-begin", disabled=file is None, on_click=batch_actions.begin,
                help="Answer every prompt of the file",
            )  # fmt: skip
        st.html(f'<p class="lp-quiet">{escape(words.MANNERS)}</p>')


def _models() -> list[str]:
    visitor = access.visitor()
    catalog = bridge.call(access.services().catalog.snapshot(stale_ok=True))
    names = [variant.name for family in catalog.families for variant in family.variants if variant.state == "ready"]
    names += [alias.name for alias in access.services().aliases.all()]
    return [name for name in names if visitor.may_use(name)]


def _list(busy: bool) -> None:
    batches = access.services().batches.list(batch_actions.owner())
    if busy != any(batch.active for batch in batches):
        st.rerun()  # the page, which decides how often this is drawn
    if not batches:
        st.html(f'<p class="lp-quiet">{escape(words.NONE)}</p>')
    with st.container(key="batch-list", gap=None):
        for batch in batches:
            _row(batch)


def _row(batch: Batch) -> None:
    job = access.services().batches.job(batch.id)
    tone = (
        " lp-failed" if batch.state is BatchState.FAILED else " lp-running" if batch.state is BatchState.RUNNING else ""
    )
    with st.container(key=f"batch-{batch.id}", gap="xsmall"):
        st.html(
            f'<div class="lp-batch{tone}"><b>{escape(batch.name)}</b>'
            f"<span>{escape(words.standing(batch, job, time.time()))}</span>"
            f"<small>{escape(words.counted(batch))}</small><small>{escape(words.facts(batch))}</small>"
            f'<i class="lp-progress"><i style="width:{100 * words.share(batch):.1f}%"></i></i></div>'
        )
        with st.container(key=f"batch-acts-{batch.id}", horizontal=True, gap="xsmall", vertical_alignment="center"):
            _acts(batch)
        if open_batch() == batch.id:
            _latest(batch)


def _acts(batch: Batch) -> None:
    if batch.state is BatchState.RUNNING:
        _act("Pause", "pause", batch, "Begin no further prompt until it is resumed")
    elif batch.state is not BatchState.DONE:
        _act("Resume", "resume", batch, "Go on where it stopped")
    if batch.active:
        _act("Cancel", "cancel", batch, "Stop at once; what was answered is kept")
    elif batch.failed:
        _act("Ask failed again", "retry", batch, f"Ask the {vm.count(batch.failed, 'prompt')} once more that failed")
    if batch.answered or batch.failed:
        shown = open_batch() == batch.id
        if st.button("Hide answers" if shown else "Answers", key=f"batch-open-{batch.id}", type="tertiary",
                     on_click=batch_actions.show_answers, args=(batch.id,)):  # fmt: skip
            st.rerun()
        st.html(_links(batch), width="content")
    if st.button("Delete", key=f"batch-drop-{batch.id}", type="tertiary", icon=":material/delete:",
                 help=f"Delete {vm.plain(batch.name)} with its answers", on_click=service_actions.ask,
                 args=("batch", batch.id)):  # fmt: skip
        st.rerun()  # the dialog belongs to the page


def _act(label: str, what: str, batch: Batch, told: str) -> None:
    if st.button(label, key=f"batch-{what}-{batch.id}", help=told, on_click=batch_actions.operate,
                 args=(what, batch.id)):  # fmt: skip
        st.rerun()


def _links(batch: Batch) -> str:
    forms = [(Form.JSONL, "JSON lines"), (Form.CSV, "CSV")]
    if batch.form is Form.OPENAI:
        forms.insert(0, (Form.OPENAI, "OpenAI"))
    path = f"/loupe/batches/{batch.id}/results"
    return " ".join(
        f'<a class="lp-button" href="{path}?format={form}" download title="The answers so far, as {name}">{name}</a>'
        for form, name in forms
    )


def _latest(batch: Batch) -> None:
    rows = bridge.call(access.services().batches.latest(batch.id, batch_actions.owner(), LATEST))
    told = "".join(_answer(prompt, outcome) for prompt, outcome in rows)
    more = f"The last {LATEST}; the files have all. " if batch.answered + batch.failed > LATEST else ""
    st.html(f'<p class="lp-quiet">{more}</p><ol class="lp-answers">{told}</ol>')


def _answer(prompt: Prompt, outcome: Outcome) -> str:
    said = vm.sentence(outcome.error) if outcome.failed else answer_of(outcome)
    tone = ' data-tone="bad"' if outcome.failed else ""
    return (
        f"<li{tone}><b>{escape(words.short(question_of(prompt)))}</b><span>{escape(words.short(said))}</span>"
        f"<small>{escape(words.ended_as(outcome))}</small></li>"
    )
