"""The GGUF reader on good files, and on every way we could think of in which a file can lie."""

from __future__ import annotations

import os
import struct
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.core.errors import ModelFileDamaged, StoreError
from app.models.ggml_types import TYPE_BY_NAME
from app.models.gguf_file import read_gguf
from tests.gguf_samples import (
    ARRAY,
    BOOL,
    CODES,
    F32,
    F64,
    I8,
    I32,
    I64,
    STRING,
    U8,
    U16,
    U32,
    U64,
    Sample,
    Tensor,
    small_llama,
    string,
)  # fmt: skip


@pytest.fixture
def write(tmp_path: Path):
    def write_file(content: bytes | Sample) -> Path:
        path = tmp_path / "model.gguf"
        path.write_bytes(content if isinstance(content, bytes) else content.bytes())
        return path

    return write_file


def refuse(path: Path, reason: str) -> None:
    with pytest.raises(ModelFileDamaged) as caught:
        read_gguf(path)
    assert reason in caught.value.why


def header(tensors: int = 0, entries: int = 0, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, entries)


def entry(key: str | bytes, kind: int, value: bytes) -> bytes:
    return string(key) + struct.pack("<I", kind) + value


def tensor(name: str = "a.weight", shape: tuple[int, ...] = (32,), kind: int = 0, offset: int = 0) -> bytes:
    return string(name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape) + struct.pack("<IQ", kind, offset)


# what a good file says


def test_facts_of_a_small_model(write):
    model = read_gguf(write(small_llama(layers=3, width=64)))
    assert (model.version, model.alignment, model.architecture, model.file_type) == (3, 32, "llama", 0)
    assert model.own_number("block_count") == 3
    assert model.own_number("embedding_length") == 64
    assert model.vocab_size == 96
    assert model.parameter_count == sum(one.elements for one in model.tensors)
    assert model.bits_per_weight == 32.0
    assert model.tensors[0].name == "token_embd.weight"
    assert (model.tensors[0].type, model.tensors[0].shape, model.tensors[0].nbytes) == ("F32", (64, 96), 64 * 96 * 4)


def test_offsets_lead_to_the_data(write):
    sample = small_llama()
    path = write(sample)
    content = path.read_bytes()
    for read, built in zip(read_gguf(path).tensors, sample.tensors, strict=True):
        assert content[read.offset : read.offset + read.nbytes] == built.bytes()


def test_bits_per_weight_counts_every_tensor(write):
    sample = Sample([], [Tensor("a.weight", "Q4_0", (64, 2)), Tensor("b.weight", "F32", (64,))])
    assert read_gguf(write(sample)).bits_per_weight == (128 * 4.5 + 64 * 32) / 192


def test_every_value_type_is_read(write):
    values = [
        ("u8", U8, 200), ("i8", I8, -3), ("u16", U16, 60_000), ("i32", I32, -70_000), ("u64", U64, 1 << 60),
        ("i64", I64, -(1 << 60)), ("f32", F32, 0.5), ("f64", F64, 1e300), ("yes", BOOL, True),
        ("text", STRING, "grüß dich"),
        ("list", ARRAY, (I32, [1, -2, 3])), ("words", ARRAY, (STRING, ["a", "", "ö"])), ("none", ARRAY, (U8, [])),
    ]  # fmt: skip
    metadata = read_gguf(write(Sample(values))).metadata
    expected = {key: value[1] if kind == ARRAY else value for key, kind, value in values}
    assert dict(metadata) == expected


def test_long_values_are_read_only_when_asked_for(write):
    sample = small_llama()
    sample.entries.append(("long.text", STRING, "x" * 100_000))
    path = write(sample)
    metadata = read_gguf(path).metadata
    assert metadata.array_length("tokenizer.ggml.scores") == 2000
    assert metadata["tokenizer.ggml.scores"] == [float(number) for number in range(2000)]
    assert metadata["long.text"] == "x" * 100_000
    assert metadata.array_length("long.text") is None
    path.write_bytes(path.read_bytes()[:50])
    assert metadata["general.architecture"] == "llama"
    with pytest.raises(ModelFileDamaged):
        metadata["long.text"]


def test_version_2_is_read_like_version_3(write):
    sample = small_llama()
    three = read_gguf(write(sample))
    sample.version = 2
    two = read_gguf(write(sample))
    assert (two.version, two.tensors, dict(two.metadata)) == (2, three.tensors, dict(three.metadata))


def test_another_alignment_moves_the_data(write):
    sample = small_llama()
    sample.alignment = 256
    sample.entries.append(("general.alignment", U32, 256))
    model = read_gguf(write(sample))
    assert model.alignment == 256
    assert {one.offset % 256 for one in model.tensors} == {0}


def test_padding_after_the_last_tensor_may_be_missing(write):
    content = Sample([], [Tensor("a.weight", "F32", (3,))]).bytes()
    assert read_gguf(write(content[:-20])).tensors[0].nbytes == 12


