"""The advisor asked about a scorecard: what was measured goes in, what was refused does not."""

from __future__ import annotations

from dataclasses import replace

from app.comparison.advice import candidate, recommend, smaller_models
from app.comparison.results import Estimate, Finding, Separation, Severity
from app.models.advisor import Wish
from app.models.catalog import CatalogFamily, CatalogVariant, CatalogView
from tests.unit.comparison.cards import MIB, card


def test_the_scorecards_own_figures_are_what_is_judged():
    made = card()
    q4 = candidate(made.variants[4])
    assert (q4.name, q4.label, q4.kld, q4.decode) == (
        made.variants[4].name, "Q4_K_M", made.variants[4].quality.kld, made.variants[4].speed.decode_tps,
    )  # fmt: skip
    assert q4.margin == 6 * MIB, "the host took more than was predicted"
    unseen = replace(made.variants[4], memory=replace(made.variants[4].memory, measured=None))
    assert candidate(unseen).margin == 20 * MIB, "nobody measured: the prediction's own error"
    half = replace(made.variants[4], memory=replace(made.variants[4].memory, on_gpu=10 * MIB))
    assert candidate(half).partial and not q4.partial


def test_what_the_guard_refused_is_not_recommended():
    made = card()
    refused = Finding("stranger", Severity.REFUSED, "It is another model.", variants=(made.variants[1].name,))
    assert recommend(made, Wish(400 * MIB, 4096)).variant == made.variants[1].name
    assert recommend(replace(made, findings=(refused,)), Wish(400 * MIB, 4096)).variant == made.variants[0].name


def test_pairs_that_were_not_told_apart_are_ties():
    made = card()
    five, four = made.variants[3], made.variants[4]
    tie = tuple(
        replace(pair, separated=False) if {pair.a, pair.b} == {five.name, four.name} else pair
        for pair in made.separations
    )
    tight = Wish(240 * MIB, 4096)
    assert recommend(replace(made, separations=tie), tight).variant == four.name
    pair = Separation(five.name, four.name, Estimate(0.1, -0.1, 0.3), separated=False)
    assert recommend(replace(made, separations=(pair,)), Wish(250 * MIB, 4096)).tied == (five.name,)


def view(**changes) -> CatalogView:
    variant = CatalogVariant("tiny:1m-q8_0", "Q8_0", "d", 10 * MIB, 8.5, capabilities=("completion",))
    family = CatalogFamily("k", "tiny", "", "10M", 2048, (replace(variant, **changes),))
    return CatalogView(families=(family,))


def test_a_smaller_family_at_hand_is_what_to_fall_back_on():
    (found,) = smaller_models(view(), card())
    assert (found.name, found.label, found.margin) == ("tiny:1m-q8_0", "Q8_0", 64 * MIB)
    tight = Wish(100 * MIB, 4096)
    assert recommend(card(), tight).variant == recommend(card(), tight).instead == ""
    answer = recommend(card(), replace(tight, smaller=(found,)))
    assert (answer.variant, answer.instead) == ("", found.name) and found.name in answer.sentence


def test_what_is_no_smaller_chat_model_is_no_fallback():
    made = card()
    for changes in (
        {"size": 400 * MIB}, {"bpw": None}, {"remote": True}, {"state": "making"}, {"capabilities": ("embedding",)},
        {"name": made.variants[1].name},
    ):  # fmt: skip
        assert smaller_models(view(**changes), made) == ()
