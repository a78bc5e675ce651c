"""Models without weights: the published shape of well-known ones, few layers deep, as hollow files.

A hollow file has a real header and a body of zeros that takes no room on disk, which is all that measuring memory
needs. It has no vocabulary (only its size), so it loads but cannot be talked to.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from app.core.generation import Json
from app.models.gguf_file import GgufTensor
from app.models.gguf_writer import header, number_entry, padding, tensor_bytes, text_entry

Tensors = Iterator[tuple[str, str, tuple[int, ...]]]
_SMALL, _ANY = "TQ1_0", "Q8_0"  # the smallest format for rows of 256, and one for rows of 32; neither is copied


@dataclass(frozen=True, slots=True)
class Shape:
    """`info` is metadata with full keys, `tensors` name, type and shape (row length first)."""

    info: dict[str, Json]
    tensors: tuple[tuple[str, str, tuple[int, ...]], ...]


def write_hollow(shape: Shape, path: Path) -> Path:
    entries = [_entry(key, value) for key, value in shape.info.items()]
    entries.append(text_entry("tokenizer.ggml.model", "no_vocab"))
    tensors = [GgufTensor(name, kind, size, 0, 0) for name, kind, size in shape.tensors]
    with path.open("wb") as file:
        for piece in header(len(entries), entries, tensors, 32):
            file.write(piece)
        sizes = [tensor_bytes(tensor) for tensor in tensors]
        file.truncate(file.tell() + sum(size + len(padding(size, 32)) for size in sizes))
    return path


def _entry(key: str, value: Json) -> bytes:
    if isinstance(value, str):
        return text_entry(key, value)
    if isinstance(value, int):
        return number_entry(key, value)
    raw = struct.pack("<Q", len(key)) + key.encode()
    if isinstance(value, float):
        return raw + struct.pack("<If", 6, value)
    assert isinstance(value, list)
    return raw + struct.pack("<IIQ", 9, 5, len(value)) + struct.pack(f"<{len(value)}i", *value)


def _shape(
    architecture: str, layers: int, width: int, vocabulary: int, more: dict[str, Json],
    block: Callable[[int], Tensors], *, norm: str = "output_norm.weight", kind: str = _SMALL, output: bool = False,
) -> Shape:  # fmt: skip
    own: dict[str, Json] = {
        "block_count": layers,
        "context_length": 131072,
        "embedding_length": width,
        "vocab_size": vocabulary,
        "attention.layer_norm_rms_epsilon": 1e-5,
        **more,
    }
    tensors = [("token_embd.weight", kind, (width, vocabulary)), (norm, "F32", (width,))]
    if output:
        tensors.append(("output.weight", kind, (width, vocabulary)))
    for index in range(layers):
        tensors += [(f"blk.{index}.{name}", of, size) for name, of, size in block(index)]
    info: dict[str, Json] = {"general.architecture": architecture}
    return Shape(info | {f"{architecture}.{key}": value for key, value in own.items()}, tuple(tensors))


def transformer(
    architecture: str, *, width: int, heads: int, kv: int, head: int, ff: int, vocabulary: int, layers: int = 6,
    bias: bool = False, qk_norm: bool = False, post_norms: bool = False, experts: tuple[int, int, int] | None = None,
    more: dict[str, Json] | None = None,
) -> Shape:  # fmt: skip
    """The usual block. `experts`: how many there are, how many are used, how wide one is."""
    kind = _SMALL if width % 256 == 0 and ff % 256 == 0 else _ANY
    keys: dict[str, Json] = {
        "feed_forward_length": ff, "attention.head_count": heads, "attention.head_count_kv": kv,
        "attention.key_length": head, "attention.value_length": head, "rope.dimension_count": head,
    }  # fmt: skip
    if experts:
        keys |= {"expert_count": experts[0], "expert_used_count": experts[1], "expert_feed_forward_length": experts[2]}

    def block(_: int) -> Tensors:
        yield "attn_norm.weight", "F32", (width,)
        for name, rows in (("q", heads * head), ("k", kv * head), ("v", kv * head)):
            yield f"attn_{name}.weight", kind, (width, rows)
            if bias:
                yield f"attn_{name}.bias", "F32", (rows,)
        yield "attn_output.weight", kind if heads * head % 256 == 0 else _ANY, (heads * head, width)
        if qk_norm:
            yield "attn_q_norm.weight", "F32", (head,)
            yield "attn_k_norm.weight", "F32", (head,)
        if post_norms:
            yield "post_attention_norm.weight", "F32", (width,)
            yield "post_ffw_norm.weight", "F32", (width,)
        yield "ffn_norm.weight", "F32", (width,)
        yield from _experts(width, experts, kind) if experts else _feed_forward(width, ff, kind)

    return _shape(architecture, layers, width, vocabulary, keys | (more or {}), block, kind=kind)


def _feed_forward(width: int, ff: int, kind: str) -> Tensors:
    yield "ffn_gate.weight", kind, (width, ff)
    yield "ffn_up.weight", kind, (width, ff)
    yield "ffn_down.weight", kind, (ff, width)


def _experts(width: int, experts: tuple[int, int, int], kind: str) -> Tensors:
    count, _, wide = experts
    yield "ffn_gate_inp.weight", "F32", (width, count)
    yield "ffn_gate_exps.weight", kind, (width, wide, count)
    yield "ffn_up_exps.weight", kind, (width, wide, count)
    yield "ffn_down_exps.weight", kind, (wide, width, count)


def gpt_oss(width: int = 2880, heads: int = 64, kv: int = 8, head: int = 64, experts: int = 4) -> Shape:
    """gpt-oss 20B with 4 of its 32 experts (it uses 4)."""
    keys: dict[str, Json] = {
        "feed_forward_length": width, "expert_feed_forward_length": width, "attention.head_count": heads,
        "attention.head_count_kv": kv, "attention.key_length": head, "attention.value_length": head,
        "rope.dimension_count": head, "expert_count": experts, "expert_used_count": 4, "attention.sliding_window": 128,
    }  # fmt: skip

    def block(_: int) -> Tensors:
        yield "attn_norm.weight", "F32", (width,)
        yield "post_attention_norm.weight", "F32", (width,)
        yield "attn_sinks.weight", "F32", (heads,)
        for name, rows in (("q", heads * head), ("k", kv * head), ("v", kv * head)):
            yield f"attn_{name}.weight", _ANY, (width, rows)
            yield f"attn_{name}.bias", "F32", (rows,)
        yield "attn_output.weight", _ANY, (heads * head, width)
        yield "attn_output.bias", "F32", (width,)
        yield "ffn_gate_inp.bias", "F32", (experts,)
        for name in ("gate", "up", "down"):
            yield f"ffn_{name}_exps.bias", "F32", (width, experts)
        yield from _experts(width, (experts, 4, width), _ANY)

    return _shape("gpt-oss", 4, width, 201088, keys, block, kind="Q5_0", output=True)


def phi3(width: int = 3072, heads: int = 32, ff: int = 8192) -> Shape:
    """Phi 3 mini: queries, keys and values in one matrix, gate and up in another; its window is not used."""
    keys: dict[str, Json] = {
        "feed_forward_length": ff, "attention.head_count": heads, "attention.head_count_kv": heads,
        "rope.dimension_count": width // heads, "attention.sliding_window": 2047,
    }  # fmt: skip

    def block(_: int) -> Tensors:
        yield "attn_norm.weight", "F32", (width,)
        yield "attn_qkv.weight", _SMALL, (width, 3 * width)
        yield "attn_output.weight", _SMALL, (width, width)
        yield "ffn_norm.weight", "F32", (width,)
        yield "ffn_up.weight", _SMALL, (width, 2 * ff)
        yield "ffn_down.weight", _SMALL, (ff, width)

    return _shape("phi3", 6, width, 32064, keys, block, output=True)


def deepseek2(width: int = 2048, heads: int = 16, wide: int = 512) -> Shape:
    """Compressed attention as DeepSeek V2 and V3 have it, with few experts."""
    lora, rope, plain, value, query, shared, ff = 512, 64, 128, 128, 1536, 2, 10944
    keys: dict[str, Json] = {
        "feed_forward_length": ff, "expert_feed_forward_length": wide, "expert_count": 8, "expert_used_count": 6,
        "expert_shared_count": shared, "leading_dense_block_count": 1, "attention.head_count": heads,
        "attention.head_count_kv": 1, "attention.key_length": lora + rope, "attention.value_length": lora,
        "attention.key_length_mla": plain + rope, "attention.value_length_mla": value, "attention.kv_lora_rank": lora,
        "attention.q_lora_rank": query, "rope.dimension_count": rope, "expert_weights_scale": 1.0,
    }  # fmt: skip

    def block(index: int) -> Tensors:
        yield "attn_norm.weight", "F32", (width,)
        yield "attn_q_a_norm.weight", "F32", (query,)
        yield "attn_kv_a_norm.weight", "F32", (lora,)
        yield "attn_q_a.weight", _ANY, (width, query)
        yield "attn_q_b.weight", _ANY, (query, heads * (plain + rope))
        yield "attn_kv_a_mqa.weight", _ANY, (width, lora + rope)
        yield "attn_k_b.weight", _ANY, (plain, lora, heads)
        yield "attn_v_b.weight", _ANY, (lora, value, heads)
        yield "attn_output.weight", _ANY, (heads * value, width)
        yield "ffn_norm.weight", "F32", (width,)
        if index == 0:
            yield from _feed_forward(width, ff, _ANY)
            return
        yield from _experts(width, (8, 6, wide), _ANY)
        yield "ffn_gate_shexp.weight", _ANY, (width, shared * wide)
        yield "ffn_up_shexp.weight", _ANY, (width, shared * wide)
        yield "ffn_down_shexp.weight", _ANY, (shared * wide, width)

    return _shape("deepseek2", 4, width, 102400, keys, block, output=True)


def _state_space(width: int, inner: int, state: int, heads: int) -> Tensors:
    """The second kind of Mamba block, one group."""
    yield "ssm_in.weight", "F16", (width, 2 * inner + 2 * state + heads)
    yield "ssm_conv1d.weight", "F32", (4, inner + 2 * state)
    yield "ssm_conv1d.bias", "F32", (inner + 2 * state,)
    yield "ssm_dt.bias", "F32", (heads,)
    yield "ssm_a", "F32", (1, heads)
    yield "ssm_d", "F32", (1, heads)
    yield "ssm_norm.weight", "F32", (inner, 1)
    yield "ssm_out.weight", "F16", (inner, width)


def mamba(width: int = 2560, inner: int = 5120, state: int = 16, rank: int = 160) -> Shape:
    keys: dict[str, Json] = {
        "feed_forward_length": 0, "attention.head_count": 0, "ssm.conv_kernel": 4, "ssm.inner_size": inner,
        "ssm.state_size": state, "ssm.time_step_rank": rank,
    }  # fmt: skip

    def block(_: int) -> Tensors:
        yield "attn_norm.weight", "F32", (width,)
        yield "ssm_in.weight", "F16", (width, 2 * inner)
        yield "ssm_conv1d.weight", "F32", (4, inner)
        yield "ssm_conv1d.bias", "F32", (inner,)
        yield "ssm_x.weight", "F16", (inner, rank + 2 * state)
        yield "ssm_dt.weight", "F16", (rank, inner)
        yield "ssm_dt.bias", "F32", (inner,)
        yield "ssm_a", "F32", (state, inner)
        yield "ssm_d", "F32", (inner,)
        yield "ssm_out.weight", "F16", (inner, width)

    return _shape("mamba", 4, width, 50280, keys, block)


def mamba2(width: int = 2560, inner: int = 5120, state: int = 128, heads: int = 80) -> Shape:
    keys: dict[str, Json] = {
        "feed_forward_length": 0, "attention.head_count": 0, "ssm.conv_kernel": 4, "ssm.inner_size": inner,
        "ssm.state_size": state, "ssm.time_step_rank": heads, "ssm.group_count": 1,
    }  # fmt: skip

    def block(_: int) -> Tensors:
        yield "attn_norm.weight", "F32", (width,)
        yield from _state_space(width, inner, state, heads)

    return _shape("mamba2", 4, width, 50280, keys, block)


def hybrid(architecture: str, *, width: int, ff: int, kv: int = 8, every: int = 4, layers: int = 8) -> Shape:
    """Granite 4 (state space) or LFM 2 (short convolutions): one layer of `every` has attention."""
    lfm = architecture == "lfm2"
    inner, state, heads = 2 * width, 128, 64
    keys: dict[str, Json] = {
        "feed_forward_length": ff, "attention.head_count": width // 64, "rope.dimension_count": 64,
        "attention.head_count_kv": [kv if (index + 1) % every == 0 else 0 for index in range(layers)],
    }  # fmt: skip
    keys |= {"shortconv.l_cache": 3} if lfm else {
        "ssm.conv_kernel": 4, "ssm.inner_size": inner, "ssm.state_size": state, "ssm.time_step_rank": heads,
        "ssm.group_count": 1,
    }  # fmt: skip

    def block(index: int) -> Tensors:
        yield "attn_norm.weight", "F32", (width,)
        if (index + 1) % every == 0:
            for name, rows in (("q", width), ("k", kv * 64), ("v", kv * 64), ("output", width)):
                yield f"attn_{name}.weight", _ANY, (width, rows)
            if lfm:
                yield "attn_q_norm.weight", "F32", (64,)
                yield "attn_k_norm.weight", "F32", (64,)
        elif lfm:
            yield "shortconv.conv.weight", "F32", (3, width)
            yield "shortconv.in_proj.weight", _ANY, (width, 3 * width)
            yield "shortconv.out_proj.weight", _ANY, (width, width)
        else:
            yield from _state_space(width, inner, state, heads)
        yield "ffn_norm.weight", "F32", (width,)
        yield from _feed_forward(width, ff, _ANY)

    norm = "token_embd_norm.weight" if lfm else "output_norm.weight"
    return _shape(architecture, layers, width, 65536, keys, block, norm=norm)


_GEMMA: dict[str, Json] = {"attention.sliding_window": 1024}
_GEMMA2: dict[str, Json] = {
    "attention.sliding_window": 4096, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0,
}  # fmt: skip
SHAPES: dict[str, Callable[[], Shape]] = {
    "Llama 3.1 8B": lambda: transformer(
        "llama", width=4096, heads=32, kv=8, head=128, ff=14336, vocabulary=128256),
    "Llama 3.2 1B": lambda: transformer(
        "llama", width=2048, heads=32, kv=8, head=64, ff=8192, vocabulary=128256),
    "Mixtral 8x7B": lambda: transformer(
        "llama", width=4096, heads=32, kv=8, head=128, ff=14336, vocabulary=32000, layers=2, experts=(8, 2, 14336)),
    "Qwen 2.5 0.5B": lambda: transformer(
        "qwen2", width=896, heads=14, kv=2, head=64, ff=4864, vocabulary=151936, bias=True),
    "Qwen 2.5 7B": lambda: transformer(
        "qwen2", width=3584, heads=28, kv=4, head=128, ff=18944, vocabulary=152064, bias=True),
    "Qwen 3 0.6B": lambda: transformer(
        "qwen3", width=1024, heads=16, kv=8, head=128, ff=3072, vocabulary=151936, qk_norm=True),
    "Qwen 3 4B": lambda: transformer(
        "qwen3", width=2560, heads=32, kv=8, head=128, ff=9728, vocabulary=151936, qk_norm=True),
    "Qwen 3 30B-A3B": lambda: transformer(
        "qwen3moe", width=2048, heads=32, kv=4, head=128, ff=6144, vocabulary=151936, layers=4, qk_norm=True,
        experts=(128, 8, 768)),
    "Gemma 2 2B": lambda: transformer(
        "gemma2", width=2304, heads=8, kv=4, head=256, ff=9216, vocabulary=256000, post_norms=True, more=_GEMMA2),
    "Gemma 3 4B": lambda: transformer(
        "gemma3", width=2560, heads=8, kv=4, head=256, ff=10240, vocabulary=262144, layers=12, qk_norm=True,
        post_norms=True, more=_GEMMA),
    "gpt-oss 20B": gpt_oss,
    "Phi 3 mini": phi3,
    "DeepSeek V2 Lite": deepseek2,
    "DeepSeek V3": lambda: deepseek2(width=5120, heads=128),
    "Mamba 2.8B": mamba,
    "Mamba 2 2.7B": mamba2,
    "Granite 4 micro": lambda: hybrid("granitehybrid", width=2048, ff=8192),
    "LFM 2 350M": lambda: hybrid("lfm2", width=1024, ff=4608),
}  # fmt: skip
