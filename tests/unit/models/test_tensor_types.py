"""The choice of formats against published sizes and against the rules for unusual models."""

from __future__ import annotations

import pytest

from app.core.errors import BadRequest
from app.models.ggml_types import TYPE_BY_NAME
from app.models.gguf_file import GgufTensor
from app.models.tensor_types import Shape, choose_types, in_writing_order, may_quantize

LLAMA_8B = Shape("llama", 32, 0, 4, False, False, 32)

# Bits per weight of Llama-3.1-8B as llama.cpp's own table of llama-quantize gives them (b11434)
PUBLISHED = {
    "Q2_K": 3.1593, "Q3_K_S": 3.6429, "Q3_K_M": 3.9960, "Q3_K_L": 4.2979, "Q4_K_S": 4.6672, "Q4_K_M": 4.8944,
    "Q5_K_S": 5.5704, "Q5_K_M": 5.7036, "Q6_K": 6.5633, "Q8_0": 8.5008, "F16": 16.0005,
    "IQ3_S": 3.6606, "IQ3_M": 3.7628,
}  # fmt: skip


def tensors_of(layers: int, width: int, inner: int, kv: int, vocabulary: int, experts: int = 0) -> list[GgufTensor]:
    """The tensors of a llama-like model; `kv` is the width of keys and values."""
    shapes = {
        "token_embd.weight": (width, vocabulary),
        "output.weight": (width, vocabulary),
        "output_norm.weight": (width,),
    }
    for layer in range(layers):
        own = {
            "attn_norm.weight": (width,), "ffn_norm.weight": (width,), "attn_q.weight": (width, width),
            "attn_k.weight": (width, kv), "attn_v.weight": (width, kv), "attn_output.weight": (width, width),
        }  # fmt: skip
        if experts:
            own |= {"ffn_gate_inp.weight": (width, experts), "ffn_down_exps.weight": (inner, width, experts)}
            own |= {f"ffn_{part}_exps.weight": (width, inner, experts) for part in ("gate", "up")}
        else:
            own |= {f"ffn_{part}.weight": (width, inner) for part in ("gate", "up")} | {
                "ffn_down.weight": (inner, width)
            }
        shapes |= {f"blk.{layer}.{name}": shape for name, shape in own.items()}
    made = [
        GgufTensor(name, "F32" if "norm" in name or "gate_inp" in name else "F16", shape, 0, 0)
        for name, shape in shapes.items()
    ]
    return in_writing_order([*made, GgufTensor("rope_freqs.weight", "F32", (64,), 0, 0)])


def chosen(shape: Shape, file_type: str, tensors: list[GgufTensor]) -> dict[str, str]:
    return dict(zip((one.name for one in tensors), choose_types(tensors, shape, file_type), strict=True))


@pytest.mark.parametrize("file_type", PUBLISHED)
def test_llama_8b_gets_its_published_bits_per_weight(file_type):
    tensors = tensors_of(32, 4096, 14_336, 1024, 128_256)
    types = chosen(LLAMA_8B, file_type, tensors)
    bits = sum(TYPE_BY_NAME[types[one.name]].bits_per_weight * one.elements for one in tensors)
    assert round(bits / sum(one.elements for one in tensors), 4) == PUBLISHED[file_type]


SMALL = tensors_of(8, 256, 512, 64, 1024)


def shape(**changes) -> Shape:
    facts = {
        "architecture": "llama", "layers": 8, "experts": 0, "queries_per_value": 4, "seventy_b": False, "tied": False,
        "value_tensors": 8,
    }  # fmt: skip
    return Shape(**{**facts, **changes})


def test_the_output_layer_gets_more_bits():
    assert chosen(shape(), "Q4_K_M", SMALL)["output.weight"] == "Q6_K"
    assert chosen(shape(), "Q8_0", SMALL)["output.weight"] == "Q8_0"
    assert chosen(shape(architecture="falcon"), "Q4_K_M", SMALL)["output.weight"] == "Q8_0"


def test_an_embedding_that_serves_as_output_is_treated_as_one():
    tied = [one for one in SMALL if one.name != "output.weight"]
    assert chosen(shape(tied=True), "Q4_K_M", tied)["token_embd.weight"] == "Q6_K"
    assert chosen(shape(), "Q4_K_M", SMALL)["token_embd.weight"] == "Q4_K"


def test_values_get_more_bits_where_several_heads_share_them():
    assert chosen(shape(), "Q2_K", SMALL)["blk.3.attn_v.weight"] == "Q4_K"
    assert chosen(shape(queries_per_value=2), "Q2_K", SMALL)["blk.3.attn_v.weight"] == "Q3_K"
    assert chosen(shape(), "IQ4_XS", SMALL)["blk.3.attn_v.weight"] == "Q5_K"
    assert chosen(shape(queries_per_value=1), "IQ4_XS", SMALL)["blk.3.attn_v.weight"] == "IQ4_XS"


def test_a_70b_model_gets_five_bits_for_its_values():
    assert chosen(shape(seventy_b=True), "Q3_K_S", SMALL)["blk.3.attn_v.weight"] == "Q5_K"
    assert chosen(shape(), "Q3_K_S", SMALL)["blk.3.attn_v.weight"] == "Q3_K"


def test_first_last_and_every_third_layer_get_more_bits():
    down = [kind for name, kind in chosen(shape(), "Q4_K_M", SMALL).items() if "ffn_down" in name]
    assert down == ["Q6_K", "Q4_K", "Q4_K", "Q6_K", "Q4_K", "Q4_K", "Q6_K", "Q6_K"]


