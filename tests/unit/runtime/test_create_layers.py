"""The small layers and the config, byte for byte as Go writes them."""

from __future__ import annotations

import hashlib

import pytest

from app.core.errors import BadRequest, StoreError
from app.models.gguf_file import read_gguf
from app.runtime.create_layers import Base, LayerDraft, base_of, config_layer, merged_parameters, text_layer, with_texts
from app.runtime.create_request import MAX_TEXT, Overrides, read_request, settled
from app.runtime.manifests import LICENSE, MESSAGES, MODEL, PARAMS, SYSTEM, TEMPLATE
from tests.creating import stored, tiny
from tests.gguf_samples import STRING
from tests.recordings import recording

NOTHING = Base()
MODEL_LAYER = LayerDraft(MODEL, "sha256:m", 1, source="base:latest")


def layers_for(body: dict, layers=(MODEL_LAYER,), parameters=None) -> list[LayerDraft]:
    request = read_request({"model": "a"} | body)
    return with_texts(layers, request, settled(request), parameters or {})


def written(body: dict, media_type: str) -> str:
    return next(layer for layer in layers_for(body) if layer.media_type == media_type).content.decode()


def merged(body: dict, *existing: bytes, base: Base = NOTHING, models=()) -> dict:
    return merged_parameters(read_request({"model": "a"} | body), base, models, existing)


def test_the_recorded_derived_model_has_the_recorded_layers_in_order():
    body = recording("create_derived").request.body
    made = layers_for(body, parameters=merged(body))[1:]
    blobs = stored("registry.ollama.ai__library__pirate__latest")["small_blobs"]
    assert [layer.media_type for layer in made] == [SYSTEM, LICENSE, PARAMS, MESSAGES]
    for layer in made:
        assert layer.content.decode() == blobs[layer.digest]
        assert layer.digest == f"sha256:{hashlib.sha256(layer.content).hexdigest()}"


def test_what_a_request_sets_replaces_and_goes_to_the_end_and_licences_are_added():
    base = [
        MODEL_LAYER,
        *(LayerDraft(kind, f"sha256:{kind}", 1, source="b") for kind in (TEMPLATE, SYSTEM, LICENSE, PARAMS)),
    ]
    made = layers_for({"system": "new", "license": ["one", "two"]}, base, {"a": 1})
    assert [layer.media_type for layer in made] == [MODEL, TEMPLATE, LICENSE, SYSTEM, LICENSE, LICENSE, PARAMS]
    assert [layer.source for layer in made] == ["base:latest", "b", "b", "", "", "", ""]


def test_without_messages_and_parameters_those_of_the_base_stay():
    base = [MODEL_LAYER, LayerDraft(MESSAGES, "sha256:x", 1, source="b")]
    assert layers_for({}, base) == base


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ({"b": 1, "a": {"d": 1, "c": 2}}, '{"a":{"c":2,"d":1},"b":1}\n'),
        ({"x": 0.1, "y": 1e21, "z": 1.0}, '{"x":0.1,"y":1e+21,"z":1}\n'),
        ({"seed": 2**53 + 1}, '{"seed":9007199254740992}\n'),
        ({"seed": 10**25}, '{"seed":1e+25}\n'),
        ({"stop": ["<|im_end|>", "é&"]}, '{"stop":["\\u003c|im_end|\\u003e","é\\u0026"]}\n'),
        ({"n": None, "t": True}, '{"n":null,"t":true}\n'),
    ],
)
def test_parameters_are_written_as_go_writes_a_map(parameters, text):
    made = layers_for({}, parameters=parameters)
    assert made[-1].content.decode() == text


def test_the_parameters_of_the_request_win_over_those_of_the_base():
    assert merged({"parameters": {"a": 1}}, b'{"a":2,"b":3}\n', b"null") == {"a": 1, "b": 3}


