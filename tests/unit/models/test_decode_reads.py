"""How many bytes a token reads: what the memory's bandwidth bounds speed by."""

from __future__ import annotations

import pytest

from app.core.hosts import ModelDetail, TensorInfo
from app.models.decode_reads import decode_reads

SIZE = 12_345
EMBEDDING = TensorInfo("token_embd.weight", "F16", (64, 1000))
LAYER = TensorInfo("blk.0.ffn_down.weight", "Q8_0", (64, 32))
OUTPUT = TensorInfo("output.weight", "Q8_0", (64, 1000))
EXPERTS = TensorInfo("blk.0.ffn_up_exps.weight", "F16", (64, 32, 8))
LAYER_BYTES, OUTPUT_BYTES = 2 * 34 * 32, 2 * 34 * 1000


def reads(*tensors: TensorInfo, **keys: int) -> int:
    info = {"general.architecture": "any", **{f"any.{name}": value for name, value in keys.items()}}
    return decode_reads(ModelDetail(info=info, tensors=tensors), SIZE)


def test_an_embedding_is_only_looked_up_where_there_is_an_output_matrix() -> None:
    assert reads(EMBEDDING, LAYER, OUTPUT) == LAYER_BYTES + OUTPUT_BYTES


def test_an_embedding_that_is_the_output_matrix_too_is_read_whole() -> None:
    assert reads(EMBEDDING, LAYER) == 64 * 1000 * 2 + LAYER_BYTES


def test_of_a_mixture_of_experts_the_used_share_is_read() -> None:
    assert reads(LAYER, OUTPUT, EXPERTS, expert_count=8, expert_used_count=2) == (
        LAYER_BYTES + OUTPUT_BYTES + 64 * 32 * 8 * 2 // 4
    )
    assert reads(OUTPUT, EXPERTS) == OUTPUT_BYTES + 64 * 32 * 8 * 2, "not told: all of them"


@pytest.mark.parametrize("name", ["v.blk.0.attn_q.weight", "mm.0.weight", "per_layer_token_embd.weight"])
def test_what_only_pictures_and_lookups_need_is_not_read_for_each_token(name: str) -> None:
    assert reads(OUTPUT, TensorInfo(name, "F16", (64, 64))) == OUTPUT_BYTES


@pytest.mark.parametrize("tensors", [(), (OUTPUT, TensorInfo("blk.0.x.weight", "Q9_X", (64, 64)))])
def test_the_file_s_size_stands_in_for_tensors_that_are_not_known(tensors: tuple[TensorInfo, ...]) -> None:
    assert reads(*tensors) == SIZE