def test_a_number_that_differs_by_layer_is_the_first_layers(write):
    sample = Sample([("general.architecture", STRING, "x"), ("x.attention.head_count_kv", ARRAY, (I32, [8, 4]))])
    assert read_gguf(write(sample)).own_number("attention.head_count_kv") == 8


def test_text_that_is_not_utf8_is_shown_and_does_not_fail(write):
    sample = Sample([("a", STRING, b"\xff\xfe"), ("b", ARRAY, (STRING, [b"\xff", "ok"]))])
    assert dict(read_gguf(write(sample)).metadata) == {"a": "��", "b": ["�", "ok"]}


def test_real_files_read_as_the_gguf_package_reads_them(write):
    gguf = pytest.importorskip("gguf")
    path = write(small_llama(layers=2))
    ours, theirs = read_gguf(path), gguf.GGUFReader(path)
    assert [(one.name, one.type, list(one.shape), one.offset, one.nbytes) for one in ours.tensors] == [
        (one.name, one.tensor_type.name, [int(size) for size in one.shape], one.data_offset, one.n_bytes)
        for one in theirs.tensors
    ]


# files that are not what they claim


def test_a_file_cut_at_any_byte_is_refused(write, tmp_path):
    sample = small_llama(layers=1, width=32)
    whole = sample.bytes()
    path = tmp_path / "cut.gguf"
    step_of_data = 4099  # every byte of the header, a sample of the data
    header_end = len(sample.header())
    for length in [*range(header_end + 1), *range(header_end, len(whole) - 32, step_of_data)]:
        path.write_bytes(whole[:length])
        with pytest.raises(ModelFileDamaged):
            read_gguf(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the first four bytes"),
        (b"GGML" + bytes(40), "does not begin with GGUF"),
        (b"PK\x03\x04" + bytes(40), "does not begin with GGUF"),
        (header(version=1), "version 1"),
        (header(version=4), "version 4"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
        (header(tensors=1), "more than can be in it"),
        (header(tensors=1 << 63), "more than can be in it"),
        (header(entries=1), "more than can be in it"),
        (header(entries=(1 << 64) - 1), "more than can be in it"),
        (header(tensors=100_001) + bytes(4_000_000), "100001 tensors"),
        (header(entries=10_001) + bytes(200_000), "10001 metadata records"),
    ],
)
def test_a_false_beginning_is_refused(write, content, reason):
    refuse(write(content), reason)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (entry("", U8, b"\1"), "empty"),
        (entry("a\nb", U8, b"\1"), "not printable"),
        (entry(b"\xff\xfe", U8, b"\1"), "not text"),
        (struct.pack("<Q", 1 << 62) + bytes(20), "bytes long"),
        (struct.pack("<Q", 70_000) + bytes(80_000), "bytes long (at most 65535)"),
        (entry("a", 13, b"\1"), "unknown type 13"),
        (entry("a", 0xFFFFFFFF, b"\1"), "unknown type"),
        (entry("a", U64, b"\1\2"), "past the end"),
        (entry("a", STRING, struct.pack("<Q", 1 << 63)), "holds a string of"),
        (entry("a", STRING, struct.pack("<Q", (16 << 20) + 1) + bytes((16 << 20) + 1)), "at most 16777216"),
        (entry("a", STRING, struct.pack("<Q", 100)), "past the end"),
        (entry("a", ARRAY, struct.pack("<IQ", U8, 1 << 40)), "claims 1099511627776 elements"),
        (entry("a", ARRAY, struct.pack("<IQ", U64, 1000)), "past the end"),
        (entry("a", ARRAY, struct.pack("<IQ", STRING, 1000)), "more elements than"),
        (entry("a", ARRAY, struct.pack("<IQ", STRING, 2) + string("x") + struct.pack("<Q", 1 << 50)), "holds a string"),
        (entry("a", ARRAY, struct.pack("<IQ", ARRAY, 1) + struct.pack("<IQ", U8, 0)), "array of arrays"),
        (entry("a", ARRAY, struct.pack("<IQ", 99, 1)), "unknown type 99"),
    ],
)
def test_a_false_metadata_record_is_refused(write, record, reason):
    refuse(write(header(entries=1) + record + bytes(16)[: 16 - len(record)]), reason)


@pytest.mark.parametrize("value", [0, 3, 48, 1 << 21, (1 << 32) - 1])
def test_a_false_alignment_is_refused(write, value):
    refuse(write(header(entries=1) + entry("general.alignment", U32, struct.pack("<I", value))), "not a power of two")


def test_an_alignment_of_another_type_is_refused(write):
    refuse(write(header(entries=1) + entry("general.alignment", U64, struct.pack("<Q", 32))), "not a 32-bit number")


