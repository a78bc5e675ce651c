"""Which models belong together, and which must not be merged although they look alike."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from app.core.hosts import ModelDetail, ModelDetails, ModelInfo, TensorInfo
from app.models.families import Structure, VariantFacts, facts_of, group, label_of
from tests.recordings import recording

THREE_B = Structure("llama", 3_212_749_888, 28, 3072, 128_256, 8)
INSTRUCT = ("Instruct", "Llama-3.2", "3B", "")


def variant(name: str, bits: float | None = None, **changes) -> VariantFacts:
    facts = VariantFacts(name, f"digest of {name}", 1000, THREE_B, INSTRUCT, bits_per_weight=bits)
    return replace(facts, **changes)


def names(families) -> list[list[str]]:
    return [[one.name for one in family.variants] for family in families]


def test_variants_of_one_model_are_one_family_from_most_bits_to_fewest():
    tags = [("q2_K", 3.2), ("fp16", 16.0), ("q4_K_M", 4.9), ("q8_0", 8.5), ("q4_0", 4.6)]
    families = group([variant(f"llama3.2:3b-instruct-{tag}", bits) for tag, bits in tags])
    assert names(families) == [[f"llama3.2:3b-instruct-{tag}" for tag in ("fp16", "q8_0", "q4_K_M", "q4_0", "q2_K")]]
    assert families[0].title == "llama3.2:3b-instruct"
    assert [one.label for one in families[0].variants] == ["F16", "Q8_0", "Q4_K_M", "Q4_0", "Q2_K"]


def test_without_tensors_the_label_gives_the_order():
    tags = ["q2_K", "fp16", "q4_K_M", "q8_0"]
    families = group([variant(f"llama3.2:3b-instruct-{tag}") for tag in tags])
    assert [one.label for one in families[0].variants] == ["F16", "Q8_0", "Q4_K_M", "Q2_K"]


def test_names_of_one_digest_are_one_variant():
    one = variant("llama3.2:3b-instruct-q4_K_M", 4.9, digest="d")
    families = group([replace(one, name="llama3.2:latest"), replace(one, name="llama3.2:3b"), one])
    assert names(families) == [["llama3.2:3b-instruct-q4_K_M"]]
    assert families[0].variants[0].aliases == ("llama3.2:3b", "llama3.2:latest")
    assert families[0].variants[0].label == "Q4_K_M"


def test_a_bare_tag_joins_the_variants_whose_fine_tune_it_shares():
    families = group([variant("llama3.2:latest"), variant("llama3.2:3b"), variant("llama3.2:3b-instruct-q8_0")])
    assert len(families) == 1
    assert len(families[0].variants) == 3


def test_base_and_instruct_of_one_structure_stay_apart():
    base = variant("llama3.2:3b-text-q4_K_M", identity=("", "Llama-3.2", "3B", ""))
    assert len(group([base, variant("llama3.2:3b-instruct-q4_K_M")])) == 2


def test_without_metadata_a_short_tag_is_not_guessed_to_belong_to_a_longer_one():
    unknown = ("", "", "", "")
    facts = [variant(f"llama3.2:3b{rest}", identity=unknown) for rest in ("", "-text-q8_0", "-text-q4_0")]
    assert sorted(map(len, names(group(facts)))) == [1, 2]


def test_a_short_tag_that_fits_two_families_joins_neither():
    facts = [variant(f"llama3.2:{tag}") for tag in ("3b", "3b-instruct-q8_0", "3b-preview-q8_0")]
    assert len(group(facts)) == 3


@pytest.mark.parametrize(
    "change",
    [
        {"structure": replace(THREE_B, block_count=29)},
        {"structure": replace(THREE_B, parameter_count=1)},
        {"structure": replace(THREE_B, vocab_size=1)},
        {"structure": replace(THREE_B, head_count_kv=4)},
        {"structure": replace(THREE_B, embedding_length=1)},
        {"structure": replace(THREE_B, architecture="qwen2")},
        {"identity": ("Coder", "Llama-3.2", "3B", "")},
        {"identity": ("Instruct", "Llama-3.2", "3B", "v2")},
        {"adapter": True},
    ],
)
def test_one_difference_makes_two_families(change):
    one, other = variant("m:3b-q8_0"), variant("m:3b-q4_0", **change)
    assert len(group([one, other])) == 2


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("qat", "qat"), ("QAT", "qat"), ("distill", "distilled"), ("distilled-q8_0", "distilled"),
        ("abliterated", "abliterated"), ("abliterated-v3-q4_K_M", "abliterated"), ("heretic", "abliterated"),
        ("uncensored", "uncensored"), ("lora", "lora"), ("pruned", "pruned"), ("reap", "pruned"),
        ("minitron", "pruned"), ("merge", "merged"), ("slerp", "merged"),
    ],
)  # fmt: skip
def test_other_weights_under_the_same_roof_stay_apart_and_are_marked(word, kind):
    families = group([variant("gemma3:4b-it-q4_0"), variant(f"gemma3:4b-it-{word}")])
    assert sorted(family.kind for family in families) == ["", kind]


@pytest.mark.parametrize("name", ["emerge:4b-it", "reaper:4b-it", "improve:4b-it", "explore:4b-it"])
def test_a_word_that_only_contains_another_marks_nothing(name):
    assert [family.kind for family in group([variant(name)])] == [""]


def test_a_distilled_model_of_the_same_shape_is_another_family_even_where_only_its_metadata_says_so():
    own = variant("m:8b-q8_0", identity=("", "DeepSeek-R1-Distill-Llama", "8B", ""))
    assert sorted(family.kind for family in group([own, variant("m:8b-q4_0")])) == ["", "distilled"]


def test_a_variant_tells_the_share_of_each_format_the_commonest_first():
    (family,) = group([variant("m:3b-q4_K_M", types={"F32": 1, "Q6_K": 19, "Q4_K": 80})])
    assert list(family.variants[0].types.items()) == [("Q4_K", 0.8), ("Q6_K", 0.19), ("F32", 0.01)]
    assert group([variant("m:3b-q4_K_M")])[0].variants[0].types == {}


def test_quantizations_of_weights_trained_for_it_are_a_family_of_their_own():
    families = group([variant(f"gemma3:4b-it-qat-{tag}") for tag in ("q4_0", "q8_0")])
    assert [family.kind for family in families] == ["qat"]
    assert len(families[0].variants) == 2


def test_a_model_made_from_another_is_not_one_of_its_quantizations():
    pirate = variant("pirate:latest", parent="llama3.2:3b-instruct-q8_0")
    assert len(group([variant("llama3.2:3b-instruct-q8_0"), pirate])) == 2


def test_a_quantization_made_on_the_host_belongs_to_the_model_it_was_made_from():
    made = variant("llama3.2:3b-instruct-q4_K_S", parent="llama3.2:3b-instruct-fp16")
    assert len(group([variant("llama3.2:3b-instruct-fp16"), made])) == 1


def test_uploaders_and_repository_endings_do_not_matter():
    facts = [
        variant("hf.co/bartowski/Llama-3.2-3B-Instruct-GGUF:Q4_K_M"),
        variant("hf.co/unsloth/Llama-3.2-3B-Instruct-GGUF:Q8_0"),
        variant("llama3.2:3b-instruct-fp16"),
    ]
    families = group(facts)
    assert len(families) == 1
    assert [one.label for one in families[0].variants] == ["F16", "Q8_0", "Q4_K_M"]


def test_models_of_unknown_structure_are_never_merged():
    facts = [variant(f"m:{tag}", structure=Structure()) for tag in ("q4_0", "q8_0")]
    assert len(group(facts)) == 2


def test_nothing_gives_no_families():
    assert group([]) == ()


def test_order_of_the_list_does_not_matter():
    facts = [variant(f"m:3b-{tag}") for tag in ("q8_0", "q4_0", "fp16")] + [variant("n:3b-q8_0")]
    assert group(facts) == group(reversed(facts))


# labels


def test_the_tag_names_the_label_before_anything_else():
    facts = variant("m:3b-q4_K_M", quantization_level="Q4_K_S", file_type=2, types={"Q8_0": 1})
    assert label_of(facts) == "Q4_K_M"
    assert label_of(replace(facts, name="m:3b")) == "Q4_K_S"
    assert label_of(replace(facts, name="m:3b", quantization_level="unknown")) == "Q4_0"
    assert label_of(replace(facts, name="m:3b", quantization_level="", file_type=None)) == "Q8_0"
    assert label_of(replace(facts, name="m:3b", quantization_level="", file_type=None, types={})) == "unknown"


# from a recorded host


def recorded_facts(tensors: tuple[TensorInfo, ...]) -> VariantFacts:
    body = recording("show").body
    details = {**body["details"], "families": tuple(body["details"]["families"])}
    detail = ModelDetail(info=body["model_info"], details=ModelDetails(**details), tensors=tensors)
    row = recording("tags_after").body["models"][-1]
    return facts_of(ModelInfo(row["name"], row["digest"], row["size"], datetime.now(UTC)), detail)


def test_facts_come_from_what_a_real_ollama_answers():
    tensors = tuple(
        TensorInfo(one["name"], one["type"], tuple(one["shape"]))
        for one in recording("show").body["tensors"]
        if isinstance(one, dict)
    )
    facts = recorded_facts(tensors)
    assert facts.structure == Structure("llama", 134_515_008, 30, 576, 49_152, 3)
    assert facts.identity == ("8k-lc100k-mix1-ep2", "smollm2", "135M", "")
    assert label_of(facts) == "F16"
    assert facts.bits_per_weight == pytest.approx(16.0, abs=0.01)


def test_true_bits_are_unknown_where_a_format_is():
    assert recorded_facts((TensorInfo("a", "F8_NEW", (10,)),)).bits_per_weight is None
    assert recorded_facts(()).bits_per_weight is None


def test_true_bits_count_all_weights():
    tensors = (TensorInfo("a", "Q4_0", (64, 3)), TensorInfo("b", "f32", (64,)))
    assert recorded_facts(tensors).bits_per_weight == pytest.approx((192 * 4.5 + 64 * 32) / 256)
