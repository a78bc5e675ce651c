"""GGUF files for tests, built byte by byte here and not by the code that is tested."""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass, field
from typing import Any

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
CODES = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "?", U64: "Q", I64: "q", F64: "d"}
# type name → (number, elements a block, bytes a block), as ggml.h has them
TYPES = {
    "F32": (0, 1, 4),
    "F16": (1, 1, 2),
    "Q4_0": (2, 32, 18),
    "Q8_0": (8, 32, 34),
    "BF16": (30, 1, 2),
    "I32": (26, 1, 4),
}


@dataclass
class Tensor:
    """`data` None means that many bytes of noise from a fixed seed (small finite numbers for F32)."""

    name: str
    type: str
    shape: tuple[int, ...]
    data: bytes | None = None

    def bytes(self) -> bytes:
        if self.data is not None:
            return self.data
        _, block, size = TYPES[self.type]
        count = self.shape[0] // block
        for rows in self.shape[1:]:
            count *= rows
        noise = random.Random(self.name)
        if self.type == "F32":
            return struct.pack(f"<{count}f", *(noise.gauss(0, 0.1) for _ in range(count)))
        if self.type in ("F16", "BF16"):
            code = "e" if self.type == "F16" else "f"
            packed = [struct.pack(f"<{code}", noise.gauss(0, 0.1)) for _ in range(count)]
            return b"".join(value if self.type == "F16" else value[2:] for value in packed)
        return noise.randbytes(count * size)


@dataclass
class Sample:
    """A file to be. The fields are what its header will claim; `raw` are entries that are bytes already."""

    entries: list[tuple[str, int, Any]] = field(default_factory=list)
    tensors: list[Tensor] = field(default_factory=list)
    version: int = 3
    alignment: int = 32
    magic: bytes = b"GGUF"
    raw: tuple[bytes, ...] = ()

    def header(self) -> bytes:
        counts = len(self.tensors), len(self.entries) + len(self.raw)
        out = [self.magic, struct.pack("<IQQ", self.version, *counts), *self.raw]
        out += [string(key) + struct.pack("<I", kind) + value_bytes(kind, value) for key, kind, value in self.entries]
        offset = 0
        for tensor in self.tensors:
            shape = struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *tensor.shape)
            out.append(string(tensor.name) + shape + struct.pack("<IQ", TYPES[tensor.type][0], offset))
            offset += len(tensor.bytes()) + -len(tensor.bytes()) % self.alignment
        return b"".join(out)

    def bytes(self) -> bytes:
        header = self.header()
        body = header + bytes(-len(header) % self.alignment)
        for tensor in self.tensors:
            data = tensor.bytes()
            body += data + bytes(-len(data) % self.alignment)
        return body


def string(text: str | bytes) -> bytes:
    raw = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(raw)) + raw


def value_bytes(kind: int, value: Any) -> bytes:
    if kind == STRING:
        return string(value)
    if kind == ARRAY:
        element, values = value
        return struct.pack("<IQ", element, len(values)) + b"".join(value_bytes(element, one) for one in values)
    return struct.pack("<" + CODES[kind], value)


def small_llama(layers: int = 2, width: int = 64, type_name: str = "F32", *, tied: bool = True) -> Sample:
    """A file with the tensors of a llama model, a few kilobytes large."""
    vocabulary, inner = 96, 2 * width
    tensors = [
        Tensor("token_embd.weight", type_name, (width, vocabulary)),
        Tensor("output_norm.weight", "F32", (width,)),
    ]
    if not tied:
        tensors.append(Tensor("output.weight", type_name, (width, vocabulary)))
    for layer in range(layers):
        block = f"blk.{layer}."
        tensors += [
            Tensor(f"{block}attn_norm.weight", "F32", (width,)),
            Tensor(f"{block}ffn_norm.weight", "F32", (width,)),
        ]
        tensors += [
            Tensor(f"{block}attn_{part}.weight", type_name, (width, width)) for part in ("q", "k", "v", "output")
        ]
        tensors += [Tensor(f"{block}ffn_{part}.weight", type_name, (width, inner)) for part in ("gate", "up")]
        tensors.append(Tensor(f"{block}ffn_down.weight", type_name, (inner, width)))
    entries: list[tuple[str, int, Any]] = [
        ("general.architecture", STRING, "llama"),
        ("general.name", STRING, "a small llama"),
        ("general.file_type", U32, {"F32": 0, "F16": 1, "BF16": 32}[type_name]),
        ("llama.block_count", U32, layers),
        ("llama.context_length", U32, 512),
        ("llama.embedding_length", U32, width),
        ("llama.attention.head_count", U32, 4),
        ("llama.attention.head_count_kv", U32, 4),
        ("tokenizer.ggml.tokens", ARRAY, (STRING, [f"token {number}" for number in range(vocabulary)])),
        ("tokenizer.ggml.scores", ARRAY, (F32, [float(number) for number in range(2000)])),
        ("general.languages", ARRAY, (STRING, ["en"])),
    ]
    return Sample(entries, tensors)