def test_a_key_twice_is_refused(write):
    record = entry("a", U8, b"\1")
    refuse(write(header(entries=2) + record + record), "a is there twice")


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (tensor(name=""), "empty"),
        (tensor(name="a\0b"), "not printable"),
        (tensor(name="n" * 128), "128 bytes long"),
        (tensor(shape=()), "0 dimensions"),
        (tensor(shape=(1, 1, 1, 1, 1)), "5 dimensions"),
        (tensor(shape=(0,)), "impossible shape"),
        (tensor(shape=(32, 0)), "impossible shape"),
        (tensor(shape=(1 << 32, 1 << 32)), "impossible shape"),
        (tensor(shape=((1 << 64) - 1,)), "impossible shape"),
        (tensor(shape=(1 << 62,)), "past the end"),
        (tensor(shape=(33,), kind=2), "which Q4_0 cannot store"),
        (tensor(kind=4), "unknown tensor type 4"),
        (tensor(kind=0x7FFFFFFF), "unknown tensor type"),
        (tensor(kind=0xFFFFFFFF), "unknown tensor type"),
        (tensor(offset=32), "where 0 was expected"),
        (tensor(offset=1), "where 0 was expected"),
        (tensor(offset=(1 << 64) - 32), "where 0 was expected"),
        (tensor(shape=(1000,)), "past the end"),
    ],
)
def test_a_false_tensor_is_refused(write, record, reason):
    refuse(write(header(tensors=1) + record + bytes(256)), reason)


def test_a_tensor_twice_is_refused(write):
    two = tensor(shape=(8,)) + tensor(shape=(8,), offset=32)
    refuse(write(header(tensors=2) + two + bytes(256)), "a.weight is there twice")


def test_overlapping_tensors_are_refused(write):
    two = tensor("a.weight", (32,)) + tensor("b.weight", (32,), offset=32)
    refuse(write(header(tensors=2) + two + bytes(512)), "b.weight lies at 32 where 128 was expected")


def test_what_is_no_ordinary_file_is_a_store_error(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "absent", tmp_path / "pipe"):
        with pytest.raises(StoreError, match="no ordinary file"):
            read_gguf(path)


# bounds


def test_a_large_vocabulary_costs_neither_much_memory_nor_much_time(write):
    words = string("a token of the usual length") * 500_000
    path = write(header(entries=1) + entry("tokenizer.ggml.tokens", ARRAY, struct.pack("<IQ", STRING, 500_000) + words))
    tracemalloc.start()
    began = time.process_time()
    model = read_gguf(path)
    spent, (_, peak) = time.process_time() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert model.metadata.array_length("tokenizer.ggml.tokens") == 500_000
    assert peak < 8 << 20, "the reader held more than a few windows"
    assert spent < 20, "walking over the strings is quadratic"


def test_strings_across_the_edge_of_the_window_are_walked(write):
    lengths = [1 << 20, (1 << 20) - 8, 5, (3 << 20) + 1, 0, 1, (1 << 20) + 1]
    words = b"".join(string(b"x" * length) for length in lengths)
    after = entry("after", U8, b"\7")
    path = write(header(entries=2) + entry("a", ARRAY, struct.pack("<IQ", STRING, len(lengths)) + words) + after)
    metadata = read_gguf(path).metadata
    assert [len(word) for word in metadata["a"]] == lengths
    assert metadata["after"] == 7


FUZZED = small_llama(layers=1, width=32).bytes()


@settings(max_examples=300, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), min_size=1, max_size=6), st.integers(0, 100))
def test_changed_bytes_are_read_or_refused_but_never_break_the_reader(tmp_path, changes, cut):
    damaged = bytearray(FUZZED)
    for position, value in changes:
        damaged[position] = value
    path = tmp_path / "fuzzed.gguf"
    path.write_bytes(damaged[: len(damaged) - cut * 97])
    read_or_refuse(path)


@settings(max_examples=200, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, len(FUZZED) // 30), st.sampled_from([0, 1, 0xFF, 1 << 20, 1 << 31, 1 << 62, (1 << 64) - 1]))
def test_large_numbers_anywhere_are_read_or_refused(tmp_path, position, number):
    damaged = bytearray(FUZZED)
    damaged[position : position + 8] = struct.pack("<Q", number)
    path = tmp_path / "fuzzed.gguf"
    path.write_bytes(damaged)
    read_or_refuse(path)


@settings(max_examples=100, deadline=2000, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=400))
def test_noise_after_a_true_beginning_is_read_or_refused(tmp_path, noise):
    path = tmp_path / "fuzzed.gguf"
    path.write_bytes(b"GGUF\3\0\0\0" + noise)
    read_or_refuse(path)


def read_or_refuse(path: Path) -> None:
    """What is read must be true to the file; everything else must be ModelFileDamaged."""
    try:
        model = read_gguf(path)
        for key in model.metadata:
            model.metadata[key]
    except ModelFileDamaged as error:
        assert error.why
        return
    for one in model.tensors:
        assert model.data_offset <= one.offset <= one.offset + one.nbytes <= path.stat().st_size
        assert one.nbytes == TYPE_BY_NAME[one.type].bits_per_weight * one.elements / 8


def test_the_samples_cover_every_scalar_type():
    assert set(CODES) | {STRING, ARRAY} == set(range(13))
