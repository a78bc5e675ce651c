"""Sizes and times of quantizations that are not made yet, beside what llama-quantize really made."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.core.errors import BadRequest
from app.core.hosts import TensorInfo
from app.models.gguf_file import read_gguf
from app.models.quantized_size import ShownModel, growth, shown_model, source_bytes
from app.models.quantizer import quantize
from app.models.quantizer_speed import predicted_seconds, weights_a_second
from app.services.make_offers import LADDER
from tests.gguf_samples import small_llama


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of 192, which the K formats cannot hold, so that stand-ins are among the types."""
    path = tmp_path_factory.mktemp("size") / "source.gguf"
    path.write_bytes(small_llama(3, 192, "F16").bytes())
    return path


@pytest.mark.parametrize("level", LADDER)
def test_the_growth_of_every_level_is_that_of_the_file_made(source: Path, tmp_path: Path, level: str) -> None:
    model = read_gguf(source)
    made = quantize(source, tmp_path / "made.gguf", level, threads=1)
    told = growth(model, level)
    # The header has two numbers at most that the source had not.
    assert 0 <= made.size - (model.size + told) <= 160


def test_what_a_host_shows_tells_the_same_as_the_file(source: Path) -> None:
    model = read_gguf(source)
    info = {key: value for key, value in model.metadata.items() if not isinstance(value, list)}
    shown = shown_model(info, [TensorInfo(t.name, t.type, t.shape) for t in model.tensors])
    assert isinstance(shown, ShownModel) and shown.architecture == "llama"
    assert [growth(shown, level) for level in LADDER] == [growth(model, level) for level in LADDER]
    assert source_bytes(shown) == model.tensor_bytes


@pytest.mark.parametrize(
    "tensor", [TensorInfo("a", "F99", (32,)), TensorInfo("a", "Q4_0", (33,)), TensorInfo("a", "F16", ())]
)
def test_tensors_that_make_no_sense_are_not_reckoned_with(tensor: TensorInfo) -> None:
    assert shown_model({}, [tensor]) is None and shown_model({}, []) is None


def test_a_level_that_cannot_be_made_is_refused(source: Path) -> None:
    with pytest.raises(BadRequest):
        growth(read_gguf(source), "Q9_X")


def test_time_follows_from_this_machines_kernels(source: Path) -> None:
    model = read_gguf(source)
    assert weights_a_second("Q8_0", "F16") > 100_000
    one, two = predicted_seconds(model, "Q6_K", cores=1), predicted_seconds(model, "Q6_K", cores=2)
    assert one == pytest.approx(2 * two) and one > 0
    assert predicted_seconds(model, "F16") == 0.0
