"""Options of a request, what makes a reload, settings from the environment."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import pytest

from app.core.errors import SettingsError
from app.runtime.library import LocalModel
from app.runtime.options import Launch, asked_limits, batch_for, prediction_limit, read_options, slots_for
from app.runtime.settings import FIVE_MINUTES, RuntimeSettings, read_settings
from app.wire.go_duration import FOREVER

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


@pytest.mark.parametrize(
    ("loaded", "asked", "served"),
    [
        ({"num_ctx": 512}, {"num_ctx": 512}, True),
        ({"num_ctx": 512}, {"num_ctx": 1024}, False),
        ({"num_ctx": 512}, {}, False),
        ({}, {}, True),
        ({"num_ctx": 8192}, {"num_ctx": 99999}, True),  # both more than the model was trained with
        ({}, {"num_batch": 256}, False),
        ({"num_batch": 256}, {"num_batch": 256}, True),
        ({}, {"num_thread": 1}, False),
        ({"num_gpu": 5}, {"num_gpu": -1}, True),
        ({}, {"num_gpu": 0}, False),
        ({}, {"temperature": 1.5, "num_keep": 9}, True),
        ({"use_mmap": True}, {}, True),
        ({}, {"use_mmap": True}, False),
        ({"main_gpu": 1}, {}, False),
    ],
)
def test_a_worker_serves_what_ollamas_runner_would(loaded: dict, asked: dict, served: bool):
    before, now = read_options({}, loaded, SETTINGS)[1], read_options({}, asked, SETTINGS)[1]
    assert now.served_by(before, 8192) is served


def test_another_shift_needs_another_worker():
    before, now = read_options({}, {}, SETTINGS)[1], read_options({}, {}, SETTINGS, shift=False)[1]
    assert not now.served_by(before, 8192)


@pytest.mark.parametrize(("asked", "tokens"), [(5, 5), (0, 5120), (-1, 5120), (-2, 5120), (99999, 5120)])
def test_an_answer_always_has_an_end(asked: int, tokens: int):
    assert prediction_limit(asked, 512) == tokens


def test_the_settings_are_ollamas_and_the_store_of_the_command_line_wins(tmp_path: Path):
    environment = {
        "OLLAMA_MODELS": "/elsewhere", "OLLAMA_KEEP_ALIVE": "-1", "OLLAMA_NUM_PARALLEL": "4",
        "OLLAMA_MAX_QUEUE": "0", "OLLAMA_MAX_LOADED_MODELS": "0", "OLLAMA_CONTEXT_LENGTH": "2048",
        "OLLAMA_LOAD_TIMEOUT": "0", "OLLAMA_ORIGINS": "https://a.example,b://*", "OLLAMA_NOPRUNE": "1",
    }  # fmt: skip
    settings = read_settings(str(tmp_path), environment)
    assert settings.store == tmp_path
    assert read_settings(None, environment).store == Path("/elsewhere")
    assert (settings.keep_alive_ns, settings.parallel, settings.max_queue, settings.max_loaded) == (FOREVER, 4, 0, 3)
    assert (settings.default_context, settings.load_timeout_s, settings.no_prune) == (2048, float("inf"), True)
    assert settings.origins[:2] == ("https://a.example", "b://*")


@pytest.mark.parametrize(
    ("text", "nanoseconds"), [("", FIVE_MINUTES), ("300", 300 * 10**9), ("10m", 600 * 10**9), ("0", 0)]
)
def test_keep_alive_is_seconds_or_a_duration(text: str, nanoseconds: int):
    assert read_settings("s", {"OLLAMA_KEEP_ALIVE": text}).keep_alive_ns == nanoseconds


def test_every_bad_value_is_named_at_once():
    with pytest.raises(SettingsError) as caught:
        read_settings("s", {"OLLAMA_NUM_PARALLEL": "0", "OLLAMA_MAX_QUEUE": "x", "OLLAMA_KEEP_ALIVE": "5 minutes"})
    named = {problem.partition("=")[0] for problem in caught.value.problems}
    assert named == {"OLLAMA_NUM_PARALLEL", "OLLAMA_MAX_QUEUE", "OLLAMA_KEEP_ALIVE"}


@dataclass
class Kind:
    """What the options of a worker depend on in a model."""

    capabilities: tuple[str, ...] = ("embedding",)
    pools: bool = True
    pools_last: bool = False


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

    assert launch({"num_ctx": 9999}).served_by(launch({}), 512)  # both are cut to the model's own
    assert not launch({"num_ctx": 600}).served_by(launch({}), 512)  # the batch differs
    assert not launch({"num_ctx": 300}).served_by(launch({}), 512)


def test_a_whole_input_is_one_batch_unless_the_last_token_speaks_for_it():
    settings = replace(SETTINGS, parallel=4, physical_batch=128)
    _, launch = read_options({}, {}, settings, pools=True)
    assert batch_for(MEAN, launch, 512, settings) == 512
    assert batch_for(MEAN, launch, 8192, settings) == 2048
    assert batch_for(LAST, launch, 512, settings) == 128
    assert batch_for(CHAT, launch, 512, settings) == 128
    _, tiny = read_options({}, {"num_ctx": 1}, settings, pools=True)
    assert batch_for(MEAN, tiny, 4, settings) == 2


def test_embedding_models_have_one_slot():
    settings = replace(SETTINGS, parallel=4)
    assert [slots_for(model, settings) for model in (CHAT, MEAN, LAST)] == [4, 1, 1]
