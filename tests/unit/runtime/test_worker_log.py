"""What is read from a worker's log."""

from __future__ import annotations

import pytest

from app.runtime.worker_log import WorkerLog, advice_for

MIB = 1 << 20
STARTER = (
    b"0.00.1 I load_tensors:          CPU model buffer size =   136.40 MiB",
    b"0.00.2 I llama_context:        CPU  output buffer size =     0.19 MiB",
    b"0.00.3 I llama_kv_cache:        CPU KV buffer size =    90.00 MiB",
    b"0.00.4 I sched_reserve:        CPU compute buffer size =    18.64 MiB",
)


def fed(*lines: bytes) -> WorkerLog:
    log = WorkerLog()
    for line in lines:
        log.feed(line)
    return log


def test_memory_is_the_sum_of_the_buffers() -> None:
    assert fed().memory == 0
    assert fed(*STARTER).memory == pytest.approx((136.40 + 0.19 + 90 + 18.64) * MIB, abs=8)


def test_the_two_caches_of_a_windowed_model_add_up_and_a_buffer_measured_anew_replaces_itself() -> None:
    windowed = b"0.00.3 I llama_kv_cache:        CPU KV buffer size =   174.00 MiB"
    again = b"0.00.5 I sched_reserve:        CPU compute buffer size =    20.00 MiB"
    assert fed(*STARTER, windowed, again).memory == pytest.approx((136.40 + 0.19 + 264 + 20) * MIB, abs=8)


def test_the_reason_is_the_first_error_and_an_assertion_goes_before_it() -> None:
    failed = (b"0.00.1 E llama_model_load: error loading model: done_getting_tensors", b"0.00.2 E srv  load: failed")
    assert "done_getting_tensors" in fed(*failed).reason
    aborted = fed(*failed, b"/build/ggml.c:12: GGML_ASSERT(n > 0) failed")
    assert aborted.reason == "GGML_ASSERT(n > 0) failed"


def test_the_log_is_bounded_and_counts_what_it_saw() -> None:
    log = fed(*(b"x" * 5000 for _ in range(1000)))
    assert (len(log.tail), max(map(len, log.tail)), log.lines_seen) == (400, 2000, 1000)


def test_after_the_load_only_what_ends_the_process_is_a_reason() -> None:
    log = fed(b"0.00.1 E llama_model_load: something harmless")
    log.loaded()
    log.feed(b'0.09.1 E srv    operator(): got exception: {"error":{"code":400}}')
    assert log.reason == ""
    log.feed(b"/build/src/llama-kv-cache.cpp:99: failed to find a slot")
    assert log.reason == "failed to find a slot"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"terminate called after throwing an instance of 'std::bad_alloc'",) * 2,
        (b"xllamacpp.SomeError: it broke",) * 2,
        (b"ImportError: libgomp.so.1: cannot open shared object file",) * 2,
        (b"/a/b/ggml.c:7: GGML_ASSERT(false) failed", b"GGML_ASSERT(false) failed"),
    ],
)
def test_every_kind_of_last_word_is_a_reason(line: bytes, reason: bytes) -> None:
    assert fed(b"0.00.1 I all is well", line).reason == reason.decode()


@pytest.mark.parametrize(
    ("reason", "word"),
    [
        ("ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate buffer of size 99", "num_ctx"),
        ("terminate called after throwing an instance of 'std::bad_alloc'", "num_ctx"),
        ("signal: SIGKILL", "num_ctx"),
        ("quantized V cache was requested, but this requires Flash Attention", "OLLAMA_FLASH_ATTENTION"),
        ("error loading model: unknown model architecture: 'next'", "newer"),
        ("timed out waiting for llama-server to start - it said nothing", "OLLAMA_LOAD_TIMEOUT"),
        ("ModuleNotFoundError: No module named 'xllamacpp'", "install"),
        ("GGML_ASSERT(n > 0) failed", "pull or create it again"),
    ],
)
def test_a_failed_load_says_what_to_do(reason: str, word: str) -> None:
    assert word in advice_for(reason)
