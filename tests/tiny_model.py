"""A model of a few megabytes that llama.cpp really loads and runs: the starter's vocabulary over weights of nothing.

Built for damaging it: `tiny()` gives the sample, whose entries and tensors a test changes before it takes the bytes.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

from app.models.gguf_file import read_gguf
from app.runtime.manifests import MODEL
from app.runtime.model_store import ModelStore
from tests.gguf_samples import F32, STRING, U32, Sample, Tensor
from tests.starter_cache import starter_gguf

WIDTH, INNER, HEADS, CONTEXT = 64, 128, 2, 2048


@cache
def _vocabulary() -> tuple[tuple[bytes, ...], int]:
    """The starter's entries for the tokenizer as they are, and how many tokens there are."""
    gguf = read_gguf(starter_gguf())
    with gguf.path.open("rb") as file:
        content = file.read(gguf.data_offset)
    entries = [gguf.metadata.entry(key) for key in gguf.metadata if key.startswith("tokenizer.")]
    assert gguf.vocab_size is not None
    return tuple(content[entry.start : entry.end] for entry in entries), gguf.vocab_size


def tiny(layers: int = 1) -> Sample:
    raw, tokens = _vocabulary()
    entries = [
        ("general.architecture", STRING, "llama"),
        ("general.name", STRING, "tiny"),
        ("llama.block_count", U32, layers),
        ("llama.context_length", U32, CONTEXT),
        ("llama.embedding_length", U32, WIDTH),
        ("llama.feed_forward_length", U32, INNER),
        ("llama.attention.head_count", U32, HEADS),
        ("llama.attention.head_count_kv", U32, HEADS),
        ("llama.attention.layer_norm_rms_epsilon", F32, 1e-5),
        ("llama.rope.dimension_count", U32, WIDTH // HEADS),
        ("llama.vocab_size", U32, tokens),
        ("general.file_type", U32, 1),
    ]
    tensors = [_matrix("token_embd.weight", WIDTH, tokens), _vector("output_norm.weight")]
    for layer in range(layers):
        block = f"blk.{layer}."
        tensors += [_vector(f"{block}attn_norm.weight"), _vector(f"{block}ffn_norm.weight")]
        tensors += [_matrix(f"{block}attn_{part}.weight", WIDTH, WIDTH) for part in ("q", "k", "v", "output")]
        tensors += [_matrix(f"{block}ffn_{part}.weight", WIDTH, INNER) for part in ("gate", "up")]
        tensors.append(_matrix(f"{block}ffn_down.weight", INNER, WIDTH))
    return Sample(entries, tensors, raw=raw)


def _matrix(name: str, row: int, rows: int) -> Tensor:
    return Tensor(name, "F16", (row, rows), bytes(2 * row * rows))


def _vector(name: str) -> Tensor:
    return Tensor(name, "F32", (WIDTH,), bytes(4 * WIDTH))


def install(store: Path, name: str, content: bytes) -> None:
    """`content` as a model of the store, unchecked: what a damaged disk or another program may leave there."""
    target = ModelStore(store)
    target.prepare()
    config = target.add_blob(b'{"model_format":"gguf","model_family":"llama"}')
    target.write_manifest(name, config, [target.add_blob(content, media_type=MODEL)])
