"""Options of a request, and what makes a reload."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import pytest

from app.core.generation import Json
from app.runtime.library import LocalModel
from app.runtime.options import (
    Launch,
    asked_limits,
    batch_for,
    context_shift,
    prediction_limit,
    read_options,
    slots_for,
)
from app.runtime.settings import RuntimeSettings

SETTINGS = RuntimeSettings(Path("store"))


def test_the_request_wins_over_the_model_and_the_model_over_the_default():
    sampling, launch = read_options(
        {"temperature": 0.1, "num_ctx": 512, "stop": ["a"]}, {"temperature": 0, "seed": 7}, SETTINGS
    )
    assert (sampling.temperature, sampling.seed, sampling.stop, sampling.top_k) == (0.0, 7, ("a",), 40)
    assert (launch.num_ctx, launch.num_ctx_auto) == (512, False)


def test_without_a_word_the_context_is_automatic():
    assert read_options({}, None, SETTINGS)[1].num_ctx == 4096
    assert read_options({}, None, replace(SETTINGS, context_length=9000))[1].num_ctx == 9000
    assert read_options({}, {"num_ctx": -3}, SETTINGS)[1].num_ctx == 4


TRAINED = 8192


def served(loaded: dict, asked: dict, *, slots: int = 1, settings: RuntimeSettings = SETTINGS, **how) -> bool:
    """Whether a worker that was started for `loaded` (options of a request) serves `asked`."""
    before, now = (read_options({}, options, settings, **how)[1] for options in (loaded, asked))
    return now.served_by(before.resolved(TRAINED, slots), TRAINED)


@pytest.mark.parametrize(
    ("loaded", "asked", "fits"),
    [
        ({"num_ctx": 512}, {"num_ctx": 512}, True),
        ({"num_ctx": 512}, {"num_ctx": 1024}, False),
        ({"num_ctx": 512}, {}, False),
        ({"num_ctx": 4096}, {}, True),  # the automatic one is as long
        ({"num_ctx": 2}, {"num_ctx": 4}, True),
        ({}, {}, True),
        ({"num_ctx": TRAINED}, {"num_ctx": 99999}, True),  # both more than the model was trained with
        ({"num_ctx": 99999}, {"num_ctx": TRAINED}, True),
        ({}, {"num_batch": 256}, False),
        ({}, {"num_batch": 512}, True),  # what the automatic one is
        ({"num_batch": 256}, {}, False),
        ({"num_batch": 512}, {}, True),
        ({"num_batch": 256}, {"num_batch": 256}, True),
        ({"num_ctx": TRAINED}, {"num_ctx": TRAINED, "num_batch": 512}, False),  # automatic: 1024 for so much context
        ({"num_ctx": TRAINED}, {"num_ctx": TRAINED, "num_batch": 1024}, True),
        ({}, {"num_batch": None}, True),
        ({"num_ctx": TRAINED}, {"num_ctx": TRAINED, "num_batch": None}, False),  # named: 512, and not automatic
        ({}, {"num_thread": 1}, False),
        ({"num_thread": 1}, {"num_thread": 1}, True),
        ({"num_gpu": 5}, {"num_gpu": -1}, True),
        ({"num_gpu": 5}, {}, True),
        ({}, {"num_gpu": 0}, False),
        ({}, {"temperature": 1.5, "num_keep": 9, "num_predict": 3, "stop": ["a"]}, True),
        ({}, {"use_mmap": False}, True),  # what it is on a CPU
        ({}, {"use_mmap": True}, False),
        ({"use_mmap": True}, {"use_mmap": True}, True),
        ({"use_mmap": True}, {}, False),
        ({"use_mmap": False}, {}, False),
        ({"main_gpu": 1}, {}, False),
        ({"main_gpu": 1}, {"main_gpu": 1}, True),
        ({}, {"draft_num_predict": 4}, False),
        ({}, {"draft_num_predict": 0}, True),
        ({"draft_num_predict": None}, {"draft_num_predict": 4}, True),
        ({}, {"an option of tomorrow": 1}, True),
    ],
)
def test_a_worker_serves_what_ollamas_runner_would(loaded: dict, asked: dict, fits: bool):
    assert served(loaded, asked) is fits


def test_a_context_set_by_the_environment_is_not_automatic():
    settings = replace(SETTINGS, context_length=2048)
    assert served({}, {"num_ctx": 2048}, settings=settings)
    assert not served({"num_ctx": 1024}, {}, settings=settings)


def test_the_automatic_batch_grows_with_the_context_of_all_slots():
    sizes = [read_options({}, {"num_ctx": 8192}, SETTINGS)[1].resolved(0, slots).num_batch for slots in (1, 4, 5)]
    assert sizes == [1024, 1024, 2048]


def test_an_embedding_models_batch_is_its_context_and_not_automatic():
    assert served({"num_ctx": 512}, {"num_ctx": 512, "num_batch": 512}, pools=True)
    assert not served({"num_ctx": 4096}, {"num_ctx": 4096, "num_batch": 512}, pools=True)


def test_another_shift_needs_another_worker():
    before, now = read_options({}, {}, SETTINGS)[1], read_options({}, {}, SETTINGS, shift=False)[1]
    assert not now.served_by(before.resolved(TRAINED, 1), TRAINED)


def test_the_context_is_shifted_unless_the_request_or_the_family_is_against_it():
    assert context_shift(None, {})
    assert not context_shift(False, {})
    assert not context_shift(None, {"model_family": "deepseek2"})
    assert not context_shift(None, {"model_family": "x", "model_families": ["x", "deepseek2"]})
    assert context_shift(True, {"model_family": "deepseek2"})


@pytest.mark.parametrize(("asked", "tokens"), [(5, 5), (0, 5120), (-1, 5120), (-2, 5120), (99999, 5120)])
def test_an_answer_always_has_an_end(asked: int, tokens: int):
    assert prediction_limit(asked, 512) == tokens


@dataclass
class Kind:
    """What the options of a worker depend on in a model."""

    capabilities: tuple[str, ...] = ("embedding",)
    pools: bool = True
    pools_last: bool = False
    config: dict[str, Json] = field(default_factory=dict)


CHAT = cast(LocalModel, Kind(("completion",), pools=False))
MEAN, LAST = cast(LocalModel, Kind()), cast(LocalModel, Kind(pools_last=True))


@pytest.mark.parametrize(
    ("asked", "batch"),
    [({}, 2048), ({"num_ctx": 300}, 300), ({"num_ctx": 0}, 2048), ({"num_ctx": 3}, 3), ({"num_batch": 64}, 64)],
)
def test_a_model_that_pools_has_a_batch_for_a_whole_input(asked: dict, batch: int):
    assert read_options({}, asked, SETTINGS, pools=True)[1].num_batch == batch
    assert asked_limits({}, asked, SETTINGS) == (asked.get("num_ctx", 4096), batch)


def test_its_worker_is_kept_until_the_context_or_the_batch_is_another_one():
    def launch(asked: dict) -> Launch:
        return read_options({}, asked, SETTINGS, pools=True)[1]

    loaded = launch({}).resolved(512, 1)
    assert launch({"num_ctx": 9999}).served_by(loaded, 512)  # both are cut to the model's own
    assert not launch({"num_ctx": 600}).served_by(loaded, 512)  # the batch differs
    assert not launch({"num_ctx": 300}).served_by(loaded, 512)


def test_a_whole_input_is_one_batch_unless_the_last_token_speaks_for_it():
    settings = replace(SETTINGS, parallel=4, physical_batch=128)
    _, launch = read_options({}, {}, settings, pools=True)
    assert batch_for(MEAN, launch, 512, settings) == 512
    assert batch_for(MEAN, launch, 8192, settings) == 2048
    assert batch_for(LAST, launch, 512, settings) == 128
    assert batch_for(CHAT, launch, 512, settings) == 128
    _, tiny = read_options({}, {"num_ctx": 1}, settings, pools=True)
    assert batch_for(MEAN, tiny, 4, settings) == 2


def test_embedding_models_and_some_architectures_have_one_slot():
    settings = replace(SETTINGS, parallel=4)
    next_family = cast(LocalModel, Kind(("completion",), pools=False, config={"model_family": "qwen3next"}))
    assert [slots_for(model, settings) for model in (CHAT, MEAN, LAST, next_family)] == [4, 1, 1, 1]