def test_layers_are_counted_by_number_and_not_by_name():
    many = tensors_of(24, 256, 512, 64, 1024)
    order = [one.name for one in many if one.name.endswith("attn_v.weight")]
    assert order == [f"blk.{layer}.attn_v.weight" for layer in range(24)]
    early = chosen(shape(layers=24, value_tensors=24), "Q4_K_S", many)
    assert [early[name] for name in order[:6]] == ["Q5_K"] * 4 + ["Q4_K"] * 2


def test_a_mixture_of_eight_experts_keeps_attention_in_many_bits():
    tensors = tensors_of(8, 256, 512, 64, 1024, experts=8)
    types = chosen(shape(experts=8), "Q4_K_M", tensors)
    assert types["blk.3.attn_v.weight"] == types["blk.3.attn_k.weight"] == "Q8_0"
    assert types["blk.3.attn_output.weight"] == "Q5_K"
    assert types["blk.3.ffn_gate_inp.weight"] == "F32"
    assert types["blk.3.ffn_down_exps.weight"] == "Q6_K"
    assert types["blk.1.ffn_down_exps.weight"] == "Q4_K"


def test_experts_get_mxfp4_and_the_rest_eight_bits():
    tensors = tensors_of(8, 256, 512, 64, 1024, experts=4)
    types = chosen(shape(experts=4), "MXFP4_MOE", tensors)
    assert types["blk.0.ffn_up_exps.weight"] == "MXFP4"
    assert types["blk.0.attn_q.weight"] == types["output.weight"] == types["token_embd.weight"] == "Q8_0"


def test_an_expert_outside_the_model_is_refused():
    tensors = tensors_of(9, 256, 512, 64, 1024, experts=8)
    with pytest.raises(BadRequest, match=r"blk\.8\.ffn_down_exps"):
        choose_types(tensors, shape(experts=8), "Q4_K_M")


def test_falcon_has_its_own_mixture():
    types = chosen(shape(architecture="falcon", layers=16), "Q3_K_M", tensors_of(16, 256, 512, 64, 1024))
    down = [types[f"blk.{layer}.ffn_down.weight"] for layer in range(16)]
    assert down[:6] == ["Q5_K", "Q4_K", "Q3_K", "Q3_K", "Q4_K", "Q3_K"]


@pytest.mark.parametrize(
    ("width", "file_type", "expected"),
    [
        (288, "Q4_K_S", "Q5_0"), (288, "Q5_K_S", "Q5_1"), (288, "Q6_K", "Q8_0"), (288, "Q3_K_S", "Q4_0"),
        (288, "IQ4_XS", "IQ4_NL"), (288, "IQ3_S", "IQ4_NL"),
    ],
)  # fmt: skip
def test_rows_that_do_not_fit_get_a_stand_in(width, file_type, expected):
    types = chosen(shape(queries_per_value=1), file_type, tensors_of(8, width, 512, 64, 1024))
    assert types["blk.7.attn_q.weight"] == expected


def test_rows_that_no_block_fits_become_f16():
    types = chosen(shape(), "Q4_K_S", tensors_of(8, 256, 40, 64, 1024))
    assert types["blk.7.ffn_down.weight"] == "F16"


def test_rows_no_format_can_hold_are_refused():
    with pytest.raises(BadRequest, match="rows of 40 elements, which Q8_0 cannot store"):
        choose_types(tensors_of(8, 40, 512, 64, 1024), shape(), "Q8_0")


@pytest.mark.parametrize(
    "file_type", ["IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ3_XXS", "IQ3_XS", "Q2_K_S"]
)
def test_what_needs_an_importance_matrix_is_refused(file_type):
    with pytest.raises(BadRequest, match="importance matrix"):
        choose_types(SMALL, shape(), file_type)


@pytest.mark.parametrize("name", ["Q4_K", "q4_0", "", "Q9_9"])
def test_an_unknown_file_type_is_refused(name):
    with pytest.raises(BadRequest, match="not a file type"):
        choose_types(SMALL, shape(), name)


@pytest.mark.parametrize(
    ("name", "shape_of_it"),
    [
        ("blk.0.attn_norm.weight", (64, 64)), ("blk.0.attn_q.bias", (64, 64)), ("blk.0.attn_q.weight", (64,)),
        ("blk.0.attn_q.weight", (64, 1, 1)), ("blk.0.ffn_gate_inp.weight", (64, 8)),
        ("blk.0.ssm_conv1d.weight", (4, 64)), ("blk.0.time_mix_w1.weight", (64, 64)),
        ("position_embd.weight", (64, 64)), ("token_types.weight", (64, 2)),
        ("v.patch_embd.weight", (64, 64)),
    ],
)  # fmt: skip
def test_small_and_fragile_tensors_keep_their_format(name, shape_of_it):
    assert not may_quantize(GgufTensor(name, "F32", shape_of_it, 0, 0))


def test_weights_take_part():
    assert may_quantize(GgufTensor("blk.0.attn_q.weight", "F16", (64, 64), 0, 0))
    assert may_quantize(GgufTensor("blk.0.ffn_up_exps.weight", "F16", (64, 64, 8), 0, 0))
    assert may_quantize(GgufTensor("output.weight", "F16", (64, 64), 0, 0))
