"""Memory as a comparison shows it: by parts, with its error, and for other contexts."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.backends.embedded import EmbeddedSettings
from app.core.hosts import HostAddress, ModelDetail, TensorInfo
from app.models.advisor import Candidate
from app.models.candidates import need
from app.models.memory_fit import facts_of_detail, predict
from app.models.memory_report import memory_at, memory_of
from tests.model_shapes import SHAPES
from tests.unit.models.test_memory_fit import MIB, detail, gemma3, llama

FILE = 4_900_000_000


def test_the_parts_add_up_to_the_whole():
    made = memory_of(llama(), FILE, context=8192)
    assert made.parts["kv"] == 1024 * MIB and made.parts["weights"] == FILE
    assert made.predicted == sum(made.parts.values())
    assert made.context == 8192


def test_another_host_may_be_off_by_more_than_our_own():
    ours, theirs = (memory_of(llama(), FILE, context=8192, own=own) for own in (True, False))
    assert ours.predicted == theirs.predicted and ours.band is not None and theirs.band is not None
    assert theirs.band == max(round(0.3 * 2**30), round(0.05 * theirs.predicted)) > ours.band


def test_a_window_of_gemma_is_in_every_point():
    made = memory_of(gemma3(), 3 * 2**30, context=131072)
    assert made.parts["kv"] == 2734 * MIB
    found = {(one.context, one.kv_type): one.predicted for one in made.points}
    facts = facts_of_detail(gemma3(), 3 * 2**30)
    for (context, kind), size in found.items():
        assert predict(facts, context=context, kv_type=kind).total == size
    assert {context for context, _ in found} == {2048, 4096, 8192, 16384, 32768, 65536, 131072}
    assert {kind for _, kind in found} == {"f16", "q8_0", "q4_0"}


@pytest.mark.parametrize("context", [3000, 6144, 24_000, 100_000])
def test_between_the_points_the_advisor_is_right_to_one_percent(context):
    """Also with a sliding window, which full contexts outgrow."""
    made = memory_of(gemma3(), 3 * 2**30, context=8192)
    asked = need(Candidate("m", "Q4_0", 3 * 2**30, memory=made.points), context, "f16")
    exact = predict(facts_of_detail(gemma3(), 3 * 2**30), context=context).total
    assert asked == pytest.approx(exact, rel=0.01)


def test_no_context_beyond_what_the_model_was_made_for():
    made = memory_of(llama(context_length=4096), FILE, context=2048)
    assert {one.context for one in made.points} == {2048, 4096}


def test_a_cache_type_that_rows_cannot_have_has_no_points():
    odd = llama(attention__key_length=48, attention__value_length=48)
    made = memory_of(odd, FILE, context=2048)
    assert made.predicted is not None
    assert {one.kv_type for one in made.points} in ({"f16"}, {"f16", "q8_0", "q4_0"})


def test_what_cannot_be_told_is_said():
    made = memory_of(ModelDetail(info={}), FILE, context=2048)
    assert made.predicted is None and made.points == () and made.notes


@pytest.mark.parametrize("name", SHAPES)
def test_every_known_shape_has_its_parts_for_several_slots(name):
    shape = SHAPES[name]()
    told = ModelDetail(info=shape.info, tensors=tuple(TensorInfo(*one) for one in shape.tensors))
    one, four = memory_of(told, context=4096), memory_of(told, context=4096, slots=4)
    assert one.predicted is not None and four.predicted is not None
    for part in ("kv", "state"):
        assert four.parts.get(part, 0) == 4 * one.parts.get(part, 0)
    assert four.parts["weights"] == one.parts["weights"]


def test_compressed_attention_keeps_no_values():
    """DeepSeek V3 by its published shape: 61 layers of 512 + 64 elements, nothing for V."""
    keys = {
        "block_count": 61, "embedding_length": 7168, "feed_forward_length": 18432, "vocab_size": 129280,
        "attention__head_count": 128, "attention__head_count_kv": 1, "attention__key_length": 576,
        "attention__value_length": 512, "attention__key_length_mla": 192, "attention__value_length_mla": 128,
        "attention__kv_lora_rank": 512, "rope__dimension_count": 64, "context_length": 163840,
        "expert_count": 256, "expert_used_count": 8, "expert_feed_forward_length": 2048,
    }  # fmt: skip
    made = memory_of(detail("deepseek2", **keys), FILE, context=8192)
    assert made.parts["kv"] == 61 * 576 * 2 * 8192


def test_a_state_space_takes_the_same_at_any_context():
    keys = {
        "block_count": 48, "embedding_length": 1536, "vocab_size": 50280, "context_length": 1 << 20,
        "ssm__conv_kernel": 4, "ssm__inner_size": 3072, "ssm__state_size": 16, "ssm__time_step_rank": 96,
    }  # fmt: skip
    short, long = (memory_of(detail("mamba", **keys), FILE, context=size) for size in (2048, 65536))
    assert short.parts["state"] == long.parts["state"] == 48 * 4 * (3 * 3072 + 16 * 3072)
    assert "kv" not in short.parts


def test_a_cache_type_that_was_applied_to_our_runtime_is_in_its_prediction():
    plain = EmbeddedSettings(Path("store"), slots=4).address()
    small = EmbeddedSettings(Path("store"), slots=4, limits={"OLLAMA_KV_CACHE_TYPE": "q5_1"}).address()
    assert memory_at(plain, llama(), FILE, 8192) == memory_of(llama(), FILE, context=8192, slots=4, own=True)
    made = memory_at(small, llama(), FILE, 8192)
    assert made == memory_of(llama(), FILE, context=8192, slots=4, kv_type="q5_1", own=True)
    assert made.parts["kv"] == 4 * 1024 * MIB * 24 // 64  # 24 bytes for 32 numbers of 2
    assert {one.kv_type for one in made.points} == {"q5_1", "f16", "q8_0", "q4_0"}
    elsewhere = HostAddress("there", "http://10.0.0.9:11434")
    assert memory_at(elsewhere, llama(), FILE, 8192) == memory_of(llama(), FILE, context=8192)
