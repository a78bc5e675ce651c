"""Where a model can come from: uploads of every kind, other models, and files that are not what they claim."""

from __future__ import annotations

import pytest

from app.models.gguf_file import read_gguf
from app.runtime.manifests import ADAPTER, MODEL, PARAMS, PROJECTOR, SYSTEM, TEMPLATE
from app.runtime.model_store import ModelStore
from app.wire.go_json import loads
from tests.creating import created, loose_files, put, sound_names, tiny
from tests.gguf_samples import BOOL, STRING, U16, U32, Sample, Tensor

pytestmark = pytest.mark.anyio
CHATML = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>'"
    " + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
SUCCESS = {"status": "success"}
SAFETENSORS = "this runtime makes models from GGUF files only; convert the safetensors to GGUF first"


@pytest.fixture
def store(tmp_path) -> ModelStore:
    return ModelStore(tmp_path / "models")


async def imported(store: ModelStore, name: str, sample: Sample | bytes, **more) -> list:
    return await created(store, {"model": name, "files": {"m.gguf": put(store, sample)}} | more)


def config_of(store: ModelStore, name: str) -> dict:
    return loads(store.read_blob(store.manifest(name).config))


def weights_of(store: ModelStore, name: str):
    return read_gguf(store.blob_path(store.manifest(name).layer(MODEL).digest))


async def test_an_import_is_in_llama_quantizes_order_and_its_weights_are_the_same(store):
    sample = tiny(layers=12, general__alignment=(U32, 64))
    sample.alignment = 64
    sample.tensors = sorted(sample.tensors, key=lambda tensor: tensor.name)  # blk.10 before blk.2
    assert (await imported(store, "a", sample))[-1] == SUCCESS
    model = weights_of(store, "a")
    names = [tensor.name for tensor in model.tensors]
    assert names[:3] == ["output_norm.weight", "token_embd.weight", "blk.0.attn_k.weight"]
    assert names.index("blk.2.ffn_up.weight") < names.index("blk.10.ffn_up.weight")
    keys = [key for key, *_ in sample.entries if key != "general.file_type"]
    assert list(model.metadata) == [*keys, "general.quantization_version", "general.file_type"]
    content = model.path.read_bytes()
    data = {tensor.name: tensor.bytes() for tensor in sample.tensors}
    for tensor in model.tensors:
        assert content[tensor.offset : tensor.offset + tensor.nbytes] == data[tensor.name]
        assert tensor.offset % 64 == 0


async def test_an_import_written_once_is_left_as_it_is_the_second_time(store):
    await imported(store, "a", tiny())
    first = store.manifest("a").layer(MODEL)
    body = {"model": "b", "files": {"again.gguf": first.digest}}
    assert {"status": f"using existing layer {first.digest}"} in await created(store, body)
    assert store.manifest("b").layer(MODEL) == first


async def test_a_known_chat_template_brings_a_template_and_stops_another_does_not(store):
    records = await imported(store, "known", tiny(template=CHATML))
    assert {"status": "using autodetected template chatml"} in records
    assert loads(store.read_blob(store.manifest("known").layer(PARAMS))) == {"stop": ["<|im_start|>", "<|im_end|>"]}
    other = "{{ bos_token }}{% for message in messages %}[INST] {{ message['content'] }} [/INST]{% endfor %}"
    await imported(store, "other", tiny(template=other))
    assert store.manifest("other").layer(TEMPLATE) is None
    assert store.manifest("other").layer(PARAMS) is None


async def test_a_template_of_the_request_replaces_the_detected_one(store):
    records = await imported(store, "a", tiny(template=CHATML), template="{{ .Prompt }}")
    assert {"status": "using autodetected template chatml"} not in records
    assert len(store.manifest("a").layers_of(TEMPLATE)) == 1
    assert store.read_blob(store.manifest("a").layer(TEMPLATE)) == b"{{ .Prompt }}"


