"""One study of the batching lab: on its way, or what it found, the setting that goes with it, and the figures."""

from __future__ import annotations

import time
from html import escape

import streamlit as st

from app.comparison.batching.pictures import throughput
from app.comparison.batching.study import OPTIONS, Advice, Study
from app.comparison.chart_parts import Look
from app.ui import access, batching_actions, service_actions
from app.ui import batching_words as words
from app.ui.card_run_words import time_left
from app.ui.components import copying, figure_table, vega_chart
from app.ui.fragments import fragment

LOOK_SECONDS = 1.0
FRAME = 96  # pixels that title, axis and padding take beside the picture itself


def show_running(study: Study) -> None:
    """Redraws itself alone, once a second; when the study has ended, the whole page is drawn with its result."""
    fragment(run_every=LOOK_SECONDS)(_run)(study.id)


def _run(study_id: str) -> None:
    study = access.services().batching.get(study_id)
    if study.state not in words.LIVE:
        st.rerun()
    job = access.services().batching.job(study_id)
    still = " lp-still" if study.state == "paused" else ""
    left = f'<span class="lp-num">{escape(time_left(job))}</span>' if job is not None else ""
    share = 100 * ((job.fraction if job is not None else None) or 0.0)
    with st.container(key="study-run", gap="small"):
        st.html(
            f'{_head(study)}<div class="lp-run{still}" role="status"><strong>{escape(words.progress_told(study, job))}'
            f'</strong>{left}<i class="lp-progress"><i style="width:{share:.1f}%"></i></i></div>'
        )
        with st.container(key="card-run-acts", horizontal=True, gap="xsmall"):
            what = "resume" if study.state == "paused" else "pause"
            st.button(what.capitalize(), key=f"study-{what}", on_click=batching_actions.operate, args=(what, study.id))
            st.button("Cancel", type="tertiary", key="study-cancel", on_click=batching_actions.operate,
                      args=("cancel", study.id), help="Stop measuring. What was measured so far is kept.")  # fmt: skip
        _figures(study)


def show(study: Study) -> None:
    with st.container(key="study", gap="small"):
        st.html(_head(study))
        _advice(study)
        _picture(study)
        _figures(study)
        _method(study)
        st.button("Delete", type="tertiary", icon=":material/delete:", key="study-delete", help="Delete this study",
                  on_click=service_actions.ask, args=("study", study.id))  # fmt: skip
    copying.listen()


def _head(study: Study) -> str:
    return (
        f'<header class="lp-model"><h2>{escape(study.asked.model)}</h2>'
        f"<span>{escape(words.study_line(study, time.time()))}</span></header>"
    )


def _advice(study: Study) -> None:
    advice = study.advice
    decision, _, why = words.headline(study).partition(": ")
    reasons = f'<p class="lp-advice-why">{escape(why[:1].upper() + why[1:])}</p>' if why else ""
    lines = "".join(f"<li>{escape(note)}</li>" for note in (*(advice.notes if advice else ()), *study.notes))
    empty = "" if advice else " lp-none"
    st.html(
        f'<div class="lp-advice{empty}" role="status"><h2>{escape(decision)}</h2>{reasons}'
        f"{f'<ul>{lines}</ul>' if lines else ''}</div>"
    )
    if advice is not None and advice.setup.changes:
        _to_set(study, advice)


def _to_set(study: Study, advice: Advice) -> None:
    tuning = access.services().tuning
    told = words.what_to_set(advice.lines)
    with st.container(key="study-set", horizontal=True, gap="small", vertical_alignment="center"):
        refusal = tuning.refusal(advice.setup) if study.own else ""
        if study.own and not refusal:
            there = not advice.setup.without(tuning.in_force).changes
            st.button(
                "In force" if there else "Apply", type="primary", key="study-apply", disabled=there,
                on_click=batching_actions.apply, args=(advice.setup,),
                help="Start the built-in runtime anew with it. Answers that run end first, new ones wait meanwhile.",
            )  # fmt: skip
        st.html(f'<code class="lp-set-lines">{escape(told)}</code>', width="content")
        st.html(copying.button(told, "Copy", kind="lp-button"), width="content")
    if refusal:
        st.html(f'<p class="lp-quiet">{escape(refusal[:1].upper() + refusal[1:])}.</p>')


def _picture(study: Study) -> None:
    light, dark = (throughput(study, Look(dark=dark)) for dark in (False, True))
    if light is not None and dark is not None:
        vega_chart.show(
            light, dark, name=f"throughput-{study.id}", alt=str(light["description"]),
            height=int(light["height"]) + FRAME,
        )  # fmt: skip


def _figures(study: Study) -> None:
    if study.asked.kind == OPTIONS:
        if study.arms:
            st.html(figure_table.html(words.ARM_COLUMNS, words.arm_rows(study)))
        return
    for shape in study.asked.shapes:
        if rows := words.slot_rows(study, shape):
            st.html(f'<h3 class="lp-part">{escape(shape.told)}</h3>')
            st.html(figure_table.html(words.SLOT_COLUMNS, rows))
    if study.batches:
        st.html('<h3 class="lp-part">Batches at the knee</h3>')
        st.html(figure_table.html(words.BATCH_COLUMNS, words.batch_rows(study)))


def _method(study: Study) -> None:
    told = words.METHODS[study.asked.kind]
    there = study.environment
    rows = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>"
        for name, value in (("Machine", there.machine), ("Server", there.server), ("Loupe", there.loupe),
                            ("In force then", study.asked.base.told))
    )  # fmt: skip
    st.html(
        f'<details class="lp-method"><summary>How this was measured, and on what</summary><p>{escape(told)}</p>'
        f"<dl>{rows}</dl></details>"
    )
