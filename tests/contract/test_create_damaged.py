"""Model files that are not what they claim: one clear error each, and nothing installed."""

from __future__ import annotations

import struct
from functools import cache

import pytest

from app.runtime.model_store import ModelStore
from tests.creating import created, loose_files, put, sound_names, tiny
from tests.gguf_samples import ARRAY, STRING, U32, Sample, Tensor, string

pytestmark = pytest.mark.anyio


@pytest.fixture
def store(tmp_path) -> ModelStore:
    return ModelStore(tmp_path / "models")


async def imported(store: ModelStore, name: str, sample: Sample | bytes, **more) -> list:
    return await created(store, {"model": name, "files": {"m.gguf": put(store, sample)}} | more)


@cache
def damaged() -> dict[str, bytes]:
    """Two dozen and more ways in which a file can lie."""
    good = tiny()
    whole, head = good.bytes(), len(good.header())
    at = whole.index(string("token_embd.weight")) + len(string("token_embd.weight"))

    def patched(offset: int, value: bytes, content: bytes = whole) -> bytes:
        return content[:offset] + value + content[offset + len(value) :]

    def u64(value: int) -> bytes:
        return struct.pack("<Q", value)

    def with_entry(key: str, kind: int, value) -> bytes:
        return Sample([*good.entries, (key, kind, value)], good.tensors).bytes()

    tensors = {
        "no tensors": [],
        "a tensor twice": [good.tensors[0], good.tensors[0]],
        "an unnamed tensor": [Tensor("", "F32", (8,))],
        "a long name": [Tensor("n" * 200, "F32", (8,))],
    }
    return {
        "only the magic": b"GGUF",
        "nothing after the version": whole[:8],
        "cut in the metadata": whole[: head // 2],
        "cut in the tensor list": whole[: head - 20],
        "cut in the data": whole[:-5000],
        "version 0": patched(4, struct.pack("<I", 0)),
        "version 1": patched(4, struct.pack("<I", 1)),
        "version 99": patched(4, struct.pack("<I", 99)),
        "big endian": patched(4, struct.pack(">I", 3)),
        "more tensors than there are": patched(8, u64(len(good.tensors) + 1)),
        "fewer tensors than there are": patched(8, u64(1 << 40)),
        "endless metadata": patched(16, u64(1 << 60)),
        "fewer metadata than there are": patched(16, u64(2)),
        "a key without end": patched(24, u64(1 << 50)),
        "an empty key": patched(24, u64(0)),
        "an unknown value type": patched(24 + 8 + len("general.architecture"), struct.pack("<I", 77)),
        "five dimensions": patched(at, struct.pack("<I", 5)),
        "no dimensions": patched(at, struct.pack("<I", 0)),
        "a huge row": patched(at + 4, u64(1 << 62)),
        "an empty row": patched(at + 4, u64(0)),
        "an unknown tensor type": patched(at + 20, struct.pack("<I", 1000)),
        "an offset outside": patched(at + 24, u64(1 << 50)),
        "an odd offset": patched(at + 24, u64(7)),
        "alignment 0": with_entry("general.alignment", U32, 0),
        "alignment 48": with_entry("general.alignment", U32, 48),
        "a key twice": with_entry("general.name", STRING, "again"),
        "an array of arrays": with_entry("x", ARRAY, (ARRAY, [(U32, [1])])),
        "no architecture": Sample([("a", U32, 1)], good.tensors).bytes(),
        "an architecture that is a number": tiny(general__architecture=(U32, 3)).bytes(),
        **{kind: Sample(good.entries, found).bytes() for kind, found in tensors.items()},
    }


@pytest.mark.parametrize("kind", sorted(damaged()))
@pytest.mark.parametrize("more", [{}, {"quantize": "q4_K_M"}], ids=["copied", "quantized"])
async def test_a_damaged_file_is_one_clear_error(store, kind, more):
    *records, failed = await imported(store, "a", damaged()[kind], **more)
    assert records == [{"status": "parsing GGUF"}]
    assert failed["status_code"] == 500
    assert failed["error"].startswith("m.gguf ")
    assert "\n" not in failed["error"]
    assert sound_names(store) == set()
    assert len(loose_files(store)) == 1  # the upload


async def test_infinite_weights_cannot_be_quantized_and_say_where(store):
    sample = tiny("F32", width=256)
    name = "blk.0.attn_q.weight"
    index = next(at for at, tensor in enumerate(sample.tensors) if tensor.name == name)
    sample.tensors[index] = Tensor(name, "F32", (256, 256), struct.pack("<f", float("inf")) * 65_536)
    *_, failed = await imported(store, "a", sample, quantize="q4_K_M")
    assert name in failed["error"]
    assert loose_files(store) == {path.name for path in store.blobs.glob("sha256-*")}