@pytest.mark.parametrize(
    ("sample", "label", "written"),
    [
        (tiny("F32"), "F32", 0),
        (tiny("BF16"), "BF16", 32),
        (tiny(general__file_type=None), "F16", 1024 + 1),
        (tiny(general__file_type=(U16, 1)), "F16", 1),
        (tiny(general__file_type=(U32, 999)), "unknown", 999),
    ],
)
async def test_the_file_type_is_the_files_own_or_a_guess_that_says_so(store, sample, label, written):
    await imported(store, "a", sample)
    assert weights_of(store, "a").file_type == written
    assert config_of(store, "a")["file_type"] == label


@pytest.mark.parametrize("source", ["F32", "F16", "BF16"])
@pytest.mark.parametrize(
    ("wanted", "label"),
    [("q8_0", "Q8_0"), ("Q4_K_S", "Q4_K_S"), ("q4_k_m", "Q4_K_M"), ("Q4_K", "Q4_K_M"), ("f32", "F32"), ("f16", "F16"),
     ("bf16", "BF16")],
)  # fmt: skip
async def test_an_unquantized_upload_becomes_every_type_that_ollama_makes(store, source, wanted, label):
    sample = tiny(source, width=256)
    *records, last = await imported(store, "a", sample, quantize=wanted)
    assert last == SUCCESS
    assert config_of(store, "a")["file_type"] == label
    model = weights_of(store, "a")
    expected = {"Q4_K_S": "Q4_K", "Q4_K_M": "Q4_K"}.get(label, label)
    assert {tensor.type for tensor in model.tensors if tensor.name.endswith("attn_q.weight")} == {expected}
    assert records[:2] == [{"status": "parsing GGUF"}, {"status": "verifying conversion"}]


async def test_the_old_name_of_quantize_is_understood(store):
    await imported(store, "a", tiny(), quantization="q8_0")
    assert config_of(store, "a")["file_type"] == "Q8_0"


async def test_what_is_quantized_already_is_refused(store):
    await imported(store, "a", tiny(), quantize="q8_0")
    records = await created(store, {"model": "b", "from": "a", "quantize": "q4_K_M"})
    told = "quantization is only supported for F16, BF16 and F32 models"
    assert records == [{"error": told, "status_code": 500}]
    lying = tiny("F32", general__file_type=(U32, 1))
    index = next(at for at, tensor in enumerate(lying.tensors) if tensor.name == "blk.0.attn_q.weight")
    lying.tensors[index] = Tensor("blk.0.attn_q.weight", "Q8_0", (64, 64))
    assert (await imported(store, "c", lying, quantize="q4_K_M"))[-1] == {"error": told, "status_code": 500}
    assert sound_names(store) == {"a:latest"}


async def test_the_same_type_again_shares_the_layer(store):
    await imported(store, "a", tiny())
    layer = store.manifest("a").layer(MODEL)
    records = await created(store, {"model": "b", "from": "a", "quantize": "F16"})
    assert records[0] == {"status": f"using existing layer {layer.digest}"}
    assert store.manifest("b").layer(MODEL) == layer.shared_from("a:latest")


async def test_progress_is_told_where_it_is_asked_for_and_only_there(store):
    sample = tiny()
    digest = put(store, sample)
    body = {"model": "a", "files": {"m.gguf": digest}, "quantize": "q4_K"}
    silent = await created(store, body)
    assert not [record for record in silent if "total" in record]
    told = [record for record in await created(store, body | {"progress": True}) if "total" in record]
    size = len(sample.bytes())
    assert told[-1] == {
        "status": "quantizing F16 model to Q4_K",
        "digest": "0000000000000000000",
        "total": size,
        "completed": size,
    }
    assert [record.get("completed", 0) for record in told] == sorted(record.get("completed", 0) for record in told)


