"""The quantizer on small files: what it writes and refuses, that it stops, and that it leaves nothing half-made."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path

import pytest

from app.core.errors import BadRequest, Cancelled, DiskFull, ModelFileDamaged, StoreError
from app.models import gguf_writer, quantizer
from app.models.gguf_file import read_gguf
from app.models.quantizer import dequantise_to_f16, quantize
from tests.gguf_samples import ARRAY, STRING, U16, U32, Sample, Tensor, small_llama


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.gguf"
    path.write_bytes(small_llama(layers=2, width=64, type_name="F16").bytes())
    return path


def written(path: Path, sample: Sample) -> Path:
    path.write_bytes(sample.bytes())
    return path


def only(folder: Path, *expected: Path) -> None:
    assert sorted(folder.iterdir()) == sorted(expected)


def test_the_result_is_told_as_it_is(source, tmp_path):
    made = quantize(source, tmp_path / "made.gguf", "Q8_0")
    model = read_gguf(made.path)
    assert made.size == made.path.stat().st_size
    assert made.sha256 == hashlib.sha256(made.path.read_bytes()).hexdigest()
    assert made.types == {"Q8_0": 15, "F32": 5}
    assert made.bits_per_weight == model.bits_per_weight
    assert {one.type for one in model.tensors} == {"Q8_0", "F32"}
    only(tmp_path, source, made.path)


def test_metadata_stays_but_for_the_file_type(source, tmp_path):
    before, after = read_gguf(source), read_gguf(quantize(source, tmp_path / "made.gguf", "Q4_0").path)
    kept = {key: value for key, value in before.metadata.items() if key != "general.file_type"}
    assert dict(after.metadata) == {**kept, "general.quantization_version": 2, "general.file_type": 2}
    assert list(after.metadata)[-2:] == ["general.quantization_version", "general.file_type"]


@pytest.mark.parametrize("type_name", ["F32", "F16", "BF16"])
def test_eight_bits_are_close_to_what_they_came_from(tmp_path, type_name):
    gguf = pytest.importorskip("gguf")
    path = written(tmp_path / "source.gguf", small_llama(layers=1, width=64, type_name=type_name))
    made = quantize(path, tmp_path / "made.gguf", "Q8_0").path
    theirs = {tensor.name: tensor for tensor in gguf.GGUFReader(made).tensors}
    for tensor in gguf.GGUFReader(path).tensors:
        exact = gguf.dequantize(tensor.data, tensor.tensor_type)
        near = gguf.dequantize(theirs[tensor.name].data, theirs[tensor.name].tensor_type)
        assert abs(exact - near).max() <= abs(exact).max() / 200, tensor.name


def test_the_same_bytes_whatever_the_number_of_threads_and_the_size_of_a_piece(source, tmp_path, monkeypatch):
    digests = {quantize(source, tmp_path / "made.gguf", "Q4_0", threads=threads).sha256 for threads in (1, 2, 7)}
    monkeypatch.setattr(quantizer, "PIECE", 64)  # one row at a time
    digests.add(quantize(source, tmp_path / "made.gguf", "Q4_0", threads=3).sha256)
    assert len(digests) == 1


def test_the_same_type_again_copies_the_tensors(source, tmp_path):
    made = read_gguf(quantize(source, tmp_path / "made.gguf", "F16").path)
    before = {one.name: source.read_bytes()[one.offset : one.offset + one.nbytes] for one in read_gguf(source).tensors}
    after = {one.name: made.path.read_bytes()[one.offset : one.offset + one.nbytes] for one in made.tensors}
    assert before == after


def test_dequantising_gives_f16_and_f32_norms(source, tmp_path):
    quantized = quantize(source, tmp_path / "quantized.gguf", "Q4_0").path
    model = read_gguf(dequantise_to_f16(quantized, tmp_path / "back.gguf").path)
    assert model.file_type == 1
    assert {one.type for one in model.tensors} == {"F16", "F32"}
    assert {one.type for one in model.tensors if "norm" in one.name} == {"F32"}


def test_experts_are_quantized_in_all_their_dimensions(tmp_path):
    sample = small_llama(layers=1, width=64, type_name="F32")
    expert = Tensor("blk.0.ffn_up_exps.weight", "F32", (64, 32, 4))
    sample.tensors.append(expert)
    sample.entries.append(("llama.expert_count", U32, 4))
    made = quantize(written(tmp_path / "s.gguf", sample), tmp_path / "made.gguf", "Q8_0").path
    one = next(tensor for tensor in read_gguf(made).tensors if tensor.name == expert.name)
    assert (one.type, one.shape, one.nbytes) == ("Q8_0", (64, 32, 4), 64 * 32 * 4 // 32 * 34)
    first_scale = struct.unpack("<e", made.read_bytes()[one.offset : one.offset + 2])[0]
    values = struct.unpack("<32f", expert.bytes()[:128])
    assert first_scale == pytest.approx(max(map(abs, values)) / 127, rel=1e-3)


def test_another_alignment_is_kept(tmp_path):
    sample = small_llama(type_name="F16")
    sample.alignment = 128
    sample.entries.append(("general.alignment", U32, 128))
    model = read_gguf(quantize(written(tmp_path / "s.gguf", sample), tmp_path / "made.gguf", "Q8_0").path)
    assert model.alignment == 128
    assert {one.offset % 128 for one in model.tensors} == {0}


def test_progress_counts_up_to_all_of_the_source(source, tmp_path):
    seen: list[tuple[int, int]] = []
    quantize(source, tmp_path / "made.gguf", "Q8_0", on_progress=lambda done, total: seen.append((done, total)))
    total = read_gguf(source).tensor_bytes
    assert seen[-1] == (total, total)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert {whole for _, whole in seen} == {total}


def test_cancelling_stops_and_leaves_nothing(source, tmp_path):
    calls = iter([False, False, True])
    with pytest.raises(Cancelled):
        quantize(source, tmp_path / "made.gguf", "Q8_0", cancelled=lambda: next(calls))
    only(tmp_path, source)


def test_a_target_that_is_there_is_replaced_only_by_a_whole_file(source, tmp_path):
    target = tmp_path / "made.gguf"
    target.write_bytes(b"the old file")
    with pytest.raises(Cancelled):
        quantize(source, target, "Q8_0", cancelled=lambda: True)
    assert target.read_bytes() == b"the old file"
    quantize(source, target, "Q8_0")
    assert read_gguf(target).file_type == 7


# refusals


def test_a_quantized_source_is_refused(source, tmp_path):
    quantized = quantize(source, tmp_path / "quantized.gguf", "Q4_0").path
    with pytest.raises(BadRequest, match="quantization is only supported for F16, BF16 and F32 models"):
        quantize(quantized, tmp_path / "made.gguf", "Q8_0")
    assert quantize(quantized, tmp_path / "made.gguf", "Q8_0", requantize=True).types["Q8_0"] == 15


@pytest.mark.parametrize("file_type", ["Q9_9", "", "q4_0"])
def test_a_file_type_that_cannot_be_made_is_refused(source, tmp_path, file_type):
    with pytest.raises(BadRequest):
        quantize(source, tmp_path / "made.gguf", file_type)
    only(tmp_path, source)


def test_one_part_of_a_split_model_is_refused(tmp_path):
    sample = small_llama(type_name="F16")
    sample.entries += [("split.no", U16, 0), ("split.count", U16, 2)]
    with pytest.raises(BadRequest, match="one part of a split model"):
        quantize(written(tmp_path / "s.gguf", sample), tmp_path / "made.gguf", "Q8_0")


def test_a_model_joined_again_loses_the_marks_of_the_split(tmp_path):
    sample = small_llama(type_name="F16")
    sample.entries += [("split.no", U16, 0), ("split.count", U16, 1), ("split.tensors.count", U32, 20)]
    made = quantize(written(tmp_path / "s.gguf", sample), tmp_path / "made.gguf", "Q8_0").path
    assert not [key for key in read_gguf(made).metadata if key.startswith("split.")]


def test_weights_that_are_not_numbers_are_refused(tmp_path):
    sample = small_llama(type_name="F32")
    sample.tensors[0].data = struct.pack("<f", float("nan")) * (64 * 96)
    with pytest.raises(ModelFileDamaged, match=r"token_embd\.weight: a value is not finite"):
        quantize(written(tmp_path / "s.gguf", sample), tmp_path / "made.gguf", "Q8_0")


def test_a_source_that_shrinks_is_noticed(source, tmp_path):
    def shrink(done: int, total: int) -> None:
        source.write_bytes(source.read_bytes()[:3000])

    with pytest.raises((ModelFileDamaged, StoreError)):
        quantize(source, tmp_path / "made.gguf", "Q8_0", threads=1, on_progress=shrink)
    only(tmp_path, source)


def test_a_full_disk_is_said_and_leaves_nothing(source):
    with pytest.raises(StoreError, match="cannot be written"):
        quantize(source, source / "made.gguf", "Q8_0")  # a file is no folder
    error = gguf_writer.write_error(Path("x"), OSError(28, "No space left on device"))
    assert isinstance(error, DiskFull)


def test_long_metadata_is_copied_whole(tmp_path):
    sample = small_llama(type_name="F16")
    words = [f"word {number}" for number in range(200_000)]
    sample.entries.append(("tokenizer.ggml.merges", ARRAY, (STRING, words)))
    made = quantize(written(tmp_path / "s.gguf", sample), tmp_path / "made.gguf", "Q8_0").path
    assert read_gguf(made).metadata["tokenizer.ggml.merges"] == words
