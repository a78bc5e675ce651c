"""Every trap as a finding, from what a host would tell; and nothing where there is nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from app.comparison import validity, validity_after
from app.comparison.progress import Measured, Progress
from app.comparison.results import Estimate, Scorecard, Severity, Speed
from app.comparison.speed import SpeedSamples
from app.comparison.subjects import Subject
from app.core.generation import Json
from app.core.hosts import ModelDetail, TensorInfo
from app.models.families import facts_of
from tests.fakes import model_info
from tests.unit.comparison import cards

NOW = ("0.33.0", "")
INFO: Mapping[str, Json] = {
    "general.architecture": "llama", "general.parameter_count": 1000, "general.finetune": "Instruct",
    "general.basename": "m", "llama.block_count": 2, "llama.embedding_length": 256, "tokenizer.ggml.model": "gpt2",
    "tokenizer.ggml.pre": "smollm",
}  # fmt: skip


def subject(
    name: str = "m:1b-instruct-q8_0", kind: str = "Q8_0", *, file_type: int = 7, digest: str = "", **more: Json
) -> Subject:
    layer = TensorInfo("blk.0.ffn_down.weight", kind, (256, 256))
    tensors = (layer, TensorInfo("token_embd.weight", kind, (256, 4096)))
    detail = ModelDetail({**INFO, "general.file_type": file_type, **more}, template="{{ .Prompt }}", tensors=tensors)
    info = model_info(name, digest or name)
    return Subject((name,), info, detail, facts_of(info, detail))


REF = subject("m:1b-instruct-fp16", "F16", file_type=1)


def codes(*others: Subject, server: tuple[str, str] = NOW, ref: Subject = REF) -> dict[str, Severity]:
    return {finding.code: finding.severity for finding in validity.before([ref, *others], 0, server)}


def test_nothing_is_said_of_honest_variants() -> None:
    assert codes(subject(), subject("m:1b-instruct-q4_0", "Q4_0", file_type=2)) == {}


def test_a_name_that_lies_about_its_content_is_caught_by_the_tensors_also_where_the_file_type_agrees() -> None:
    assert codes(subject("m:1b-instruct-q4_0", "Q8_0")) == {"label-lies": Severity.MISLEADING}
    assert codes(subject("m:1b-instruct-q4_0", "Q8_0", file_type=2)) == {"label-lies": Severity.MISLEADING}
    told = validity.before([REF, subject("m:1b-instruct-q4_0", "Q8_0")], 0, NOW)[0]
    assert "8.50 bits" in told.text and "Q8_0" in told.text and told.advice


@pytest.mark.parametrize("name", ["m:1b-instruct", "m:latest"])
def test_a_name_without_a_level_cannot_lie(name: str) -> None:
    assert "label-lies" not in codes(subject(name, "Q8_0"))


def test_two_names_of_one_file_are_one() -> None:
    twice = replace(subject(), names=("m:1b-instruct-q8_0", "m:latest"))
    assert codes(twice) == {"same-file": Severity.NOTE}


def test_another_template_is_said_and_white_space_is_none() -> None:
    other = subject()
    assert codes(replace(other, detail=replace(other.detail, template="Q: {{ .Prompt }}"))) == {
        "other-template": Severity.MISLEADING
    }
    assert codes(replace(other, detail=replace(other.detail, template="{{ .Prompt }}\n"))) == {}


def test_another_tokenizer_is_refused_and_its_quality_withheld() -> None:
    other = subject(**{"tokenizer.ggml.pre": "llama-bpe"})
    assert codes(other) == {"other-tokenizer": Severity.REFUSED}
    assert validity.withheld([REF, other], 0, Progress(), NOW) == {other.digest}


def test_a_tokenizer_that_only_counts_differently_is_found_once_models_are_loaded() -> None:
    other = subject()
    progress = Progress(variants={REF.digest: Measured(pangram=38), other.digest: Measured(pangram=41)})
    assert [one.code for one in validity.loaded([REF, other], 0, progress, {})] == ["other-tokenizer"]
    assert validity.withheld([REF, other], 0, progress, NOW) == {other.digest}


def test_qat_beside_non_qat_is_refused_either_way_round() -> None:
    qat = subject("m:1b-it-qat-q4_0", "Q4_0", file_type=2)
    assert codes(qat)["qat"] is Severity.REFUSED
    assert codes(subject(), ref=qat)["qat"] is Severity.REFUSED
    assert validity.withheld([REF, qat], 0, Progress(), NOW) == {qat.digest}
    trained = subject("m:1b-it-qat-fp16", "F16", file_type=1)
    assert "qat" not in codes(qat, ref=trained)


def test_base_and_instruct_and_strangers_of_the_same_shape_are_other_weights() -> None:
    base = subject("m:1b-text-q8_0", **{"general.finetune": "base"})
    assert codes(base) == {"base-and-instruct": Severity.MISLEADING}
    assert codes(subject(**{"general.finetune": "roleplay"})) == {"stranger": Severity.MISLEADING}
    assert codes(subject(**{"general.parameter_count": 2000})) == {"other-model": Severity.MISLEADING}


def test_importance_matrices_drafts_and_a_quantized_reference_are_worth_a_note() -> None:
    assert codes(subject(**{"quantize.imatrix.file": "c.dat"})) == {"imatrix": Severity.NOTE}
    assert codes(subject(**{"llama.nextn_predict_layers": 1})) == {"drafts-off": Severity.NOTE}
    assert codes(subject("m:1b-instruct-q4_0", "Q4_0", file_type=2), ref=subject()) == {
        "reference-quantized": Severity.NOTE
    }


@pytest.mark.parametrize(
    ("version", "old"), [("0.12.10", True), ("0.12.11", False), ("0.9.0", True), ("", False), ("0.0.0", False)]
)
def test_a_server_from_before_logprobs_measures_speed_only(version: str, old: bool) -> None:
    assert validity.too_old((version, "")) is old
    assert codes(subject(), server=(version, "")) == ({"server-too-old": Severity.REFUSED} if old else {})
    assert bool(validity.withheld([REF, subject()], 0, Progress(), (version, ""))) is old


def test_partial_offload_and_a_context_that_was_cut_down_are_said() -> None:
    other = subject()

    def loaded(measured: Measured) -> list[str]:
        progress = Progress(variants={other.digest: measured})
        return [one.code for one in validity.loaded([REF, other], 0, progress, {"num_ctx": 4096})]

    assert loaded(Measured(context=4096, size=100, on_gpu=0)) == []
    assert loaded(Measured(context=4096, size=100, on_gpu=100)) == []
    assert loaded(Measured(context=4096, size=100, on_gpu=60)) == ["partial-offload"]
    assert loaded(Measured(context=2048, size=100, on_gpu=0)) == ["context-reduced"]


# -- figures --------------------------------------------------------------------------------------------------------


def after(card: Scorecard, **samples: SpeedSamples) -> set[str]:
    names = {variant.name: variant.digest for variant in card.variants}
    variants = {names.get(name, name): Measured(one) for name, one in samples.items()}
    return {one.code for one in validity_after.after(card, Progress(variants=variants))}


def steady(first: float, last: float, spread: float = 0.01) -> SpeedSamples:
    return SpeedSamples(decodes=[[speed, speed * (1 + spread)] for speed in (first, last)])


def of_all(card: Scorecard, make: SpeedSamples) -> set[str]:
    variants = {variant.digest: Measured(make) for variant in card.variants}
    return {one.code for one in validity_after.after(card, Progress(variants=variants))}


def test_a_steady_machine_is_not_blamed() -> None:
    assert of_all(cards.card(), steady(50, 49)) == set()


def test_a_machine_that_slows_down_is_said_to_and_one_that_is_busy_is_not_taken_for_it() -> None:
    assert of_all(cards.card(), steady(50, 40)) == {"thermal-drift"}
    assert of_all(cards.card(), steady(50, 40, spread=0.5)) == {"busy-machine"}
    assert of_all(cards.card(), SpeedSamples(decodes=[[50, 50], [50, 50]], disturbed=1)) == {"busy-machine"}


def test_prompts_out_of_a_cache_are_said() -> None:
    assert "cached-prompts" in of_all(cards.card(), SpeedSamples(absurd=1))


def test_few_texts_and_a_host_that_does_not_repeat_itself_are_said() -> None:
    card = cards.card()

    def with_quality(**changes: float) -> Scorecard:
        variants = [
            replace(one, quality=replace(one.quality, **changes)) if one.quality else one for one in card.variants
        ]
        return replace(card, state="done", variants=tuple(variants))

    assert after(with_quality(texts=6)) == {"few-texts"}
    assert after(with_quality(floor=0.01)) == {"not-repeatable"}


def test_a_speed_above_what_memory_can_give_is_said() -> None:
    card = cards.card()
    fast = card.variants[-1]
    speed = replace(fast.speed or Speed(), decode_tps=Estimate(1000.0, 990.0, 1010.0))
    quick = replace(card, variants=(*card.variants[:-1], replace(fast, speed=speed)))
    assert validity_after.faster_than_memory(card) == ()
    assert validity_after.faster_than_memory(quick) == (fast.name,)


def test_a_speed_above_the_limit_of_this_machine_s_memory_is_an_error_of_measuring() -> None:
    card = cards.card()
    speeds = [one.speed.decode_tps.value if one.speed and one.speed.decode_tps else 0.0 for one in card.variants]
    limits = [2 * speeds[0], speeds[1] / 2, *(None for _ in speeds[2:])]
    variants = [replace(one, decode_limit=limit) for one, limit in zip(card.variants, limits, strict=True)]
    limited = replace(card, variants=tuple(variants))
    assert validity_after.above_the_limit(card) == ()
    assert validity_after.above_the_limit(limited) == (card.variants[1].name,)
    assert not any(one.code == "faster-than-memory" for one in validity_after.after(limited, Progress()))
    told = [
        one for one in validity_after.after(limited, Progress(bandwidth_sure=True)) if one.code == "faster-than-memory"
    ]
    assert [one.variants for one in told] == [(card.variants[1].name,)] and "error of measuring" in told[0].text


def test_a_model_that_shares_no_word_has_no_distance_instead_of_none() -> None:
    quality = cards.card().variants[1].quality
    assert quality is not None and not validity_after.nothing_in_common(quality)
    assert validity_after.nothing_in_common(replace(quality, same_top=Estimate(0.02)))
    assert not validity_after.nothing_in_common(None)
    assert validity_after.broken("m").severity is Severity.REFUSED