def parts_of(sample: Sample, count: int) -> list[Sample]:
    """`sample` as llama.cpp's gguf-split has it: the metadata in the first part, a share of the tensors in each."""
    share = -(-len(sample.tensors) // count)
    parts = []
    for number in range(count):
        own = [
            ("split.no", U16, number),
            ("split.count", U16, count),
            ("split.tensors.count", U32, len(sample.tensors)),
        ]
        entries = (sample.entries if number == 0 else []) + own
        parts.append(Sample(entries, sample.tensors[number * share : (number + 1) * share]))
    return parts


def named_parts(store: ModelStore, parts: list[Sample]) -> dict[str, str]:
    return {f"dir/m-{n:05d}-of-{len(parts):05d}.gguf": put(store, part) for n, part in enumerate(parts, 1)}


@pytest.mark.parametrize("more", [{}, {"quantize": "q8_0"}])
async def test_a_model_in_parts_becomes_one_file(store, more):
    sample = tiny(layers=3)
    await imported(store, "whole", sample, **more)
    body = {"model": "parts", "files": named_parts(store, parts_of(sample, 3))} | more
    records = await created(store, body)
    assert records[:3] == [{"status": "parsing GGUF"}] * 3
    assert records[-1] == SUCCESS
    assert store.manifest("parts").layers == store.manifest("whole").layers
    assert config_of(store, "parts") == config_of(store, "whole")


FIRST, SECOND = "dir/m-00001-of-00003.gguf", "dir/m-00002-of-00003.gguf"


@pytest.mark.parametrize(
    ("renamed", "told"),
    [
        ({SECOND: None}, f'split GGUF "{FIRST}" has 2 shards, expected 3'),
        ({FIRST: "m.gguf"}, 'split GGUF "m.gguf" must use llama.cpp split filename pattern'),
        (
            {FIRST: "m-00001-of-00004.gguf"},
            'split GGUF "m-00001-of-00004.gguf" filename count 4 does not match metadata count 3',
        ),
        ({FIRST: SECOND}, f'split GGUF "{SECOND}" filename index 1 does not match metadata index 0'),
    ],
)
async def test_parts_that_do_not_fit_together_are_refused(store, renamed, told):
    files = named_parts(store, parts_of(tiny(layers=3), 3))
    for path, instead in renamed.items():
        digest = files.pop(path)
        files |= {instead: digest} if instead else {}
    assert (await created(store, {"model": "a", "files": files}))[-1] == {"error": told, "status_code": 500}
    assert sound_names(store) == set()


async def test_a_tensor_in_two_parts_is_refused(store):
    parts = parts_of(tiny(layers=3), 3)
    parts[2].tensors.append(parts[0].tensors[0])
    failed = (await created(store, {"model": "a", "files": named_parts(store, parts)}))[-1]
    assert "is in two parts of the model" in failed["error"]
    assert loose_files(store) == {path.name for path in store.blobs.glob("sha256-*")}


async def test_a_projector_beside_a_model_keeps_its_layer(store):
    projector = Sample(
        [("general.architecture", STRING, "clip"), ("clip.has_vision_encoder", BOOL, True),
         ("clip.vision.block_count", U32, 2), ("clip.projector_type", STRING, "resampler")],
        [Tensor("v.blk.0.attn_q.weight", "F32", (32, 32))],
    )  # fmt: skip
    digest = put(store, projector)
    body = {"model": "a", "files": {"m.gguf": put(store, tiny()), "p.gguf": digest}}
    assert (await created(store, body))[-1] == SUCCESS
    layer = store.manifest("a").layer(PROJECTOR)
    assert (layer.digest, layer.source) == (digest, "p.gguf")
    assert config_of(store, "a")["model_families"] == ["llama"]


async def test_an_old_projector_is_told_what_it_is(store):
    projector = Sample(
        [("general.architecture", STRING, "clip"), ("clip.has_vision_encoder", BOOL, True)],
        [Tensor("v.blk.0.attn_q.weight", "F32", (32, 32))],
    )
    body = {"model": "a", "files": {"m.gguf": put(store, tiny()), "p.gguf": put(store, projector)}}
    assert {"status": "updating GGUF projector metadata"} in await created(store, body)
    layer = store.manifest("a").layer(PROJECTOR)
    assert read_gguf(store.blob_path(layer.digest)).text("clip.projector_type") == "mlp"


async def test_weights_with_a_vision_part_inside_stay_as_they_are_and_are_not_quantized(store):
    sample = tiny()
    sample.tensors.append(Tensor("v.blk.0.attn_q.weight", "F16", (64, 64)))
    digest = put(store, sample)
    body = {"model": "a", "files": {"m.gguf": digest}}
    assert (await created(store, body))[-1] == SUCCESS
    assert store.manifest("a").layer(MODEL).digest == digest
    failed = (await created(store, body | {"quantize": "q8_0"}))[-1]
    assert "cannot be quantized here" in failed["error"]


async def test_an_adapter_is_a_layer_of_its_own_and_there_can_be_one(store):
    await imported(store, "base", tiny())
    adapter = put(store, tiny("F32", general__type=(STRING, "adapter")))
    body = {"model": "a", "from": "base", "adapters": {"lora.gguf": adapter}}
    assert (await created(store, body))[-1] == SUCCESS
    assert store.manifest("a").layer(ADAPTER).digest == adapter
    two = body | {"adapters": {"lora.gguf": adapter, "more.gguf": adapter}}
    assert (await created(store, two))[-1] == {"error": "only one adapter is currently supported", "status_code": 400}


async def test_a_draft_model_gets_its_layer_after_the_model(store):
    files = {"m.gguf": put(store, tiny(layers=2))}
    draft = put(store, tiny(general__name=(STRING, "draft")))
    body = {"model": "a", "files": files, "draft_files": {"d.gguf": draft}, "draft_quantize": "q8_0"}
    assert (await created(store, body))[-1] == SUCCESS
    *_, last = store.manifest("a").layers
    assert last.media_type.endswith("image.draft")
    assert read_gguf(store.blob_path(last.digest)).file_type == 7
    assert config_of(store, "a")["draft"] == {"model_format": "gguf", "architecture": "llama"}
    assert config_of(store, "a")["file_type"] == "F16"
    assert config_of(store, "a")["model_families"] == ["llama"]


@pytest.mark.parametrize(
    ("files", "told", "status"),
    [
        ({}, "unknown type", 400),
        ({"model.bin": "noise"}, "unknown type", 400),
        ({"model.gguf": "noise"}, "supplied file was not in GGUF format", 400),
        ({"model.gguf": "empty"}, "supplied file was not in GGUF format", 400),
        ({"model.gguf": "sha256:12"}, "invalid digest format", 500),
        ({"model.gguf": "sha256-../../etc/passwd"}, "invalid digest format", 500),
        ({"model.bin": "sha256:12"}, "unknown type", 400),
        ({"model.safetensors": "noise"}, SAFETENSORS, 400),
        ({"/etc/passwd": "noise"}, "file path must be relative", 400),
        ({"../model.gguf": "noise"}, "file path must be relative", 400),
        ({"a//model.gguf": "noise"}, "file path must be relative", 400),
        ({"model.gguf": ""}, "invalid digest format", 400),
    ],
)  # fmt: skip
async def test_files_that_are_none_are_refused(store, files, told, status):
    known = {"noise": put(store, b"this is no model at all"), "empty": put(store, b"")}
    records = await created(store, {"model": "a", "files": {p: known.get(d, d) for p, d in files.items()}})
    assert records[-1] == {"error": told, "status_code": status}
    assert sound_names(store) == set()


async def test_a_gguf_without_the_ending_is_known_by_its_first_bytes(store):
    body = {"model": "a", "files": {"model": put(store, tiny())}}
    assert (await created(store, body))[-1] == SUCCESS


async def test_a_base_whose_layer_is_gone_or_cut_is_one_clear_error(store):
    await imported(store, "a", tiny(), system="s")
    layer = store.manifest("a").layer(SYSTEM)
    path = store.blob_path(layer.digest)
    path.write_bytes(b"")
    assert (await created(store, {"model": "b", "from": "a"}))[-1]["error"].endswith("it has 0 of 1 bytes")
    path.unlink()
    failed = (await created(store, {"model": "b", "from": "a"}))[-1]
    assert failed == {"error": f"stat {path}: no such file or directory", "status_code": 500}


async def test_a_damaged_blob_is_replaced_where_its_bytes_are_at_hand(store):
    await imported(store, "a", tiny(), system="a text")
    path = store.blob_path(store.manifest("a").layer(SYSTEM).digest)
    path.write_bytes(b"cut")
    assert (await imported(store, "b", tiny(), system="a text"))[-1] == SUCCESS
    assert path.read_bytes() == b"a text"
