"""Our files against llama-quantize's, over all file types recorded of it: formats, sizes, and the bytes of tensors.

Made from the starter model. What llama-quantize did is in tests/data/quantize.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from app.models.gguf_file import GgufFile, GgufTensor, read_gguf
from app.models.quantizer import dequantise_to_f16, quantize
from tests.starter_cache import reference_gguf, starter_gguf

pytestmark = pytest.mark.model

ROOT = Path(__file__).parents[2]
RECORDED = json.loads((ROOT / "tests/data/quantize/llama_quantize_b10499_smollm2.json").read_text())["variants"]
# the F16 file as a real Ollama stored it (recordings create_from_gguf and show)
REFERENCE_SHA256 = "a269e3181fcbb25046f99f64ba8d3c159165b211c2ff4ffca7ba1bb219d2ccd0"


def digest_of(model: GgufFile, tensor: GgufTensor) -> str:
    with model.path.open("rb") as file:
        file.seek(tensor.offset)
        return hashlib.sha256(file.read(tensor.nbytes)).hexdigest()[:16]


def test_all_sixteen_file_types_are_recorded():
    assert len(RECORDED) == 16
    assert all(len(variant["sha256_of_tensor"]) == 5 for variant in RECORDED.values())


@pytest.mark.parametrize("file_type", sorted(RECORDED))
def test_a_file_is_the_one_llama_quantize_makes(file_type, tmp_path):
    recorded = RECORDED[file_type]
    made = quantize(reference_gguf(), tmp_path / "made.gguf", file_type)
    model = read_gguf(made.path)
    tensors = {tensor.name: tensor for tensor in model.tensors}
    listed = {name: kind for kind, names in recorded["tensors"].items() for name in names}

    assert {name: tensors[name].type for name in listed} == listed
    assert {tensor.type for name, tensor in tensors.items() if name not in listed} == {"F32"}
    assert made.types == recorded["types"]
    assert (made.size, model.tensor_bytes) == (recorded["file_bytes"], recorded["tensor_bytes"])
    assert round(model.bits_per_weight, 4) == recorded["bits_per_weight"]
    assert model.file_type == recorded["file_type"]
    assert model.number("general.quantization_version") == recorded["quantization_version"]
    digests = {name: digest_of(model, tensors[name]) for name in recorded["sha256_of_tensor"]}
    assert digests == recorded["sha256_of_tensor"]


def test_the_reference_is_byte_for_byte_the_one_a_real_ollama_stored(tmp_path):
    made = dequantise_to_f16(starter_gguf(), tmp_path / "f16.gguf")
    assert made.sha256 == REFERENCE_SHA256
    assert made.size == 270_885_952


MEASURED = """
import resource, sys
from pathlib import Path
from app.models.quantizer import quantize
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
quantize(Path(sys.argv[1]), Path(sys.argv[2]), "Q4_0", threads=2)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted in other units elsewhere")
def test_memory_is_bounded_by_the_largest_tensor_and_not_by_the_file(tmp_path):
    source = reference_gguf()
    largest = max(tensor.nbytes for tensor in read_gguf(source).tensors)
    measured = subprocess.run(
        [sys.executable, "-c", MEASURED, str(source), str(tmp_path / "made.gguf")],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    grown = int(measured.stdout) * 1024
    assert largest < source.stat().st_size / 4
    assert grown < largest, f"resident memory grew by {grown / 1e6:.0f} MB"
