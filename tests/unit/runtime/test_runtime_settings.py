"""Settings from the environment: Ollama's as Ollama reads them, our own strictly."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from app.core.errors import SettingsError
from app.runtime.settings import DEFAULT_MODELS, FIVE_MINUTES, RuntimeSettings, read_settings
from app.wire.go_duration import FOREVER

SECOND = 10**9


def read(**environment: str) -> RuntimeSettings:
    return read_settings("s", environment)


def test_the_settings_are_ollamas_and_the_store_of_the_command_line_wins(tmp_path: Path):
    environment = {
        "OLLAMA_MODELS": "/elsewhere", "OLLAMA_KEEP_ALIVE": "-1", "OLLAMA_NUM_PARALLEL": "4",
        "OLLAMA_MAX_QUEUE": "0", "OLLAMA_MAX_LOADED_MODELS": "0", "OLLAMA_CONTEXT_LENGTH": "2048",
        "OLLAMA_LOAD_TIMEOUT": "0", "OLLAMA_ORIGINS": "https://a.example,b://*", "OLLAMA_NOPRUNE": "1",
        "OLLAMA_KV_CACHE_TYPE": "Q8_0", "OLLAMA_FLASH_ATTENTION": "false",
    }  # fmt: skip
    settings = read_settings(str(tmp_path), environment)
    assert settings.store == tmp_path
    assert read_settings(None, environment).store == Path("/elsewhere")
    assert (settings.keep_alive_ns, settings.parallel, settings.max_queue, settings.max_loaded) == (FOREVER, 4, 0, 3)
    assert (settings.default_context, settings.load_timeout_s, settings.no_prune) == (2048, float("inf"), True)
    assert (settings.kv_type, settings.flash) == ("q8_0", False)
    assert settings.origins[:2] == ("https://a.example", "b://*")


def test_nothing_set_is_ollamas_default():
    assert read() == RuntimeSettings(Path("s"))
    assert read_settings(None, {}).store == Path.home() / ".ollama" / "models"


@pytest.mark.parametrize("text", [' "4" ', "'4'", "4", " 4", "\"'4"])
def test_quotes_and_spaces_around_a_value_are_not_part_of_it(text: str):
    assert read(OLLAMA_NUM_PARALLEL=text).parallel == 4
    assert read(OLLAMA_MODELS=text).store == Path("s")
    assert read_settings(None, {"OLLAMA_MODELS": text}).store == Path("4")


@pytest.mark.parametrize("text", ["many", "-1", "+4", "1_000", "4.0", "0x10", "٤", str(2**64), "4 4"])
def test_a_number_that_go_cannot_read_is_warned_about_and_counts_as_not_set(text: str, caplog):
    with caplog.at_level(logging.WARNING):
        settings = read(OLLAMA_NUM_PARALLEL=text, OLLAMA_MAX_QUEUE=text, OLLAMA_MAX_LOADED_MODELS=text)
    assert (settings.parallel, settings.max_queue, settings.max_loaded) == (1, 512, DEFAULT_MODELS)
    assert [record.message.partition("=")[0] for record in caplog.records] == [
        "OLLAMA_NUM_PARALLEL", "OLLAMA_MAX_LOADED_MODELS", "OLLAMA_MAX_QUEUE",
    ]  # fmt: skip


def test_no_slots_are_one_slot():
    assert read(OLLAMA_NUM_PARALLEL="0").parallel == 1


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("", FIVE_MINUTES), ("300", 300 * SECOND), ("10m", 600 * SECOND), ("1h30m", 5400 * SECOND), ("0", 0), ("0s", 0),
        ("-1", FOREVER), ("-5m", FOREVER), ('"90s"', 90 * SECOND), ("+5", 5 * SECOND), ("300ms", 3 * SECOND // 10),
        ("5 minutes", FIVE_MINUTES), ("soon", FIVE_MINUTES), ("1.5", FIVE_MINUTES), ("9" * 19, FOREVER),
    ],
)  # fmt: skip
def test_keep_alive_is_seconds_or_a_duration_and_below_zero_for_ever(text: str, nanoseconds: int):
    assert read(OLLAMA_KEEP_ALIVE=text).keep_alive_ns == nanoseconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("", 300.0), ("2", 2.0), ("1m", 60.0), ("0", float("inf")), ("-3", float("inf")), ("x", 300.0)],
)
def test_a_load_may_be_silent_for_so_long(text: str, seconds: float):
    assert read(OLLAMA_LOAD_TIMEOUT=text).load_timeout_s == seconds


@pytest.mark.parametrize(
    ("text", "flash"), [("", None), ("1", True), ("T", True), ("0", False), ("FALSE", False), ("off", True)]
)
def test_a_flag_that_is_neither_yes_nor_no_is_a_yes(text: str, flash: bool | None):
    assert read(OLLAMA_FLASH_ATTENTION=text).flash is flash
    assert read(OLLAMA_NOPRUNE=text).no_prune is bool(flash)


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [
        ("", 0),
        ("1024", 1024),
        ("6GiB", 6 << 30),
        ("6 GB", 6 * 10**9),
        ("512m", 512 << 20),
        ("1k", 1024),
        ("1.5gib", 3 << 29),
    ],
)
def test_the_memory_limit_is_a_size(text: str, nbytes: int):
    assert read(LOUPE_RUNTIME_MEMORY=text).memory == nbytes


def test_every_bad_value_of_our_own_is_named_at_once_with_what_is_allowed():
    bad = {
        "LOUPE_RUNTIME_MEMORY": "lots", "LOUPE_RUNTIME_BATCH": "0", "LOUPE_RUNTIME_CRASHES": "-1",
        "LOUPE_RUNTIME_HANG_SECONDS": "soon", "LOUPE_RUNTIME_DRAIN_SECONDS": "1.5", "OLLAMA_KV_CACHE_TYPE": "q3_K",
    }  # fmt: skip
    with pytest.raises(SettingsError) as caught:
        read(**bad)
    assert {problem.partition("=")[0] for problem in caught.value.problems} == set(bad)
    assert all("allowed" in problem for problem in caught.value.problems)


@pytest.mark.parametrize("text", ["0", "-5", "5 apples", "GiB", "1e9", "0.1", "6GiB6"])
def test_a_memory_limit_that_is_no_size_is_refused(text: str):
    with pytest.raises(SettingsError):
        read(LOUPE_RUNTIME_MEMORY=text)
