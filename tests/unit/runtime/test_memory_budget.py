"""What a model will take, and whether there is room for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from app.core.errors import ModelTooLarge
from app.models.gguf_file import GgufFile, read_gguf
from app.models.machine_memory import MachineMemory
from app.models.memory_fit import facts_of_file, predict
from app.runtime.memory_budget import PROCESS, MemoryBudget
from app.runtime.worker_process import WorkerConfig
from tests.model_shapes import transformer, write_hollow

GIB = 1 << 30
CONFIG = WorkerConfig(
    model=Path("m"), num_ctx=8192, parallel=1, batch=128, threads=2, shift=True, mmap=False, load_timeout_s=1
)


def budget(free: int, *, total: int = 64 * GIB, limit: int = 0) -> MemoryBudget:
    return MemoryBudget(limit, lambda: MachineMemory(total, free))


@pytest.fixture(scope="module")
def gguf(tmp_path_factory) -> GgufFile:
    shape = transformer("llama", width=2048, heads=16, kv=16, head=128, ff=5632, vocabulary=32000)
    return read_gguf(write_hollow(shape, tmp_path_factory.mktemp("hollow") / "m.gguf"))


@pytest.fixture(scope="module")
def windowed(tmp_path_factory) -> GgufFile:
    shape = transformer(
        "gemma3", width=2048, heads=16, kv=16, head=128, ff=5632, vocabulary=32000,
        more={"attention.sliding_window": 1024},
    )  # fmt: skip
    return read_gguf(write_hollow(shape, tmp_path_factory.mktemp("hollow") / "m.gguf"))


def test_the_need_is_the_prediction_with_its_uncertainty_to_both_sides(gguf: GgufFile):
    made = predict(facts_of_file(gguf), context=8192, batch=128)
    need = budget(0).need(gguf, CONFIG)
    assert made.total is not None
    assert (need.least, need.wanted) == (
        made.total - made.uncertainty,
        made.total + made.uncertainty + PROCESS,
    )
    assert need.wanted < need.address_space < need.wanted + 5 * GIB


def test_slots_and_the_type_of_the_cache_change_the_need(gguf: GgufFile):
    one, four = (budget(0).need(gguf, replace(CONFIG, parallel=slots)).least for slots in (1, 4))
    small = budget(0).need(gguf, replace(CONFIG, kv_type="q8_0")).least
    cache = predict(facts_of_file(gguf), context=8192, batch=128).kv
    assert cache is not None
    assert four - one >= 3 * cache
    assert one - small > cache // 3


def test_what_a_windowed_model_remembers_of_a_conversation_is_wanted_but_not_surely_needed(windowed: GgufFile):
    without, some = (budget(0).need(windowed, replace(CONFIG, checkpoints=count)) for count in (0, 8))
    remembered = predict(facts_of_file(windowed), context=8192, batch=128).checkpoint
    assert remembered > 0
    assert some.wanted - without.wanted == 8 * remembered
    assert some.least == without.least


def test_without_flash_attention_more_may_be_needed(gguf: GgufFile):
    assert budget(0).need(gguf, replace(CONFIG, flash=False)).wanted > budget(0).need(gguf, CONFIG).wanted


def test_of_a_mapped_file_the_weights_are_not_surely_needed(gguf: GgufFile):
    read, mapped = (budget(0).need(gguf, replace(CONFIG, mmap=way)) for way in (False, True))
    weights = facts_of_file(gguf).weights
    assert weights is not None
    assert mapped.least <= read.least - weights
    assert mapped.wanted >= read.wanted


def test_a_file_that_cannot_be_read_is_given_a_chance():
    need = budget(0).need(None, CONFIG)
    budget(0).check_alone("m", None, CONFIG, need, 0)
    assert budget(0).fits(need, 0)
    assert need.address_space == 0


def test_a_tenth_of_what_is_free_is_left_to_others(gguf: GgufFile):
    need = budget(0).need(gguf, CONFIG)
    assert not budget(need.wanted).fits(need, 0)
    assert budget(round(need.wanted / 0.89)).fits(need, 0)


def test_loaded_models_count_even_where_they_have_not_yet_touched_their_memory(gguf: GgufFile):
    need = budget(0).need(gguf, CONFIG)
    assert budget(60 * GIB).fits(need, 50 * GIB)
    assert not budget(60 * GIB).fits(need, 64 * GIB - need.wanted // 2)


def test_a_limit_counts_what_is_loaded_to_the_byte(gguf: GgufFile):
    need = budget(0).need(gguf, CONFIG)
    assert budget(60 * GIB, limit=GIB + need.wanted).fits(need, GIB)
    assert not budget(60 * GIB, limit=GIB + need.wanted - 1).fits(need, GIB)


def test_too_large_a_context_is_refused_with_the_longest_that_fits(gguf: GgufFile):
    config = replace(CONFIG, num_ctx=131072)
    there = budget(0).need(gguf, replace(CONFIG, num_ctx=32768)).wanted
    need = budget(0).need(gguf, config)
    with pytest.raises(ModelTooLarge) as caught:
        budget(there).check_alone("m", gguf, config, need, 0)
    assert (caught.value.needed, caught.value.available) == (need.least, there)
    longest = int(caught.value.message.partition("a context of ")[2].partition(" ")[0])
    assert 30000 < longest <= 32768
    assert budget(0).need(gguf, replace(CONFIG, num_ctx=longest)).wanted <= there


def test_a_model_too_large_at_any_context_is_told_so(gguf: GgufFile):
    need = budget(0).need(gguf, CONFIG)
    with pytest.raises(ModelTooLarge, match="a smaller quantization or a smaller model"):
        budget(64 << 20).check_alone("m", gguf, CONFIG, need, 0)


def test_what_idle_models_would_give_back_counts_as_there(gguf: GgufFile):
    need = budget(0).need(gguf, CONFIG)
    budget(GIB).check_alone("m", gguf, CONFIG, need, need.least)
