"""From rows to figures: what is counted, what is lost, and what is said of it."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest

from app.comparison import quality as quality_module
from app.comparison.divergence import Position
from app.comparison.forcing import RowState, TextRows
from app.comparison.quality import findings, floor, quality, separations, token_rows
from app.comparison.results import Alternative, ProbeText

DOMAINS = ("prose", "code", "facts", "lists")
TEXTS = [ProbeText(f"{DOMAINS[i % 4]}-{i}", DOMAINS[i % 4], "?", "a" * 12, "p") for i in range(24)]


def softmax(logits):
    most = max(logits)
    weights = [math.exp(x - most) for x in logits]
    return [w / sum(weights) for w in weights]


def model(noise: float, seed: int = 0) -> list[TextRows]:
    """Rows of a model whose logits are the reference's with noise; every token of the texts is one `a`."""
    base, own = random.Random(1), random.Random(seed + 2)
    rows = []
    for text in TEXTS:
        places = []
        for at in range(len(text.answer)):
            logits = [base.gauss(0, 3) for _ in range(40)]
            probabilities = softmax([x + own.gauss(0, noise) for x in logits])
            names = ["a", *(f"t{i}" for i in range(1, 40))]
            order = sorted(range(40), key=lambda i: -probabilities[i])[:20]
            top = tuple(Alternative(names[i], math.log(probabilities[i])) for i in order)
            places.append(Position(at, "a", math.log(probabilities[0]), top))
        rows.append(TextRows(text.id, tuple(places), forced=14, prompt_tokens=20))
    return rows


REFERENCE = model(0.0)


def test_the_reference_beside_itself_is_zero_in_everything():
    found = quality(TEXTS, REFERENCE, REFERENCE, REFERENCE[:4])
    assert found is not None
    assert (found.kld.value, found.kld_bound.value, found.floor, found.lost) == (0.0, 0.0, 0.0, 0)
    assert (found.same_top.value, found.ppl_ratio.value, found.rms_delta_p) == (1.0, 1.0, 0.0)
    assert (found.tokens, found.texts) == (288, 24)


def test_more_noise_is_more_divergence_in_every_figure():
    near, far = (quality(TEXTS, REFERENCE, model(noise), REFERENCE[:4]) for noise in (0.1, 0.8))
    assert near is not None and far is not None
    assert near.kld_bound.high is not None and far.kld_bound.low is not None
    assert near.kld_bound.high < far.kld_bound.low
    assert near.same_top.value > far.same_top.value
    assert (near.rms_delta_p or 0) < (far.rms_delta_p or 0)
    assert near.first_difference is not None and far.first_difference is not None
    assert near.first_difference.value > far.first_difference.value
    assert set(near.domains) == set(DOMAINS)
    assert near.kld.value >= near.kld_bound.value


def test_the_estimate_has_the_bounds_interval_stretched_to_it():
    found = quality(TEXTS, REFERENCE, model(0.5), REFERENCE[:4])
    assert found is not None and found.kld.low is not None and found.kld_bound.low is not None
    assert found.kld.low / found.kld.value == pytest.approx(found.kld_bound.low / found.kld_bound.value)


def test_variants_are_told_apart_pairwise_and_equals_are_not():
    rows = {"a": model(0.3, seed=5), "b": model(0.3, seed=6), "c": model(0.9, seed=7)}
    found = {(one.a, one.b): one for one in separations(TEXTS, REFERENCE, rows)}
    assert not found["a", "b"].separated
    assert found["a", "c"].separated and found["b", "c"].separated
    assert found["a", "c"].log_ratio.value > 0


def test_a_variant_that_is_the_reference_is_separated_from_none_and_breaks_nothing():
    (one,) = separations(TEXTS, REFERENCE, {"same": REFERENCE, "c": model(0.9)})
    assert (one.separated, one.log_ratio.n) == (False, 0)


def test_missing_lists_are_lost_and_do_not_count_as_agreement():
    empty = [
        replace(rows, positions=tuple(replace(p, top=(), logprob=0.0) for p in rows.positions)) for rows in REFERENCE
    ]
    half = [*model(0.5)[:12], *empty[12:]]
    found = quality(TEXTS, REFERENCE, half, REFERENCE[:4])
    assert found is not None and (found.tokens, found.lost, found.texts) == (144, 144, 12)
    assert found.same_top.value < 1
    assert quality(TEXTS, REFERENCE, empty, REFERENCE[:4]) is None


def test_a_text_that_was_not_forced_is_lost_as_a_whole():
    rows = [replace(REFERENCE[0], state=RowState.OTHER_TEXT), *model(0.5)[1:]]
    found = quality(TEXTS, REFERENCE, rows, REFERENCE[:4])
    assert found is not None and (found.lost, found.texts) == (12, 23)


def test_only_texts_that_are_there_are_compared():
    found = quality(TEXTS, REFERENCE, model(0.5)[:3], ())
    assert found is not None and (found.texts, found.lost, found.floor) == (3, 0, 0.0)


def test_the_floor_is_what_the_reference_differs_from_itself():
    assert floor(TEXTS, REFERENCE, model(0.05)[:4]) > 0


def test_the_strip_has_a_row_a_token_with_both_lists():
    rows = token_rows(TEXTS, REFERENCE, model(0.5))
    assert len(rows) == 288 and len(rows[0].reference_top) == len(rows[0].variant_top) == 20
    assert [row.offset for row in rows[:12]] == list(range(12)) and rows[0].text_id == TEXTS[0].id


def codes(*arguments, **named):
    return [found.code for found in findings(*arguments, **named)]


def test_findings_name_what_went_wrong():
    rows = model(0.5)
    measured = quality(TEXTS, REFERENCE, rows, REFERENCE[:4])
    assert codes("v", rows, measured, bits=4.5, reference_bits=16.0) == []
    assert codes("v", [replace(one, state=RowState.NO_LOGPROBS) for one in rows], None) == ["no-logprobs"]
    broken = [replace(rows[0], state=RowState.DEGENERATE), replace(rows[1], state=RowState.OTHER_TEXT), *rows[2:]]
    assert codes("v", broken, measured) == ["degenerate-output", "text-not-forced"]


def test_a_stranger_is_told_by_its_likeliest_tokens_but_not_below_four_bits():
    rows = model(30.0)
    measured = quality(TEXTS, REFERENCE, rows, REFERENCE[:4])
    assert measured is not None and measured.same_top.value < quality_module.STRANGER
    assert codes("v", rows, measured, bits=8.5, reference_bits=16.0) == ["not-the-same-model"]
    assert codes("v", rows, measured, bits=2.6, reference_bits=16.0) == []
    assert codes("v", rows, measured) == []


def test_what_is_below_the_noise_of_the_machine_is_said():
    rows = model(0.5)
    measured = quality(TEXTS, REFERENCE, rows, model(0.4)[:4])
    assert "below-noise-floor" in codes("v", rows, measured)


def test_lost_positions_are_said_where_they_are_many():
    for kept, said in ((11, []), (9, ["positions-lost"])):
        rows = [replace(one, positions=one.positions[:kept]) for one in model(0.5)]
        assert codes("v", rows, quality(TEXTS, REFERENCE, rows, ())) == said
