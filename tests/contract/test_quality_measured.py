"""Quality on the embedded runtime with the starter family, in its short form: A/A, order, and the whole vocabulary.

The long form, with five variants, thirds of the questions and more texts, is `python -m benchmarks.quality`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from app.comparison import probes
from app.comparison.divergence import compare
from app.comparison.forcing import RowState, TextRows
from app.comparison.probes import Plan
from app.comparison.quality import floor, quality, separations, token_rows
from app.comparison.question_set import read_set
from app.comparison.results import ProbeText
from app.comparison.task_bank import TaskKind, make_tasks
from app.comparison.tasks import TaskOutcome, run_tasks, task_scores
from tests.full_vocabulary import WholePosition, divergences, whole_texts
from tests.measuring import HttpBench
from tests.runtime_process import ROOT, runtime
from tests.starter_cache import linked_store, variant_gguf

pytestmark = [pytest.mark.model, pytest.mark.xdist_group("quality"), pytest.mark.timeout(300)]

FAMILY = "smollm2:135m-instruct-"
REFERENCE = f"{FAMILY}fp16"
VARIANTS = ("q8_0", "q4_0", "q2_K")
PLAN = Plan(8, 10)
TRUE_TEXTS = 1  # a token's whole vocabulary is 4 MB of JSON
TASKS = make_tasks(1, choices=3, sums=1, instructions=1)
PROSE = "Heavy rain drowned seventeen wandering zebras near Vladivostok"
STANDARD = read_set(ROOT / "prompts" / "compare" / "standard.md")


@dataclass(frozen=True)
class Measured:
    texts: list[ProbeText]
    reference: list[TextRows]
    control: list[TextRows]
    variants: dict[str, list[TextRows]]
    pangrams: set[int]
    tasks: dict[str, list[TaskOutcome]]
    prose: TextRows


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Measured]:
    folder = tmp_path_factory.mktemp("quality")
    linked_store(folder / "store", ("fp16", *VARIANTS))
    with runtime(folder / "store", folder / "log") as server:
        yield asyncio.run(measure_all(HttpBench(server.url)))


async def measure_all(bench: HttpBench) -> Measured:
    pairs = [pair async for pair in probes.answered(bench, REFERENCE, STANDARD.questions, PLAN)]
    texts = [text for text, _ in pairs]
    control = [row async for row in probes.measure(bench, REFERENCE, texts)]
    tasks = {REFERENCE: [one async for one in run_tasks(bench, REFERENCE, TASKS)]}
    pangrams, variants = {await probes.pangram_tokens(bench, REFERENCE)}, {}
    for name in VARIANTS:
        variants[name] = [row async for row in probes.measure(bench, FAMILY + name, texts)]
        pangrams.add(await probes.pangram_tokens(bench, FAMILY + name))
    tasks[name] = [one async for one in run_tasks(bench, FAMILY + name, TASKS)]
    prose = [row async for row in probes.measure(bench, FAMILY + name, [replace(texts[0], answer=PROSE)])][0]
    return Measured(texts, [rows for _, rows in pairs], control, variants, pangrams, tasks, prose)


def test_the_reference_answers_in_sentences_of_several_kinds(measured):
    assert len(measured.texts) == PLAN.texts and len({text.domain for text in measured.texts}) >= 5
    assert all(text.prompt.endswith("<|im_start|>assistant\n") for text in measured.texts)


def test_forcing_its_own_answers_on_the_reference_gives_exactly_the_rows_that_came_with_them(measured):
    """The A/A control over every text: the same tokens, the same probabilities to the last digit, no divergence."""
    assert [rows.positions for rows in measured.control] == [rows.positions for rows in measured.reference]
    assert {rows.state for rows in measured.control} == {RowState.OK}
    assert floor(measured.texts, measured.reference, measured.control) == 0.0


def test_counts_and_texts_are_what_the_host_says(measured):
    for rows in (*measured.control, *(one for some in measured.variants.values() for one in some)):
        assert rows.state is RowState.OK and rows.prompt_tokens > 5
        assert 0 <= rows.forced - len(rows.positions) <= 3  # both quotes, and where a host counts it the end
        assert all(len(position.top) == 20 for position in rows.positions)
    assert len(measured.pangrams) == 1


def test_the_ladder_is_in_order_and_what_is_far_apart_is_separated(measured):
    figures = {
        name: quality(measured.texts, measured.reference, rows, measured.control)
        for name, rows in measured.variants.items()
    }
    bounds = [figures[name].kld_bound.value for name in ("q8_0", "q4_0", "q2_K")]
    assert 0 < bounds[0] < min(bounds[1:]) and figures["q8_0"].same_top.value > figures["q2_K"].same_top.value
    assert bounds[0] < 0.02 < 0.1 < bounds[1]
    found = {(one.a, one.b): one for one in separations(measured.texts, measured.reference, measured.variants)}
    assert found["q8_0", "q4_0"].separated and found["q8_0", "q2_K"].separated


def test_the_strip_tells_every_compared_token(measured):
    rows = measured.variants["q4_0"]
    found = quality(measured.texts, measured.reference, rows, measured.control)
    strip = token_rows(measured.texts, measured.reference, rows)
    assert len(strip) == found.tokens
    assert sum(row.kld for row in strip) / len(strip) == pytest.approx(found.kld_bound.value)


def test_prose_that_is_not_the_models_own_comes_in_fragments(measured):
    """Why only the reference's own answers are forced: a host lets every beginning of the text through."""
    rows = measured.prose
    assert rows.state is RowState.OK and len(rows.positions) > 2 * len(PROSE.split())
    assert sum(p.logprob for p in rows.positions) / len(rows.positions) < -3


@pytest.fixture(scope="module")
def truth(measured) -> dict[str, dict[str, list[WholePosition]]]:
    return {tag: whole_texts(variant_gguf(tag), measured.texts[:TRUE_TEXTS]) for tag in ("fp16", "q4_0")}


def test_the_bound_is_never_above_the_whole_vocabulary_and_the_estimate_is_near_it(measured, truth):
    full = divergences(truth["fp16"], truth["q4_0"])
    strip = token_rows(measured.texts, measured.reference, measured.variants["q4_0"])
    told = {(row.text_id, row.offset): row.kld for row in strip}
    both = sorted(set(full) & set(told))
    assert len(both) >= 5
    assert all(told[place] <= full[place] + 1e-5 for place in both)
    found = quality(measured.texts[:TRUE_TEXTS], measured.reference, measured.variants["q4_0"], ())
    true = sum(full[place] for place in both) / len(both)
    assert 0.6 * true < found.kld_bound.value <= true and found.kld.value == pytest.approx(true, rel=0.3)


def test_the_runtime_tells_what_the_worker_tells(measured, truth):
    """The contexts of both are the same: so are the tokens and the lists."""
    rows = {one.text_id: one for one in measured.variants["q4_0"]}
    for text, whole in truth["q4_0"].items():
        assert [one.position.token for one in whole] == [one.token for one in rows[text].positions]
        for one, told in zip(whole, rows[text].positions, strict=True):
            found = compare(one.position, told)
            assert found is not None and found.bound < 1e-3


def test_tasks_run_on_a_real_model(measured):
    first, last = list(measured.tasks.values())
    assert len(first) == len(last) == 5
    choices = [one for one in first if one.task_id.startswith("multiple")]
    assert all(one.answer in ("A", "B", "C", "D") and 0 < one.credit < 1 for one in choices)
    scores = task_scores(TASKS, first, {"v": last})["v"]
    assert [score.kind for score in scores] == [kind.value for kind in TaskKind]
