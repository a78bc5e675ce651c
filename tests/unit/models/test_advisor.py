"""What to run on this machine: memory, then speed, then quality, and a sentence that can be checked."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.measures import Estimate, MemoryPoint, Tier
from app.models.advisor import FLOORS, UNLIMITED, Candidate, Use, Wish, advise, memory_budget
from app.models.candidates import need, weigh
from app.models.published_ladders import QUALITIES, SPEEDS, WEIGHTS, decode_ratio, typical_quality, typical_speed
from app.models.tiers import measured_tier, rank, tier_of
from benchmarks import advice

GIB = 1 << 30


def near(value: float, share: float = 0.1) -> Estimate:
    return Estimate(value, value * (1 - share), value * (1 + share), 24)


def variant(label: str, gib: float, kld: float | None = None, same: float = 0.99, tps: float | None = 30.0, **changes):
    points = tuple(
        MemoryPoint(context, kind, round((gib + context / 8192 * width) * GIB))
        for kind, width in (("f16", 1.0), ("q8_0", 0.53))
        for context in (2048, 8192, 131072)
    )
    one = Candidate(
        name=f"m:8b-{label}", label=label, size=round(gib * GIB), memory=points,
        kld=None if kld is None else near(kld), same_top=None if kld is None else Estimate(same, same, same),
        decode=None if tps is None else near(tps, 0.02),
    )  # fmt: skip
    return replace(one, **changes)


F16 = variant("F16", 15.0, tps=10.0, reference=True)
Q8 = variant("Q8_0", 8.0, 0.002, 0.985, 18.0)
Q6 = variant("Q6_K", 6.1, 0.006, 0.96, 23.0)
Q5 = variant("Q5_K_M", 5.3, 0.012, 0.95, 26.0)
Q4 = variant("Q4_K_M", 4.6, 0.035, 0.92, 31.0)
Q2 = variant("Q2_K", 3.0, 0.4, 0.7, 40.0)
LADDER = (F16, Q8, Q6, Q5, Q4, Q2)
EVERY_PAIR = {frozenset((a.name, b.name)) for a in LADDER for b in LADDER if a is not b}


def ask(budget: float, candidates=LADDER, apart=EVERY_PAIR, smaller=(), **wish):
    return advise(candidates, Wish(round(budget * GIB), smaller=tuple(smaller), **wish), apart=apart)


@pytest.mark.parametrize(
    ("budget", "name", "binding"),
    [
        (20, "Q8_0", "nothing"),
        (9, "Q8_0", "nothing"),
        (8, "Q6_K", "memory"),
        (7, "Q5_K_M", "memory"),
        (6, "Q4_K_M", "memory"),
    ],
)
def test_the_closest_that_fits_is_taken_and_memory_is_named(budget, name, binding):
    answer = ask(budget)
    assert (answer.variant, answer.binding) == (f"m:8b-{name}", binding)


def test_of_the_near_lossless_the_smallest_is_taken_for_there_divergence_ranks_nothing():
    better_on_paper = variant("Q8_1", 9.0, 0.0001, 0.999, 17.0)
    answer = ask(30, (F16, better_on_paper, Q8))
    assert answer.variant == Q8.name
    assert set(answer.tied) == {F16.name, better_on_paper.name}
    assert "would be better by less than these figures can show" in answer.sentence


def test_a_faster_one_of_the_near_lossless_wins_over_a_smaller_one():
    fast = variant("F16", 15.0, tps=50.0, reference=True)
    assert ask(30, (fast, Q8)).variant == fast.name
    doubtful = replace(fast, decode=Estimate(19.0, 17.0, 21.0))
    assert ask(30, (doubtful, Q8)).variant == Q8.name


def test_what_is_not_shown_to_be_worse_than_near_lossless_is_preferred_to_the_larger_reference():
    """The share of a few hundred positions has an interval too wide for the best tier, whatever the variant."""
    quick = replace(Q8, kld=near(0.004, 0.2), same_top=Estimate(0.978, 0.963, 0.989))
    answer = ask(30, (F16, quick))
    assert (answer.variant, answer.tier, answer.tied) == (quick.name, Tier.VERY_CLOSE, (F16.name,))
    assert any("whether Q8_0 is near-lossless" in sentence for sentence in answer.change)
    worse = replace(quick, same_top=Estimate(0.96, 0.945, 0.972))
    assert ask(30, (F16, worse)).variant == F16.name


def test_what_could_not_be_told_apart_is_a_tie_and_the_smaller_one_is_taken():
    apart = EVERY_PAIR - {frozenset((Q6.name, Q5.name))}
    answer = ask(7.5, apart=apart)
    assert (answer.variant, answer.tied) == (Q5.name, (Q6.name,))
    assert "Q6_K cannot be told from it" in answer.sentence
    assert any("deep run" in sentence for sentence in answer.change)
    assert ask(7.5).variant == Q6.name


def test_where_pairs_were_not_compared_overlapping_intervals_are_a_tie():
    wide = replace(Q5, kld=Estimate(0.012, 0.005, 0.02))
    assert ask(7.5, (F16, Q6, wide), apart=None).variant == wide.name
    assert ask(7.5, (F16, Q6, Q5), apart=None).variant == Q6.name


def test_the_tier_is_that_of_the_worse_ends_of_the_intervals():
    assert measured_tier(Estimate(0.009, 0.007, 0.011), Estimate(0.99, 0.98, 0.995)) is Tier.VERY_CLOSE
    assert measured_tier(Estimate(0.009, 0.007, 0.0095), Estimate(0.98, 0.95, 0.99)) is Tier.VERY_CLOSE
    assert measured_tier(Estimate(0.009), Estimate(0.98)) is Tier.NEAR_LOSSLESS


@pytest.mark.parametrize(
    ("label", "llama2", "llama3"),
    [
        ("Q8_0", Tier.NEAR_LOSSLESS, Tier.NEAR_LOSSLESS), ("Q6_K", Tier.NEAR_LOSSLESS, Tier.VERY_CLOSE),
        ("Q4_K_M", Tier.VERY_CLOSE, Tier.CLOSE), ("Q2_K", Tier.NOTICEABLE, Tier.DEGRADED),
    ],
)  # fmt: skip
def test_the_limits_are_those_that_the_published_tables_were_cut_by(label, llama2, llama3):
    published = {
        "Q2_K": ((0.1089, 0.8558), (0.4451, 0.7114)), "Q4_K_M": ((0.0127, 0.9467), (0.0313, 0.9190)),
        "Q6_K": ((0.0021, 0.9752), (0.0055, 0.9603)), "Q8_0": ((0.00037, 0.9885), (0.0014, 0.9767)),
    }  # fmt: skip
    assert tuple(tier_of(*figures) for figures in published[label]) == (llama2, llama3)


def test_too_slow_is_judged_by_the_lower_end():
    assert ask(20, least_tps=17.7).variant == Q6.name  # Q8_0: 18.0 less 2 %
    answer = ask(20, least_tps=20)
    assert (answer.variant, answer.binding) == (Q6.name, "speed")
    assert "Q8_0 would be closer but answers slower than 20 tokens/s" in answer.sentence
    assert any(sentence.startswith("If 17.6 tokens/s are enough, run Q8_0") for sentence in answer.change)


def test_what_neither_fits_nor_is_fast_enough_is_not_blamed_on_memory_alone():
    answer = ask(7.5, least_tps=22)
    assert (answer.variant, answer.binding) == (Q6.name, "memory")
    assert "neither fits nor reaches 22 tokens/s" in answer.sentence
    assert not any("more memory" in sentence for sentence in answer.change)


def test_each_use_has_its_own_least_speed():
    assert [Wish(0, use=use).floor for use in Use] == [8.0, 20.0, 4.0]
    assert Wish(0, use=Use.CODE, least_tps=0.0).floor == 0.0
    assert ask(20, use=Use.CHAT).variant == Q8.name
    assert ask(20, use=Use.CODE).variant == Q6.name


def test_nothing_fast_enough_is_said_and_nothing_recommended():
    answer = ask(20, least_tps=100)
    assert (answer.variant, answer.binding, answer.runner_up) == ("", "speed", Q4.name)
    assert "fewer parameters" in answer.sentence


def test_a_degraded_one_is_not_recommended_though_it_fits():
    answer = ask(4.1, (F16, Q2), context=8192)
    assert (answer.variant, answer.binding, answer.runner_up) == ("", "quality", Q2.name)
    assert "degraded" in answer.sentence
    assert any("more memory" in sentence and "F16" in sentence for sentence in answer.change)


def test_a_smaller_model_that_is_close_is_named_instead():
    small = variant(
        "Q4_K_M", 2.0, name="m:3b-q4_K_M", license="LLAMA 3.2 COMMUNITY LICENSE AGREEMENT", bits_per_weight=4.9
    )
    answer = ask(4.1, (F16, Q2), smaller=(small,))
    assert (answer.variant, answer.instead) == ("", small.name)
    assert f"run {small.name}" in answer.sentence
    assert answer.license
    bad = replace(small, label="Q2_K", name="m:3b-q2_K", bits_per_weight=3.0)
    assert ask(4.1, (F16, Q2), smaller=(replace(bad, kld=None),)).instead == ""


def test_a_memory_that_nobody_knows_is_not_told_as_a_limit():
    answer = advise(LADDER, Wish(UNLIMITED), apart=EVERY_PAIR)
    assert answer.variant == Q8.name and "takes up to 9.0 GiB with 8,192" in answer.sentence


def test_how_large_a_model_would_fit_is_told_where_none_is_known():
    eight = tuple(replace(one, bits_per_weight=16.0) for one in (F16,))
    assert "billion parameters at Q4_K_M fit" in ask(4.1, (*eight, Q2)).sentence


def test_a_smaller_cache_and_then_a_shorter_context_are_tried_before_giving_up():
    cached = ask(5.2, (F16, Q4))
    assert (cached.variant, cached.kv_type, cached.context, cached.binding) == (Q4.name, "q8_0", 8192, "memory")
    assert "OLLAMA_KV_CACHE_TYPE=q8_0" in cached.sentence
    shorter = ask(5.2, (F16, Q4), context=32768)
    assert (shorter.variant, shorter.context, shorter.kv_type) == (Q4.name, 8192, "q8_0")
    assert "8,192 instead of 32,768 tokens" in shorter.sentence
    assert ask(4.6, (F16, Q4), context=32768).variant == ""


def test_what_would_change_the_answer_is_told_in_sentences():
    change = ask(8, context=16384).change
    text = " ".join(change)
    assert "more memory" in text
    assert "q8_0" in text
    assert "32,768 tokens of context" in text


def test_variants_that_were_not_measured_go_by_the_published_tables_and_say_so():
    unmeasured = tuple(replace(one, kld=None, same_top=None) for one in LADDER)
    answer = ask(7.5, unmeasured)
    assert (answer.variant, answer.typical) == (Q6.name, True)
    assert "typically very close" in answer.sentence
    assert "not measured here" in answer.sentence
    assert any("measure to be sure" in sentence for sentence in answer.change)
    assert not ask(7.5).typical


def test_the_published_figures_are_scaled_by_how_the_measured_siblings_did():
    worse = replace(Q6, kld=near(5 * 0.005452), same_top=Estimate(0.95))
    unmeasured = replace(Q4, kld=None, same_top=None)
    alone, beside = weigh((unmeasured,))[0], weigh((worse, unmeasured))[1]
    assert (alone.tier, beside.tier) == (Tier.CLOSE, Tier.DEGRADED)
    assert beside.kld is not None and beside.kld.value == pytest.approx(5 * 0.031273)
    luckier = replace(Q6, kld=near(0.001))
    assert weigh((luckier, unmeasured))[1].kld == alone.kld, "a model that loses less is not extrapolated"


def test_a_label_with_fewer_bits_than_it_should_have_is_not_believed():
    lying = replace(Q8, kld=None, same_top=None, bits_per_weight=3.1)
    assert weigh((lying,))[0].tier is Tier.DEGRADED
    strange = replace(lying, label="MXFP4", bits_per_weight=4.25)
    assert weigh((strange,))[0].tier is Tier.NOTICEABLE
    assert weigh((replace(strange, bits_per_weight=None),))[0].tier is None


def test_a_quality_that_nobody_knows_comes_after_everything_that_is_known_to_be_sound():
    unknown = replace(Q8, label="STRANGE", kld=None, same_top=None)
    assert ask(9, (unknown, Q4)).variant == Q4.name
    only = ask(9, (unknown,))
    assert only.variant == unknown.name
    assert "quality is not known" in only.sentence


def test_a_speed_that_was_not_measured_follows_from_one_that_was():
    unmeasured = replace(Q4, decode=None)
    found = weigh((Q8, unmeasured))[1]
    assert found.predicted and found.decode is not None and found.decode.low is not None
    ratio = decode_ratio("Q4_K_M", unmeasured.size, "Q8_0", Q8.size)
    assert ratio == pytest.approx(71.93 / 50.93, rel=0.02)
    assert found.decode.value == pytest.approx(18.0 * ratio)
    assert found.slowest == pytest.approx(0.75 * found.decode.value)
    assert "is predicted to answer" in ask(6, (Q8, unmeasured)).sentence


def test_without_any_speed_the_sentence_says_that_none_was_measured():
    assert "a speed that was not measured" in ask(20, (replace(Q8, decode=None),)).sentence


def test_a_licence_that_restricts_use_is_told():
    assert "no commercial use" in ask(20, (replace(Q8, license="CC-BY-NC-4.0"),)).license
    assert ask(20, (replace(Q8, license="Apache License\nVersion 2.0"),)).license == ""


def test_a_part_outside_the_gpu_is_told():
    assert "outside the GPU" in ask(20, (replace(Q8, partial=True),)).sentence


def test_nothing_to_choose_from_is_an_answer_too():
    answer = ask(8, ())
    assert (answer.variant, answer.binding) == ("", "memory")
    assert answer.sentence


def test_two_of_one_label_go_by_their_names():
    twin = replace(Q8, name="hf.co/x/m:Q8_0")
    assert "Run m:8b-Q8_0" in ask(20, (Q8, twin)).sentence or "Run hf.co/x/m:Q8_0" in ask(20, (Q8, twin)).sentence


@pytest.mark.parametrize(
    ("context", "kind", "gib"),
    [
        (8192, "f16", 9.0),
        (2048, "f16", 8.25),
        (5120, "f16", 8.625),
        (1024, "f16", 8.125),
        (262144, "f16", 40.0),
        (8192, "q8_0", 8.53),
    ],
)
def test_memory_between_and_beyond_the_predicted_contexts_lies_on_a_line(context, kind, gib):
    assert need(Q8, context, kind) == pytest.approx(gib * GIB, rel=1e-6)


def test_memory_for_a_cache_type_that_was_not_predicted_is_not_known():
    assert need(Q8, 8192, "q4_0") is None
    assert need(replace(Q8, memory=(), margin=5), 8192, "q4_0") == Q8.size + 5
    single = replace(Q8, memory=(MemoryPoint(8192, "f16", 7),))
    assert (need(single, 4096, "f16"), need(single, 16384, "f16")) == (7, None)


@pytest.mark.parametrize(
    ("free", "gpu", "budget"),
    [(16, None, 14), (64, None, 57.6), (1, None, 0), (64, 24, 23), (64, 0.5, 0), (64, 0, 57.6)],
)
def test_the_budget_leaves_room_for_everything_else(free, gpu, budget):
    found = memory_budget(round(free * GIB), None if gpu is None else round(gpu * GIB))
    assert found == pytest.approx(budget * GIB, abs=2)


@settings(max_examples=60)
@given(budget=st.floats(0.5, 40), context=st.sampled_from([2048, 4096, 8192, 32768, 131072]), least=st.floats(0, 60))
def test_what_is_recommended_fits_is_fast_enough_and_never_degraded(budget, context, least):
    answer = ask(budget, context=context, least_tps=least)
    if not answer.variant:
        assert answer.sentence and answer.binding != "nothing"
        return
    chosen = next(one for one in weigh(LADDER) if one.name == answer.variant)
    taken = need(chosen.candidate, answer.context or 0, answer.kv_type)
    assert taken is not None and taken <= budget * GIB + 1
    assert chosen.slowest is not None and chosen.slowest >= least
    assert chosen.tier is not Tier.DEGRADED
    assert answer.variant not in answer.tied and answer.runner_up != answer.variant


@settings(max_examples=40)
@given(budget=st.floats(4, 20), more=st.floats(0, 10), use=st.sampled_from(list(Use)))
def test_more_memory_never_makes_the_answer_worse(budget, more, use):
    less, extra = ask(budget, use=use), ask(budget + more, use=use)
    if less.tier is not None and extra.tier is not None:
        assert rank(extra.tier) <= rank(less.tier) or less.context != extra.context or less.kv_type != extra.kv_type


# --- the published ladders ---


def test_the_published_tables_are_whole():
    assert (len(SPEEDS), len(QUALITIES)) == (24, 34)
    assert all(typical_quality(row.label) is not None for row in SPEEDS)
    q4 = typical_speed("q4_K_M")
    assert q4 is not None and q4.bandwidth / 1e9 == pytest.approx(354, abs=1)
    assert [round(row.bandwidth / 1e9) for row in SPEEDS if row.label in ("IQ1_S", "Q3_K_M", "Q8_0", "F16")] == [
        160,
        288,
        435,
        469,
    ]
    for row in QUALITIES:
        assert row.kld > 0 and (row.kld < 0.001) == (row.label == "F16")


def test_the_published_bits_are_those_of_the_published_sizes():
    for row in SPEEDS:
        assert row.gib * GIB * 8 / WEIGHTS == pytest.approx(row.bits, rel=0.01)


def test_a_label_that_is_not_published_goes_by_its_neighbour():
    assert typical_quality("UD-Q4_K_XL") == typical_quality("Q4_K_M")
    assert typical_quality("Q4_K_M", calibrated=True) != typical_quality("Q4_K_M")
    assert typical_quality("no such") is None


LADDERS = {"gpu": advice.ladder(), "laptop": advice.ladder(advice.LAPTOP_BANDWIDTH)}


@pytest.mark.parametrize("machine", LADDERS)
@pytest.mark.parametrize("use", Use)
def test_each_replayed_answer_is_defended_by_what_binds_it(machine, use):
    candidates = LADDERS[machine]
    for (budget, context), answer in advice.answers(candidates, use).items():
        where = (machine, use, budget, context)
        asked = Wish(budget * GIB, context, use)
        roomy, slow = replace(asked, budget=1 << 62), replace(asked, least_tps=0.0)
        assert not answer.variant.endswith(("Q2_K", "Q2_K_S", "Q3_K_S")), where
        assert answer.typical or not answer.variant, where
        if answer.variant:
            chosen = next(one for one in candidates if one.name == answer.variant)
            taken = need(chosen, answer.context or 0, answer.kv_type)
            assert taken is not None and taken <= asked.budget, where
            assert chosen.decode is not None and (chosen.decode.low or 0) >= FLOORS[use], where
        if answer.binding == "nothing":
            assert advise(candidates, replace(roomy, least_tps=0.0)).variant == answer.variant, where
        elif answer.binding == "speed":
            assert advise(candidates, slow).variant != answer.variant, where
        elif answer.variant:  # memory
            assert advise(candidates, replace(roomy, least_tps=0.0)).variant != answer.variant, where


def test_the_page_of_replays_is_what_the_advisor_says_now():
    assert advice.PAGE.read_text(encoding="utf-8") == advice.page(), "run: python -m benchmarks.advice"
