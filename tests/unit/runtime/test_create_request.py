"""What a create request may say, and Ollama's sentences for what it may not."""

from __future__ import annotations

import pytest

from app.core.errors import BadRequest
from app.runtime.create_request import MAX_TEXT, CannotCreate, Overrides, read_request, settled
from tests.recordings import recording


def refusal(body: dict, status: int = 400) -> str:
    with pytest.raises(BadRequest) as caught:
        settled(read_request({"model": "a"} | body))
    assert caught.value.status == status
    return caught.value.message


def test_the_old_names_of_the_fields_are_understood_and_the_new_ones_win():
    old = read_request({"name": "old", "quantization": "q8_0"})
    assert (old.name.shortest, old.quantize) == ("old:latest", "Q8_0")
    both = read_request({"model": "new", "name": "old", "quantize": "q4_K_M", "quantization": "q8_0"})
    assert (both.name.shortest, both.quantize) == ("new:latest", "Q4_K_M")


def test_spaces_around_the_name_are_not_dropped():
    with pytest.raises(BadRequest, match="invalid model name"):
        read_request({"model": " a"})


def test_nulls_are_absent():
    fields = ("from", "files", "adapters", "quantize", "template", "license", "info", "parameters", "messages")
    request = read_request(dict.fromkeys(fields) | {"model": "a"})
    assert (request.files, request.adapters, request.source, dict(request.parameters)) == (None, None, "", {})
    assert settled(request).licences == ()


@pytest.mark.parametrize("path", ["/a", "a/", "a//b", "../a", "a/../b", "a/./b", "", ".."])
def test_a_path_that_could_lead_out_is_refused(path):
    for key in ("files", "draft_files"):
        assert refusal({key: {path: "sha256:x"}}) == "file path must be relative"


def test_the_path_of_an_adapter_is_not_looked_at_but_its_digest_has_to_be_there():
    assert read_request({"model": "a", "adapters": {"/lora.gguf": "sha256:x"}}).adapters == {"/lora.gguf": "sha256:x"}
    assert refusal({"adapters": {"lora.gguf": ""}}) == "invalid digest format"


def test_a_draft_quantization_needs_a_draft():
    assert refusal({"draft_quantize": "q8_0"}) == "--draft-quantize requires a DRAFT model"


@pytest.mark.parametrize("wanted", ["q9_Z", "Q3_K_M", "Q5_K_M", "Q6_K", "Q2_K", "IQ4_XS", "Q4_0", "fp16", "q8_0 ", "0"])
def test_the_types_that_ollama_does_not_make_are_refused_in_its_words(wanted):
    told = f"unsupported quantization type {wanted.upper()} - supported types are F32, F16, Q4_K_S, Q4_K_M, Q8_0"
    assert refusal({"quantize": wanted}, 500) == told


@pytest.mark.parametrize("name", ["create_bad_quantize", "create_quantize_q3", "create_template_bad"])
def test_recorded_refusals_come_before_any_work(name):
    expected = recording(name)
    assert refusal(expected.request.body, expected.status) == expected.body["error"]


@pytest.mark.parametrize(
    ("licence", "kept"),
    [("MIT", ("MIT",)), (["a", "b"], ("a", "b")), ([], ()), ("", ()), (None, ()), (["a", None, ""], ("a", "", ""))],
)
def test_a_licence_is_a_text_or_a_list_of_them(licence, kept):
    assert settled(read_request({"model": "a", "license": licence})).licences == kept


@pytest.mark.parametrize(
    ("licence", "told"),
    [
        (7, "json: cannot unmarshal number into Go value of type []string"),
        (True, "json: cannot unmarshal bool into Go value of type []string"),
        ({"a": 1}, "json: cannot unmarshal object into Go value of type []string"),
        (["a", 7], "json: cannot unmarshal number into Go value of type string"),
        (["a", ["b"]], "json: cannot unmarshal array into Go value of type string"),
    ],
)
def test_another_kind_of_licence_is_refused_in_gos_words(licence, told):
    assert refusal({"license": licence}, 500) == told


def test_info_sets_values_of_the_config():
    info = {"capabilities": ["tools", 7], "model_family": "f", "base_name": "b", "quantization_level": "Q",
            "parameter_size": "7B", "context_length": 4096.0, "embedding_length": 64, "unknown": []}  # fmt: skip
    assert settled(read_request({"model": "a", "info": info})).overrides == Overrides(
        ("tools", ""), "f", "b", "Q", "7B", 4096, 64
    )


@pytest.mark.parametrize(
    ("info", "told"),
    [
        ({"model_family": 7}, 'info field "model_family" must be a string'),
        ({"parameter_size": None}, 'info field "parameter_size" must be a string'),
        ({"context_length": "7"}, 'info field "context_length" must be a number'),
        ({"context_length": True}, 'info field "context_length" must be a number'),
        ({"context_length": -1}, 'info field "context_length" must be a non-negative integer'),
        ({"embedding_length": 1.5}, 'info field "embedding_length" must be a non-negative integer'),
        ({"embedding_length": 1e300}, 'info field "embedding_length" must be a non-negative integer'),
    ],
)
def test_info_of_another_kind_is_refused(info, told):
    assert refusal({"info": info}) == told


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"template": "{{ .Nope"}, "template error: template: :1: unclosed action"),
        ({"template": "{{ nope }}"}, 'template error: template: :1: function "nope" not defined'),
        ({"template": "x" * 100_000}, "template error: the template is longer than 65536 bytes"),
        ({"template": "{{ if .A }}" * 2000 + "{{ end }}" * 2000}, "template error: "),
        ({"system": "x" * (MAX_TEXT + 1)}, f"system is larger than {MAX_TEXT} bytes"),
        ({"system": "é" * (MAX_TEXT // 2 + 1)}, f"system is larger than {MAX_TEXT} bytes"),
        ({"license": ["x" * (MAX_TEXT + 1)]}, f"license is larger than {MAX_TEXT} bytes"),
        ({"license": ["x"] * 65}, "a model can carry at most 64 licences"),
        ({"messages": [{"role": "user", "content": "x"}] * 10_001}, "a model can carry at most 10000 messages"),
        ({"files": {f"{n}.gguf": "sha256:x" for n in range(1001)}}, "a model can have at most 1000 files"),
    ],
)
def test_more_than_a_model_can_carry_is_refused(body, told):
    assert refusal(body).startswith(told)


def test_a_refusal_that_ollama_answers_with_500_is_still_the_fault_of_the_request():
    assert issubclass(CannotCreate, BadRequest)
