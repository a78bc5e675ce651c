"""What a model will take in memory, against llama.cpp's own figures, and what is said when it cannot be known."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.hosts import ModelDetail, TensorInfo
from app.models.gguf_file import read_gguf
from app.models.memory_fit import ModelFacts, facts_of_detail, facts_of_file, fits, largest_context, predict
from benchmarks.memory_fit import expected, measure
from tests.model_shapes import SHAPES, Shape, write_hollow
from tests.recordings import recording
from tests.starter_cache import TAGS, variant_gguf

MIB = 1 << 20
MEASURED = json.loads((Path(__file__).parents[2] / "data" / "memory_fit.json").read_text(encoding="utf-8"))
PARTS = ("kv", "state", "compute", "output")


def detail(architecture: str, tensors: tuple[TensorInfo, ...] = (), **keys) -> ModelDetail:
    own = {f"{architecture}.{name.replace('__', '.')}": value for name, value in keys.items()}
    return ModelDetail(info={"general.architecture": architecture} | own, tensors=tensors)


def gemma3(**changes) -> ModelDetail:
    """Gemma 3 4B as `/api/show` has it: 34 layers, one of six with full attention."""
    keys = {
        "block_count": 34, "embedding_length": 2560, "feed_forward_length": 10240, "vocab_size": 262208,
        "attention__head_count": 8, "attention__head_count_kv": 4, "attention__key_length": 256,
        "attention__value_length": 256, "attention__sliding_window": 1024, "context_length": 131072,
    }  # fmt: skip
    return detail("gemma3", **(keys | changes))


def llama(**changes) -> ModelDetail:
    """Llama 3.1 8B."""
    keys = {
        "block_count": 32, "embedding_length": 4096, "feed_forward_length": 14336, "vocab_size": 128256,
        "attention__head_count": 32, "attention__head_count_kv": 8, "context_length": 131072,
    }  # fmt: skip
    return detail("llama", **(keys | changes))


def facts_of_shape(shape: Shape) -> ModelFacts:
    return facts_of_detail(ModelDetail(info=shape.info, tensors=tuple(TensorInfo(*one) for one in shape.tensors)))


def split(facts: ModelFacts, sliding: bool) -> ModelFacts:
    assert facts.layers is not None
    return replace(facts, layers=tuple(layer for layer in facts.layers if layer.sliding == sliding))


def test_gemma_3_keeps_what_its_log_says_at_the_full_context():
    facts = facts_of_detail(gemma3())
    full, near = split(facts, False), split(facts, True)
    assert predict(full, context=131072).kv == 2560 * MIB  # both lines as quoted in Ollama's pull request 17037
    assert predict(near, context=131072).kv == 174 * MIB
    assert predict(facts, context=131072).kv == 2734 * MIB


def test_llama_3_1_8b_keeps_one_gibibyte_at_8k():
    assert predict(facts_of_detail(llama()), context=8192).kv == 1024 * MIB


@pytest.mark.parametrize(("kv_type", "share"), [("f32", 2.0), ("f16", 1.0), ("q8_0", 34 / 64), ("q4_0", 18 / 64)])
def test_a_smaller_cache_type_shrinks_the_cache_by_its_block_size(kv_type, share):
    assert predict(facts_of_detail(llama()), context=8192, kv_type=kv_type).kv == 1024 * MIB * share


def test_the_starter_is_as_its_log_says():
    made = predict(facts_of_file(read_gguf(variant_gguf("q8_0"))), context=4096, batch=512)
    measured = (136.40, 90.00, 0.0, 18.64, 0.19)
    for part, size in zip((made.weights, made.kv, made.state, made.compute, made.output), measured, strict=True):
        assert part == pytest.approx(size * MIB, abs=0.011 * MIB)
    assert made.notes == ()


@pytest.mark.parametrize("tag", TAGS)
def test_every_variant_of_the_starter_is_within_the_stated_uncertainty(tag):
    facts = facts_of_file(read_gguf(variant_gguf(tag)))
    rows = [row for row in MEASURED if row["name"] == f"SmolLM2 {tag}"]
    assert rows
    check(facts, rows)


@pytest.mark.parametrize("name", SHAPES)
def test_every_measured_shape_is_within_the_stated_uncertainty(name):
    rows = [row for row in MEASURED if row["name"] == name]
    assert len(rows) == 3
    check(facts_of_shape(SHAPES[name]()), rows)


def check(facts: ModelFacts, rows: list[dict]) -> None:
    for row in rows:
        made = predict(facts, context=row["context"], slots=row["slots"], batch=row["batch"], mapped=row["mapped"])
        for part in ("kv", "state", "output"):
            assert getattr(made, part) == pytest.approx(row[part], abs=0.02 * MIB), (row, part)
        assert made.compute == pytest.approx(row["compute"], rel=0.06, abs=0.05 * MIB), row
        if not row["mapped"]:
            assert made.weights == pytest.approx(row["weights"], abs=0.02 * MIB), row
        total = row["weights"] + sum(row[part] for part in PARTS)
        assert abs(made.total - total) <= made.uncertainty, row


@pytest.mark.model
@pytest.mark.parametrize(("context", "batch", "slots", "mapped"), [(2048, 128, 1, False), (1024, 512, 2, True)])
def test_a_worker_takes_what_was_predicted(context, batch, slots, mapped):
    path = variant_gguf("q4_0")
    row = asyncio.run(measure("starter", path, context, batch, slots, mapped))
    made = expected(facts_of_file(read_gguf(path)), row)
    assert row.kv > 0 and row.compute > 0
    assert abs(made.total - row.total) <= made.uncertainty


@pytest.mark.model
def test_a_worker_with_two_caches_takes_what_was_predicted(tmp_path):
    path = write_hollow(SHAPES["Gemma 3 4B"](), tmp_path / "hollow.gguf")
    row = asyncio.run(measure("hollow", path, 2048, 128, 1, False))
    made = expected(facts_of_file(read_gguf(path)), row)
    assert made.kv == pytest.approx(row.kv, abs=0.02 * MIB)
    assert abs(made.total - row.total) <= made.uncertainty


def test_the_file_and_the_answer_of_show_say_the_same(tmp_path):
    for name in ("Gemma 3 4B", "Granite 4 micro", "DeepSeek V2 Lite"):
        shape = SHAPES[name]()
        assert facts_of_file(read_gguf(write_hollow(shape, tmp_path / "one.gguf"))) == facts_of_shape(shape)


def test_an_old_answer_of_show_without_tensors_takes_the_size_of_the_file():
    facts = facts_of_detail(llama(), 4_920_000_000)
    made = predict(facts, context=4096)
    exact = predict(replace(facts, weights_exact=True), context=4096)
    assert made.weights == 4_920_000_000
    assert any("size of the file" in note for note in made.notes)
    assert made.uncertainty > exact.uncertainty


@pytest.mark.parametrize("name", ["show", "show_verbose"])
def test_what_a_real_ollama_tells_is_enough(name):
    info = recording(name).body["model_info"]  # the recording cuts its list of tensors
    made = predict(facts_of_detail(ModelDetail(info=info), 144_811_456), context=4096)
    assert (made.kv, made.output) == (90 * MIB, 4 * 49152)
    assert made.compute == pytest.approx(18.64 * MIB, abs=0.01 * MIB)
    assert made.total is not None and made.notes == ("weights: taken from the size of the file",)


@pytest.mark.parametrize("key", ["block_count", "embedding_length"])
def test_an_absent_key_leaves_its_parts_unknown(key):
    info = {name: value for name, value in llama().info.items() if name != f"llama.{key}"}
    facts = facts_of_detail(ModelDetail(info=info), 1000)
    made = predict(facts, context=4096)
    assert (made.kv, made.state, made.compute, made.total) == (None, None, None, None)
    assert any(key in note for note in made.notes)
    assert made.at_least >= 1000


@pytest.mark.parametrize("withheld", [[], None, "many"])
def test_a_list_that_is_withheld_leaves_the_cache_unknown(withheld):
    made = predict(facts_of_detail(llama(attention__head_count_kv=withheld)), context=4096)
    assert made.kv is None and made.total is None
    assert any("head_count_kv" in note for note in made.notes)


def test_a_withheld_window_pattern_leaves_the_cache_unknown():
    made = predict(facts_of_detail(gemma3(attention__sliding_window_pattern=[])), context=4096)
    assert made.kv is None
    assert any("sliding_window_pattern" in note for note in made.notes)


def test_without_a_vocabulary_compute_and_output_are_unknown():
    info = {name: value for name, value in llama().info.items() if "vocab" not in name}
    made = predict(facts_of_detail(ModelDetail(info=info), 1000), context=8192)
    assert (made.kv, made.compute, made.output, made.total) == (1024 * MIB, None, None, None)


def test_a_strange_architecture_is_said_to_be_a_guess():
    keys = {
        name.partition(".")[2].replace(".", "__"): value for name, value in llama().info.items() if "llama." in name
    }
    made = predict(facts_of_detail(detail("novel", **keys), 1000), context=8192)
    sure = predict(facts_of_detail(llama(), 1000), context=8192)
    assert made.total == sure.total
    assert made.uncertainty > sure.uncertainty + 0.4 * sure.kv
    assert any("novel" in note for note in made.notes)


@pytest.mark.parametrize("architecture", ["deepseek4", "rwkv7", "minimax-01"])
def test_a_memory_that_is_not_modelled_is_not_guessed(architecture):
    keys = {
        name.partition(".")[2].replace(".", "__"): value for name, value in llama().info.items() if "llama." in name
    }
    made = predict(facts_of_detail(detail(architecture, **keys), 1000), context=8192)
    assert made.kv is None and made.state is None and made.total is None


@pytest.mark.parametrize("blocks", [0, 513, 1 << 40])
def test_an_impossible_number_of_layers_costs_nothing_and_is_unknown(blocks):
    assert predict(facts_of_detail(llama(block_count=blocks)), context=4096).kv is None


def test_a_cache_type_that_a_row_cannot_have_is_said():
    made = predict(
        facts_of_detail(llama(attention__key_length=100, attention__head_count_kv=1)), context=1, kv_type="q8_0"
    )
    assert made.kv is None
    assert any("q8_0" in note for note in made.notes)
    with pytest.raises(ValueError, match="q9_9"):
        predict(facts_of_detail(llama()), context=4096, kv_type="q9_9")


@pytest.mark.parametrize("numbers", [{"context": 0}, {"context": 1, "slots": 0}, {"context": 1, "batch": 0}])
def test_lengths_below_one_are_refused(numbers):
    with pytest.raises(ValueError, match="at least 1"):
        predict(facts_of_detail(llama()), **numbers)


def test_slots_that_share_a_cache_share_its_rounding_and_multiply_the_window():
    facts = facts_of_detail(gemma3())
    apart = predict(facts, context=4000, slots=3)
    shared = predict(facts, context=4000, slots=3, kv_unified=True)
    assert predict(split(facts, False), context=4000, slots=3).kv == 5 * 4096 * 3 * 4096
    assert predict(split(facts, False), context=4000, slots=3, kv_unified=True).kv == 5 * 4096 * 12032
    assert shared.kv != apart.kv
    assert predict(split(facts, True), context=4000, slots=3, kv_unified=True).kv == 29 * 4096 * 3584


def test_layers_that_share_a_cache_and_windows_by_list_are_read():
    facts = facts_of_detail(
        detail(
            "gemma4",
            block_count=4,
            embedding_length=512,
            vocab_size=1000,
            attention__head_count=8,
            attention__head_count_kv=[1, 2, 2, 2],
            attention__key_length=128,
            attention__value_length=128,
            attention__key_length_swa=64,
            attention__value_length_swa=64,
            attention__sliding_window=512,
            attention__sliding_window_pattern=[True, True, False, True],
            attention__shared_kv_layers=1,
        )  # fmt: skip
    )
    assert facts.layers is not None
    assert [(one.key, one.value, one.sliding) for one in facts.layers] == [
        (64, 64, True), (128, 128, True), (256, 256, False), (0, 0, True),
    ]  # fmt: skip


def test_a_window_that_llama_cpp_does_not_use_saves_nothing():
    windowed = facts_of_shape(SHAPES["Phi 3 mini"]())
    assert windowed.window == 0
    assert predict(windowed, context=8192).kv == 8192 * 6 * 3072 * 2 * 2


def test_a_state_does_not_grow_with_the_context():
    facts = facts_of_shape(SHAPES["Mamba 2.8B"]())
    short, long = predict(facts, context=256), predict(facts, context=1 << 20)
    assert short.kv == long.kv == 0
    assert short.state == long.state > 0
    assert short.checkpoint == short.state


def test_only_models_that_cannot_go_back_need_checkpoints():
    assert predict(facts_of_detail(llama()), context=4096).checkpoint == 0
    assert predict(facts_of_detail(gemma3()), context=4096).checkpoint == 29 * 4096 * 1024


def test_another_host_is_allowed_a_larger_error():
    made = predict(facts_of_detail(llama(), 5_000_000_000), context=4096)
    assert made.uncertainty_elsewhere >= max(made.uncertainty, round(0.3 * 2**30), round(0.05 * made.total))


def test_what_fits_keeps_its_uncertainty_and_the_margin_free():
    made = predict(facts_of_detail(llama(), 5_000_000_000), context=4096)
    need = made.total + made.uncertainty
    assert fits(made, need) is True
    assert fits(made, need - 1) is False
    assert fits(made, need + 99, margin=100) is False
    assert fits(made, need + 100, margin=100) is True


def test_what_is_unknown_is_refused_only_when_the_rest_is_already_too_much():
    made = predict(facts_of_detail(llama(attention__head_count_kv=[]), 5_000_000_000), context=4096)
    assert fits(made, 100_000_000_000) is None
    assert fits(made, 4_000_000_000) is False


def test_the_longest_context_is_the_last_that_fits():
    facts = replace(facts_of_detail(llama(), 4_900_000_000), weights_exact=True)
    budget = 8 << 30
    longest = largest_context(facts, budget)
    assert longest is not None and longest % 256 == 0
    assert fits(predict(facts, context=longest), budget)
    assert not fits(predict(facts, context=longest + 256), budget)
    assert largest_context(facts, budget, limit=2048) == 2048
    assert largest_context(facts, 1 << 40) == 131072
    assert largest_context(facts, 1 << 30) == 0
    assert largest_context(facts_of_detail(llama(attention__head_count_kv=[])), budget) is None
    assert largest_context(replace(facts, context_length=None), budget) is None


facts_to_try = st.sampled_from([facts_of_shape(SHAPES[name]()) for name in SHAPES])
lengths = st.integers(1, 1 << 20)


@given(facts_to_try, lengths, lengths, st.integers(1, 8), st.integers(1, 2048), st.booleans())
def test_a_longer_context_never_takes_less(facts, one, other, slots, batch, unified):
    short, long = (
        predict(facts, context=context, slots=slots, batch=batch, kv_unified=unified).total
        for context in sorted((one, other))
    )
    assert short <= long


@given(facts_to_try, st.integers(1, 100_000), st.integers(1, 16), st.integers(1, 4096), st.booleans())
def test_another_slot_or_a_larger_batch_never_takes_less(facts, context, slots, batch, unified):
    made = predict(facts, context=context, slots=slots, batch=batch, kv_unified=unified).total
    assert made <= predict(facts, context=context, slots=slots + 1, batch=batch, kv_unified=unified).total
    assert made <= predict(facts, context=context, slots=slots, batch=batch + 1, kv_unified=unified).total


@given(facts_to_try, st.integers(0, 1 << 36), st.integers(1, 4))
def test_the_longest_context_always_fits(facts, budget, slots):
    longest = largest_context(facts, budget, slots=slots)
    if longest:
        assert fits(predict(facts, context=longest, slots=slots), budget)


scalars = st.one_of(st.none(), st.booleans(), st.integers(-5, 1 << 40), st.text(max_size=3), st.floats(), st.just([]))
NAMES = [name for shape in ("Gemma 3 4B", "DeepSeek V2 Lite", "Granite 4 micro") for name in SHAPES[shape]().info]


@given(
    st.sampled_from(["gemma3", "deepseek2", "granitehybrid", "gemma4", "lfm2", "nemotron_h", "falcon-h1", "x", ""]),
    st.dictionaries(
        st.sampled_from(sorted({name.partition(".")[2] for name in NAMES})), st.one_of(scalars, st.lists(scalars))
    ),
)
def test_no_metadata_however_wrong_raises(architecture, keys):
    own = {f"{architecture}.{name}": value for name, value in keys.items()}
    made = predict(facts_of_detail(ModelDetail(info={"general.architecture": architecture} | own)), context=4096)
    assert made.total is None  # no tensors were given
    assert made.at_least >= 0 and made.uncertainty > 0
