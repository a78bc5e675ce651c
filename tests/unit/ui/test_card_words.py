"""What the scorecard view says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.models.wishes import Use
from app.services.jobs import JobState, JobView
from app.ui import card_advice, card_table
from app.ui import card_run_words as run_words
from app.ui import card_words as words
from tests.ui import scorecards
from tests.ui.fake_services import qwen, smollm2


def test_families_with_two_variants_at_hand_can_be_compared() -> None:
    alone = replace(smollm2(), key="alone", variants=smollm2().variants[:1])
    half = smollm2(**{name: {"state": "making"} for name in ("q8_0", "q6_K", "q5_K_M", "q4_K_M", "q3_K_M", "q4_0")})
    found = run_words.choices((alone, half, qwen()))
    assert [len(choice.variants) for choice in found] == [2, 2]
    assert run_words.best_reference(found[1].variants).label == "Q8_0"


def test_prompts_are_paragraphs_and_lines_where_there_is_only_one() -> None:
    assert run_words.own_prompts("one\ntwo\nthree") == ("one", "two", "three")
    assert run_words.own_prompts("one\nand more\n\ntwo\n\n\n") == ("one\nand more", "two")
    assert run_words.own_prompts("  \n") == ()


def test_a_run_says_how_far_each_variant_is() -> None:
    steps = run_words.steps(scorecards.running())
    assert [(step.label, step.state) for step in steps] == [
        ("F16", "done"), ("Q8_0", "done"), ("Q4_K_M", "now"), ("Q2_K", "left"),
    ]  # fmt: skip
    assert steps[2].told == "memory and speed"


@pytest.mark.parametrize(
    ("state", "job", "told"),
    [
        ("running", JobView("1", "compare", "", "", JobState.RUNNING, 0, detail="people go first"), "People go first"),
        ("paused", None, "Paused. It goes on where it was."),
        ("running", None, "Waiting for its turn."),
    ],
)
def test_a_run_says_why_it_stands_still(state: str, job: JobView | None, told: str) -> None:
    assert run_words.progress_told(replace(scorecards.running(), state=state), job).startswith(told)


def test_the_first_sentence_is_the_recommendation_and_says_so_where_there_is_none() -> None:
    card = scorecards.scorecard()
    assert words.headline(card.recommendation, card).startswith("Run Q6_K")
    assert "when there is something" in words.headline(None, scorecards.running())
    assert "ended before" in words.headline(None, replace(card, state="cancelled"))


def test_ties_runner_up_and_what_would_change_it_stand_below() -> None:
    card = scorecards.scorecard()
    assert card.recommendation is not None
    tied = replace(card.recommendation, tied=(f"{scorecards.STEM}q8_0",))
    told = words.advice_lines(tied, card_table.labels(card))
    assert told[0] == "Cannot be told apart from it in quality: Q8_0."
    assert not any("Runner-up" in line for line in told)  # it is the tied one
    assert "Runner-up: Q8_0." in words.advice_lines(card.recommendation, card_table.labels(card))
    assert told[-1] == "From 55 tok/s on, Q4_K_M."


def test_pairs_that_were_not_separated_are_named_and_the_control_is_told() -> None:
    card = scorecards.scorecard()
    assert words.separation_line(card, card_table.labels(card)) == (
        "Cannot be told apart by their divergence: Q4_K_M and Q5_K_M."
    )
    apart = scorecards.scorecard("fp16", "q8_0", "q2_K")
    assert words.separation_line(apart, card_table.labels(apart)).startswith("Every two")
    assert "the reference against itself: exactly 0" in words.quality_line(card)


def test_the_text_with_the_largest_divergence_comes_first() -> None:
    mild = tuple(replace(row, text_id="mild", kld=0.001) for row in scorecards.token_rows())
    ordered = words.by_text((*mild, *reversed(scorecards.token_rows("wild"))))
    assert list(ordered) == ["wild", "mild"]
    assert [row.offset for row in ordered["wild"]] == sorted(row.offset for row in ordered["wild"])
    asked = scorecards.TEXTS[1]
    assert words.text_line(asked, ordered["wild"]).endswith(" nats · Describe the sky in one sentence. (writing)")
    assert words.text_line(None, ordered["wild"]).endswith("because air scatters short waves of ligh…")


def test_sliders_reach_from_too_little_to_all_that_the_machine_has() -> None:
    card = scorecards.scorecard()
    choices = card_advice.choices_of(card)
    assert choices.budgets[0] <= min(variant.size for variant in card.variants)
    assert choices.budget == card_advice.machine_budget(card)
    assert list(choices.budgets) == sorted(set(choices.budgets))
    silent = replace(card, environment=replace(card.environment, facts={}))
    assert card_advice.choices_of(silent).budget >= 2 * max(variant.size for variant in card.variants)


def test_the_sliders_hold_for_the_cache_type_of_the_card() -> None:
    card = scorecards.scorecard()
    kept = replace(card, environment=replace(card.environment, facts={"kv_type": "q8_0"}))
    assert (card_advice.first_wish(card).kv_type, card_advice.first_wish(kept).kv_type) == ("f16", "q8_0")


def test_each_use_has_its_least_speed() -> None:
    assert [card_advice.least_speed(use) for use in (Use.CHAT, Use.CODE, Use.EXTRACTION)] == [8, 20, 4]


def test_the_time_is_that_of_the_last_one_of_its_depth_else_it_follows_from_the_sizes() -> None:
    card = scorecards.scorecard("fp16", "q8_0", "q4_K_M", "q2_K")
    assert run_words.seconds_for("quick", (1, 1), (card,)) == 2 * 112.4 / 4
    small, large = (run_words.seconds_for("quick", (size,) * 2, ()) for size in (2**27, 2**33))
    assert 40 < small < 60 and 200 < large < 400
    assert run_words.seconds_for("deep", (2**27,), (card,)) > 300
    assert "About 2 min" in run_words.how_long("quick", 118)


def test_what_it_was_measured_on_is_told_once() -> None:
    card = scorecards.scorecard()
    facts = {"cores": "2 cores", "memory_budget": 3_250_000_000, "embedded": True}
    told = dict(words.environment_lines(replace(card, environment=replace(card.environment, facts=facts))))
    assert told["Machine"] == card.environment.machine
    assert "Cores" not in told  # the machine's line says it
    assert told["Memory for a model"] == "3.03 GiB at the beginning"
    assert told["Embedded"] == "yes"


def test_a_run_calls_variants_by_their_labels_and_marks_the_one_it_is_at() -> None:
    card = scorecards.running()
    job = JobView(
        "1", "scorecard", "", "", JobState.RUNNING, 0, detail=f"{scorecards.STEM}q2_K: loading (step 4 of 12)"
    )
    assert run_words.progress_told(card, job) == "Q2_K: loading (step 4 of 12)"
    assert [step.state for step in run_words.steps(card, job)] == ["done", "done", "now", "now"]


def test_a_note_that_holds_for_all_is_said_once_and_explains_no_missing_figure() -> None:
    energy = "energy is not measurable here"
    card = scorecards.scorecard("fp16", "q8_0")
    card = replace(card, variants=tuple(replace(each, notes=(energy,), quality=None) for each in card.variants))
    assert words.notes_of(card, card_table.labels(card)) == (("", "Energy is not measurable here."),)
    assert words.why_unknown(card, card.variants[1], "quality") == "Not measured here."
    one = replace(card, variants=(card.variants[0], replace(card.variants[1], notes=(energy, "it was too slow"))))
    assert words.notes_of(one, card_table.labels(one))[0] == ("Q8_0", "It was too slow.")
