"""Embeddings as JSON: float32 numbers as Go writes them, and the two answers around them."""

from __future__ import annotations

import json
import struct
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.wire.embedding_answers import embed_body, embedding_body, vector_json
from app.wire.go_json import JsonError
from app.wire.ollama_answers import Costs

# What encoding/json of Go 1.26 makes of a float32 with these bits.
OF_GO = [
    (0x00000000, "0"), (0x80000000, "-0"), (0x3F800000, "1"), (0xBF800000, "-1"), (0x3DCCCCCD, "0.1"),
    (0xBE800000, "-0.25"), (0x42C80000, "100"), (0x4B800000, "16777216"), (0x4CEB79A3, "123456790"),
    (0x60AD78EC, "100000000000000000000"), (0x6258D727, "1e+21"), (0x7F7FFFFF, "3.4028235e+38"),
    (0x358637BD, "0.000001"), (0x358637BC, "9.999999e-7"), (0x377BA882, "0.000015"), (0x37D6BF95, "0.0000256"),
    (0xB3D6BF95, "-1e-7"), (0x3C24AB49, "0.010050603"), (0x3EAAAAAB, "0.33333334"), (0x3F2AAAAB, "0.6666667"),
    (0xBE75AC09, "-0.23991407"), (0x41142C86, "9.26087"), (0xBB813C1A, "-0.0039439322"), (0x40285972, "2.6304593"),
    (0x3A8BCC81, "0.0010665805"), (0x37D48C9D, "0.000025337848"), (0x389C318A, "0.00007447887"),
    (0x353753DE, "6.8294855e-7"), (0xBF9DBA2F, "-1.2322444"), (0xBE99987F, "-0.29999158"),
    (0xB7855247, "-0.000015893149"), (0xC09553D2, "-4.666482"), (0x3E2DA7BB, "0.16958515"),
    (0x37183950, "0.00000907325"), (0xB951D16D, "-0.0002000981"), (0xBD33C1E8, "-0.043886095"),
    (0x359BEB8A, "0.0000011616951"), (0xB59D789E, "-0.0000011732516"), (0x354EF25E, "7.709367e-7"),
]  # fmt: skip


def of_bits(bits: int) -> float:
    return struct.unpack("<f", struct.pack("<I", bits))[0]


@pytest.mark.parametrize(("bits", "text"), OF_GO)
def test_a_number_is_written_as_go_writes_a_float32(bits: int, text: str):
    assert vector_json(array("f", [of_bits(bits)])).decode() == f"[{text}]"


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False)))
def test_what_was_written_is_read_as_the_same_float32_numbers(numbers: list[float]):
    values = array("f", numbers)
    assert array("f", json.loads(vector_json(values))) == values


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_what_is_no_number_is_not_written(number: float):
    with pytest.raises(JsonError):
        vector_json(array("f", [0.5, number]))


def test_the_answer_names_the_model_as_asked_and_leaves_zero_costs_out():
    written = embed_body('a"b', [b"[1]", b"[0.5]"], Costs(total=9, load=4, prompt_tokens=2))
    told = '"total_duration":9,"load_duration":4,"prompt_eval_count":2'
    assert written.decode() == f'{{"model":"a\\"b","embeddings":[[1],[0.5]],{told}}}'
    assert embed_body("m", [b"[1]"], Costs()) == b'{"model":"m","embeddings":[[1]]}'


def test_a_request_that_only_loads_is_answered_with_no_vectors():
    assert embed_body("m", []) == b'{"model":"m","embeddings":[]}'
    assert embedding_body(()) == b'{"embedding":[]}'


def test_the_legacy_answer_has_float64_numbers():
    assert embedding_body(array("f", [of_bits(0x3C24AB49)])) == b'{"embedding":[0.010050603188574314]}'