@pytest.mark.parametrize("existing", [b"[1]", b"{", b"7"])
def test_parameters_of_a_base_that_cannot_be_read_are_an_error(existing):
    with pytest.raises(StoreError, match="the parameters of the model"):
        merged({}, existing)


def test_a_message_is_written_as_gos_struct():
    call = {"function": {"name": "f", "arguments": {"z": 1, "a": "<"}}}
    messages = [
        {"content": "x", "role": "user", "unknown": 1, "images": ["aGk="]},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [call, {"id": "1", "function": {"index": 2}}],
            "thinking": "t",
        },
        {"role": "tool", "content": "y", "tool_name": "f", "tool_call_id": "1"},
        {},
    ]
    assert written({"messages": messages}, MESSAGES) == (
        '[{"role":"user","content":"x","images":["aGk="]},'
        '{"role":"assistant","content":"","thinking":"t","tool_calls":['
        '{"function":{"index":0,"name":"f","arguments":{"z":1,"a":"\\u003c"}}},'
        '{"id":"1","function":{"index":2,"name":"","arguments":{}}}]},'
        '{"role":"tool","content":"y","tool_name":"f","tool_call_id":"1"},'
        '{"role":"","content":""}]\n'
    )


def test_a_layer_that_could_not_be_read_back_is_refused():
    with pytest.raises(BadRequest, match="too large"):
        text_layer(PARAMS, bytes(MAX_TEXT + 1))


def config(body: dict, base: Base = NOTHING, models=(), draft=None) -> str:
    request = read_request({"model": "a"} | body)
    return config_layer(request, settled(request).overrides, base, models, draft).content.decode()


@pytest.fixture
def small(tmp_path):
    def file(**changed):
        path = tmp_path / "m.gguf"
        path.write_bytes(tiny(**changed).bytes())
        return read_gguf(path)

    return file


def test_the_config_has_gos_fields_in_gos_order(small):
    base = Base(renderer="r", parser="p", requires="0.1", capabilities=("vision",))
    body = {
        "parser": "own",
        "info": {"capabilities": ["tools"], "context_length": 5, "embedding_length": 6, "base_name": "b"},
    }
    assert config(body, base, [small()], small()) == (
        '{"model_format":"gguf","model_family":"llama","model_families":["llama"],"model_type":"47K","file_type":"F16",'
        '"renderer":"r","parser":"own","requires":"0.1","capabilities":["vision","tools"],"context_length":5,'
        '"embedding_length":6,"base_name":"b","draft":{"model_format":"gguf","architecture":"llama"},'
        '"architecture":"amd64","os":"linux"}\n'
    )


def test_a_family_of_the_request_stands_before_the_files_own(small):
    info = {"model_family": "f", "quantization_level": "Q", "parameter_size": "1B"}
    assert config({"info": info}, models=[small()]).startswith(
        '{"model_format":"gguf","model_family":"f","model_families":["f","llama"],"model_type":"1B","file_type":"Q",'
    )


def test_a_model_without_weights_has_an_empty_config():
    assert config({}) == (
        '{"model_format":"","model_family":"","model_families":null,"model_type":"","file_type":"",'
        '"architecture":"amd64","os":"linux"}\n'
    )


def test_architectures_with_a_renderer_of_their_own_name_it_for_a_real_ollama(small):
    gemma = small(general__architecture=(STRING, "gemma4"))
    assert '"renderer":"gemma4","parser":"gemma4"' in config({}, models=[gemma])
    assert merged({}, models=[gemma]) == {"stop": ["<turn|>"]}
    assert merged({"parameters": {"stop": ["x"]}}, models=[gemma]) == {"stop": ["x"]}
    assert merged({}, base=Base(renderer="r", parser="p"), models=[gemma]) == {}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"renderer":7,"capabilities":"x"}'])
def test_a_config_that_cannot_be_read_hands_nothing_down(content):
    assert base_of(content) == Base()


def test_overrides_are_empty_where_nothing_was_said():
    assert settled(read_request({"model": "a"})).overrides == Overrides()
