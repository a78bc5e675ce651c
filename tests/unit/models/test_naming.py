"""Quantization labels in tags, in all the forms that are about, and sizes as Ollama prints them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.models.ggml_types import FILE_TYPES
from app.models.naming import (
    canonical_label,
    file_type_name,
    nominal_bits,
    parameter_size,
    parse_name,
    read_tag,
    same_model,
    with_level,
)
from app.models.tensor_types import DEFAULT_TYPES

FORMS = [  # tag, stem, label, quantization-aware
    ("3b-instruct-q4_K_M", "3b-instruct", "Q4_K_M", False),
    ("3b-instruct-q4_k_m", "3b-instruct", "Q4_K_M", False),
    ("3b-instruct-fp16", "3b-instruct", "F16", False),
    ("0.5b-instruct-f16", "0.5b-instruct", "F16", False),
    ("27b-it-bf16", "27b-it", "BF16", False),
    ("135m-instruct-q8_0", "135m-instruct", "Q8_0", False),
    ("135m-instruct-q6_K", "135m-instruct", "Q6_K", False),
    ("2.7b-chat-v2-q3_K_S", "2.7b-chat-v2", "Q3_K_S", False),
    ("8x7b-instruct-v0.1-q5_1", "8x7b-instruct-v0.1", "Q5_1", False),
    ("4b-it-qat", "4b-it-qat", "", True),
    ("12b-it-qat-q4_0", "12b-it-qat", "Q4_0", True),
    ("2b-nvfp4", "2b", "NVFP4", False),
    ("2b-mxfp8", "2b", "MXFP8", False),
    ("20b-mxfp4", "20b", "MXFP4", False),
    ("20b", "20b", "", False),
    ("latest", "", "", False),
    ("Q4_K_M", "", "Q4_K_M", False),
    ("UD-Q4_K_XL", "", "UD-Q4_K_XL", False),
    ("UD-IQ2_XXS", "", "UD-IQ2_XXS", False),
    ("IQ4_XS", "", "IQ4_XS", False),
    ("iq4_nl", "", "IQ4_NL", False),
    ("7b-tq1_0", "7b", "TQ1_0", False),
    ("7b-int4", "7b", "INT4", False),
    ("7b-4bit", "7b", "INT4", False),
    ("7b-8-bit", "7b", "INT8", False),
    ("Llama-3.2-3B-Instruct-Q4_K_M.gguf", "Llama-3.2-3B-Instruct", "Q4_K_M", False),
    ("7b-q4", "7b", "", False),  # names no format, but is no part of the model's name either
    ("8b-text-q2_K", "8b-text", "Q2_K", False),
    ("70b-q3_K_L", "70b", "Q3_K_L", False),
    ("1.5b-fp32", "1.5b", "F32", False),
    ("v1.5-32k-q4_1", "v1.5-32k", "Q4_1", False),
    ("0.6b-q4_k_m-cpu", "0.6b-cpu", "Q4_K_M", False),
]


@pytest.mark.parametrize(("tag", "stem", "label", "qat"), FORMS)
def test_a_tag_is_taken_apart(tag, stem, label, qat):
    reading = read_tag(tag)
    assert (reading.stem, reading.label, reading.qat) == (stem, label, qat)


@pytest.mark.parametrize(
    "tag", ["qwen2", "3b-instruct", "e2b", "q44_0", "xq4_0", "q4_0x", "bf160", "quatsch", "it-qatar"]
)
def test_what_only_looks_like_a_label_is_none(tag):
    reading = read_tag(tag)
    assert (reading.stem, reading.label, reading.qat) == (tag, "", False)


def test_dynamic_mixtures_are_marked():
    assert read_tag("UD-Q4_K_XL").dynamic
    assert not read_tag("q4_K_M").dynamic


@given(st.text(max_size=200))
def test_any_text_is_a_tag(text):
    reading = read_tag(text)
    assert len(reading.stem) <= len(text)


@pytest.mark.parametrize("name", sorted(DEFAULT_TYPES))
def test_every_file_type_is_read_from_a_tag(name):
    assert read_tag(f"7b-chat-{name.lower()}").label == name


@pytest.mark.parametrize(
    ("text", "label"),
    [("unknown", ""), ("", ""), ("F16", "F16"), ("q4_K_M", "Q4_K_M"), ("mxfp4", "MXFP4"), (" nvfp4 ", "NVFP4")],
)
def test_a_hosts_label_is_brought_to_one_spelling(text, label):
    assert canonical_label(text) == label


def test_file_types_have_ollamas_names():
    assert [file_type_name(number) for number in (0, 1, 2, 7, 15, 18, 32, 38)] == [
        "F32", "F16", "Q4_0", "Q8_0", "Q4_K_M", "Q6_K", "BF16", "MXFP4_MOE",
    ]  # fmt: skip
    assert file_type_name(1024 + 15) == "Q4_K_M"
    assert [file_type_name(number) for number in (4, 99, None)] == ["unknown"] * 3


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (134_515_008, "134.52M"),  # recorded
        (8_030_261_248, "8.0B"),
        (1_235_814_400, "1.2B"),
        (596_049_920, "596.05M"),
        (2_000_000_000, "2B"),
        (1_000_000, "1M"),
        (22_565_376, "22.57M"),
        (999_999, "1000K"),
        (1500, "2K"),
        (999, "999"),
        (0, "0"),
    ],
)
def test_parameter_counts_read_as_in_ollama(count, text):
    assert parameter_size(count) == text


def test_labels_are_ordered_by_their_bits():
    ladder = [
        "F32", "F16", "Q8_0", "Q6_K", "Q5_K_M", "Q5_K_S", "Q4_K_M", "Q4_K_S", "IQ4_XS", "Q3_K_L", "Q3_K_M", "Q3_K_S",
        "Q2_K", "IQ2_XS", "IQ1_M", "IQ1_S",
    ]  # fmt: skip
    assert sorted(ladder, key=nominal_bits, reverse=True) == ladder
    assert nominal_bits("UD-Q4_K_XL") > nominal_bits("Q4_K_M")
    assert nominal_bits("INT4") == 4.0
    assert nominal_bits("whatever") == 0.0


@pytest.mark.parametrize("name", sorted(FILE_TYPES.values()))
def test_every_file_type_has_nominal_bits(name):
    assert 1 < nominal_bits(name) <= 32


def test_spellings_of_one_model_are_the_same():
    assert same_model("x", "X:latest")
    assert same_model("registry.ollama.ai/library/x", "x:LATEST")
    assert not same_model("x", "x:q4_0")
    assert not same_model("x", "hf.co/library/x")
    assert parse_name("hf.co/bartowski/Llama-3.2-3B-Instruct-GGUF:Q4_K_M").tag == "Q4_K_M"


@pytest.mark.parametrize(
    ("source", "level", "made"),
    [
        ("smollm2:135m-instruct-fp16", "Q5_K_M", "smollm2:135m-instruct-q5_K_M"),
        ("llama3.2:3b-instruct-fp16", "Q8_0", "llama3.2:3b-instruct-q8_0"),
        ("mine", "Q4_K_M", "mine:q4_K_M"),
        ("me/mine:7b", "Q6_K", "me/mine:7b-q6_K"),
        ("gemma3:27b-it-bf16", "Q2_K", "gemma3:27b-it-q2_K"),
        ("hf.co/user/Model-GGUF:F16", "Q5_K_M", "hf.co/user/Model-GGUF:Q5_K_M"),
        ("m:bf16-chat", "IQ4_XS", "m:chat-iq4_XS"),
    ],
)
def test_a_quantization_is_named_by_the_convention_of_its_source(source: str, level: str, made: str) -> None:
    assert with_level(source, level) == made
    assert read_tag(parse_name(made).tag).label == level
