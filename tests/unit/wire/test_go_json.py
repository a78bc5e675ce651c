"""JSON as Go writes and reads it. Expected texts were printed by Go 1.26's encoding/json."""

from __future__ import annotations

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.wire.go_json import MAX_DEPTH, MAX_MARKS, JsonError, dumps, loads, shortest_float32

NUMBERS = [
    (1e-5, "0.00001"),
    (1.5e-7, "1.5e-7"),
    (100000.0, "100000"),
    (1e21, "1e+21"),
    (1.5e22, "1.5e+22"),
    (123456789012345680000.0, "123456789012345680000"),
    (0.1, "0.1"),
    (-2.5e-6, "-0.0000025"),
    (1e-6, "0.000001"),
    (1e20, "100000000000000000000"),
    (1152921504606846976.0, "1152921504606847000"),
    (-0.0, "-0"),
    (0.0, "0"),
]
SENTENCES = [
    ('{"model": ', "unexpected EOF"),
    ('{"a" 1}', "invalid character '1' after object key"),
    ("{a:1}", "invalid character 'a' looking for beginning of object key string"),
    ("[1 2]", "invalid character '2' after array element"),
    ("[1,]", "invalid character ']' looking for beginning of value"),
    ("trux", "invalid character 'x' in literal true (expecting 'e')"),
    ('"a\nb"', "invalid character '\\n' in string literal"),
    ('"\\x"', "invalid character 'x' in string escape code"),
    ('"\\u12g4"', "invalid character 'g' in \\u hexadecimal character escape"),
    ("-a", "invalid character 'a' in numeric literal"),
    ('{"a":1.x}', "invalid character 'x' after decimal point in numeric literal"),
    ('{"a":1e}', "invalid character '}' in exponent of numeric literal"),
    ('{"a":1,}', "invalid character '}' looking for beginning of object key string"),
    ('{"a":1 "b"}', "invalid character '\"' after object key:value pair"),
    ('{"a":[{"b":nul]}', "invalid character ']' in literal null (expecting 'l')"),
    ('{"a":NaN}', "invalid character 'N' looking for beginning of value"),
    ("é", "invalid character 'Ã' looking for beginning of value"),
    ("'", "invalid character '\\'' looking for beginning of value"),
    ("\x01", "invalid character '\\x01' looking for beginning of value"),
    ("1e999", "json: cannot unmarshal number 1e999 into Go value of type float64"),
]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(-(2.0**53), 2.0**53) | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize(("value", "text"), NUMBERS)
def test_numbers_are_written_as_go_writes_them(value: float, text: str):
    assert dumps(value).decode() == text


def test_markup_and_line_separators_are_escaped_and_other_text_is_not():
    assert dumps('<a>&\u2028\u2029\x85é\n\t\x01"\\') == (
        '"\\u003ca\\u003e\\u0026\\u2028\\u2029\\u0085é\\n\\t\\u0001\\"\\\\"'.encode()
    )


def test_a_lone_surrogate_is_replaced_in_both_directions():
    assert loads('{"\\ud800a":["\\udc00"]}') == {"\ufffda": ["\ufffd"]}
    assert dumps("\ud800") == '"\ufffd"'.encode()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_json_cannot_carry_is_an_error(value: float):
    with pytest.raises(JsonError, match="unsupported value"):
        dumps({"a": [value]})


@given(json_values)
def test_what_is_written_reads_back_the_same_here_and_in_python(value: object):
    written = dumps(value)  # type: ignore[arg-type]
    assert loads(written) == value
    assert json.loads(written) == value


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_float_reads_back_the_same(value: float):
    assert float(loads(dumps(value))) == value  # type: ignore[arg-type]


@given(json_values)
def test_a_written_record_is_one_line_for_every_splitter(value: object):
    assert len(dumps([value]).decode().splitlines()) == 1  # type: ignore[list-item]


@pytest.mark.parametrize(("text", "sentence"), SENTENCES)
def test_a_broken_text_is_explained_in_gos_words(text: str, sentence: str):
    with pytest.raises(JsonError) as caught:
        loads(text)
    assert (caught.value.message, caught.value.empty) == (sentence, False)


@given(st.text(alphabet='{}[]",:0123456789truefalsn\\u e-+.', max_size=40))
def test_every_text_is_read_or_explained(text: str):
    try:
        loads(text)
    except JsonError as error:
        assert error.message


@pytest.mark.parametrize("text", ["", "  \n"])
def test_nothing_at_all_is_told_apart_from_a_broken_text(text: str):
    with pytest.raises(JsonError) as caught:
        loads(text)
    assert caught.value.empty


def test_only_the_first_value_is_read_as_gos_decoder_does():
    assert loads('{"a":1} and more') == {"a": 1}


def test_nesting_is_bounded_and_brackets_in_strings_do_not_count():
    assert loads("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    assert loads(json.dumps(["[" * 1000])) == ["[" * 1000]
    with pytest.raises(JsonError, match="exceeded max depth"):
        loads("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1))
    with pytest.raises(JsonError, match="exceeded max depth"):
        loads("[" * 1_000_000)


def test_the_number_of_values_is_bounded_and_marks_in_strings_do_not_count():
    assert loads(json.dumps({"prompt": "a, [b], {c} " * MAX_MARKS})) == {"prompt": "a, [b], {c} " * MAX_MARKS}
    for many in ("[" + "1," * MAX_MARKS + "1]", "[" + "[]," * MAX_MARKS + "[]]", '{"a":[' + '"\\\\",' * MAX_MARKS):
        with pytest.raises(JsonError, match=f"more than {MAX_MARKS} values"):
            loads(many)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('{"a":"' + "x" * 5_000_000, "unexpected EOF"),
        ('{"a":"' + "\\n" * 2_000_000 + "\n", "invalid character '\\n' in string literal"),
        (" " * 5_000_000 + "x", "invalid character 'x' looking for beginning of value"),
        ('["' + "\\u00e9" * 1_000_000 + "\\u00eg", "invalid character 'g' in \\u hexadecimal character escape"),
    ],
)
def test_a_long_broken_text_is_explained_at_the_speed_of_reading_it(text: str, sentence: str):
    began = time.process_time()
    with pytest.raises(JsonError) as caught:
        loads(text)
    assert caught.value.message == sentence
    assert time.process_time() - began < 5, "it is walked over character by character"


def test_a_number_of_a_million_digits_is_no_work():
    with pytest.raises(JsonError, match="cannot unmarshal number"):
        loads("9" * 1_000_000)


def test_a_float32_is_shown_with_the_digits_it_needs():
    assert shortest_float32(9.999999747378752e-06) == 1e-05
    assert shortest_float32(0.10000000149011612) == 0.1
    assert shortest_float32(100000.0) == 100000.0
